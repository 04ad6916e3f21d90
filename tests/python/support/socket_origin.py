"""A WebSocket server of the `websockets` library, both of whose ends a story holds in its hands."""

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.sync.client import ClientConnection
from websockets.sync.server import Server, ServerConnection, serve

from support.sockets import PATIENCE_SECS, open_over


@dataclass
class SocketOrigin:
    """Accepts every connection and leaves what is said on it to the story."""

    options: dict[str, Any] = field(default_factory=dict)
    _accepted: "queue.Queue[ServerConnection]" = field(default_factory=queue.Queue, init=False)
    _over: threading.Event = field(default_factory=threading.Event, init=False)
    _server: Server = field(init=False)

    def __post_init__(self) -> None:
        options = {"ping_interval": None, "max_size": None, **self.options}
        self._server = serve(self._hand_over, "127.0.0.1", 0, **options)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        """The address in the gateway's configuration language."""
        return f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def stop(self) -> None:
        """Ends it, and the connections that are still open."""
        self._over.set()
        self._server.shutdown()

    @contextmanager
    def pair(self, port: int, **options: Any) -> Iterator[tuple[ClientConnection, ServerConnection]]:
        """Both ends of a new connection through the gateway, to whose plain listener the client connects.

        Without TLS: library and story use the connection at the same time, which sockets of TLS do not allow.
        """
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE_SECS)
        with open_over(plain, "ws://localhost/public/ws/", max_size=None, **options) as client:
            yield client, self.accepted()

    def accepted(self) -> ServerConnection:
        """The server's end of the next connection."""
        return self._accepted.get(timeout=PATIENCE_SECS)

    def _hand_over(self, accepted: ServerConnection) -> None:
        """The library closes the connection when this returns."""
        self._accepted.put(accepted)
        while not self._over.is_set() and accepted.protocol.state.name != "CLOSED":
            self._over.wait(0.05)
