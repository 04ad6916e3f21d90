"""A client of HTTP/3 by aioquic, a library that shares nothing with the gateway's."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset

from support.gateway import Gateway

TIMEOUT_SECS = 30
PIECE = 64 * 1024


@dataclass
class Answer:
    """One response, as far as it has come."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    broken: str | None = None


class Http3(QuicConnectionProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._http = H3Connection(self._quic)
        self._answers: dict[int, Answer] = {}
        self._news = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()
        self.terminated: int | None = None
        """The number with which the gateway closed the connection."""

    def send(self, gateway: Gateway, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Sends a request and returns the place where its answer will appear."""
        stream = self._quic.get_next_available_stream_id()
        self._answers[stream] = answer = Answer()
        head = {":method": method, ":scheme": "https", ":authority": gateway.host, ":path": path}
        fields = [(name.lower().encode(), value.encode()) for name, value in {**head, **headers}.items()]
        self._http.send_headers(stream, fields, end_stream=not body)
        for at in range(0, len(body), PIECE):
            self._http.send_data(stream, body[at : at + PIECE], end_stream=at + PIECE >= len(body))
        self.transmit()
        return answer

    async def until(self, answer: Answer, length: int | None = None) -> Answer:
        """Waits for the end of an answer, or for its first bytes."""

        def enough() -> bool:
            return answer.ended or (length is not None and len(answer.body) >= length)

        async with asyncio.timeout(TIMEOUT_SECS), self._news:
            await self._news.wait_for(lambda: enough() or answer.broken is not None)
        assert answer.broken is None, answer.broken
        return answer

    def quic_event_received(self, event: QuicEvent) -> None:
        """What the library calls with all that happens."""
        if isinstance(event, ConnectionTerminated):
            self.terminated = event.error_code
            for answer in self._answers.values():
                if not answer.ended:
                    answer.broken = f"the connection ended: {event}"
        elif isinstance(event, StreamReset) and event.stream_id in self._answers:
            self._answers[event.stream_id].broken = f"the stream was reset: {event}"
        for told in self._http.handle_event(event):
            self._take(told)
        telling = asyncio.ensure_future(self._tell())
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    def _take(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            answer = self._answers[event.stream_id]
            fields = {name.decode(): value.decode() for name, value in event.headers}
            answer.status = int(fields.pop(":status"))
            answer.headers = fields
            answer.ended = event.stream_ended
        elif isinstance(event, DataReceived):
            answer = self._answers[event.stream_id]
            answer.body += event.data
            answer.ended = event.stream_ended

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


class Client:
    """One connection to one gateway."""

    def __init__(self, gateway: Gateway, connection: Http3) -> None:
        self._gateway = gateway
        self.connection = connection

    def send(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Sends a request and returns the place where its answer will appear."""
        return self.connection.send(self._gateway, method, path, headers or {}, body)

    async def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """One request and its whole answer."""
        return await self.connection.until(self.send(method, path, headers, body))


@asynccontextmanager
async def http3(gateway: Gateway) -> AsyncIterator[Client]:
    """A connection to the gateway by a client that trusts the tests' authority alone."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
    configuration.load_verify_locations(cafile=str(gateway.authority.path))
    async with connect("127.0.0.1", gateway.port, configuration=configuration, create_protocol=Http3) as connection:
        assert isinstance(connection, Http3)
        yield Client(gateway, connection)
