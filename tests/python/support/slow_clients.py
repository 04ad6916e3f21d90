"""Clients that send or read so slowly that a server which waits for each of them waits for ever."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

PACE_SECS = 0.2
"""How long each of them does nothing, before it sends or reads a little."""
RECEIVE_BYTES = 4096
"""The kernel is to keep little for a client that reads slowly."""
LAST_SECS = 60


@dataclass(frozen=True)
class Place:
    """Where a server is, and how it is spoken to."""

    port: int
    host: str
    trust: ssl.SSLContext | None = None
    """There for TLS."""
    fields: str = ""
    """More lines of each request's head."""


@dataclass
class SlowClients:
    """Half of them upload, half of them download, from `start` on; none of them ends before `finish` or `stop`."""

    place: Place
    count: int
    upload_path: str
    download_path: str
    download_bytes: int
    upload_bytes: int = 200_000
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop, init=False)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _tasks: list[asyncio.Task[str]] = field(default_factory=list, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """Connects all of them, in a thread of their own."""
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow clients")
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(LAST_SECS)

    def under_way(self) -> int:
        """How many have neither ended nor failed."""
        return sum(not task.done() for task in self._tasks)

    def finish(self) -> list[str]:
        """Lets all of them go on as fast as they can; what each of them says of its answer, "" if it was right."""
        self._loop.call_soon_threadsafe(self._hurry.set)
        return asyncio.run_coroutine_threadsafe(self._ends(), self._loop).result(LAST_SECS)

    def stop(self) -> None:
        """Ends them whatever they do."""
        if self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result(LAST_SECS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(LAST_SECS)
            self._thread = None

    async def _begin(self) -> None:
        for number in range(self.count):
            play = self._upload if number % 2 else self._download
            self._tasks.append(asyncio.create_task(self._played(play)))

    async def _ends(self) -> list[str]:
        return list(await asyncio.wait_for(asyncio.gather(*self._tasks), LAST_SECS))

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _played(self, play: Callable[..., object]) -> str:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        plain.setblocking(False)
        writer = None
        try:
            await self._loop.sock_connect(plain, ("127.0.0.1", self.place.port))
            name = self.place.host.rsplit(":", 1)[0] if self.place.trust else None
            reader, writer = await asyncio.open_connection(
                sock=plain, ssl=self.place.trust, server_hostname=name, limit=RECEIVE_BYTES
            )
            said: str = await play(reader, writer)  # type: ignore[misc]
        except (OSError, EOFError, asyncio.IncompleteReadError) as error:
            said = repr(error)
        finally:
            if writer is not None:
                writer.transport.abort()
            plain.close()
        return said

    def _head(self, method: str, path: str, more: str = "") -> bytes:
        place = self.place
        return f"{method} {path} HTTP/1.1\r\nHost: {place.host}\r\nConnection: close\r\n{place.fields}{more}\r\n".encode()

    async def _upload(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Sends most of a body at once, as its kernel would, and then a byte at a time."""
        left = self.upload_bytes // 4
        writer.write(self._head("POST", self.upload_path, f"Content-Length: {self.upload_bytes}\r\n"))
        writer.write(b"x" * (self.upload_bytes - left))
        while not self._hurry.is_set() and left > 1:
            await self._pause()
            writer.write(b"x")
            left -= 1
        writer.write(b"x" * left)
        answer = await reader.read(RECEIVE_BYTES)
        return "" if answer.startswith(b"HTTP/1.1 200 ") else repr(answer[:200])

    async def _download(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Reads the head, and then a few bytes at a time."""
        writer.write(self._head("GET", self.download_path))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            return repr(head[:200])
        left = self.download_bytes
        while left > 0:
            piece = await reader.read(100 if not self._hurry.is_set() else 1 << 20)
            if not piece:
                return f"{left} bytes did not come"
            left -= len(piece)
            if not self._hurry.is_set():
                await self._pause()
        return ""

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._hurry.wait(), PACE_SECS)
        except TimeoutError:
            return
