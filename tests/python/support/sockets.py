"""WebSockets through the gateway, by the `websockets` library."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.connection import Connection
from websockets.typing import Subprotocol

from support.appserver import AppServer
from support.gateway import CLIENT_ADDRESS, GatewayProcess

PATIENCE_SECS = 20
"""How long anything may take that is to come at once."""


def open_socket(
    gateway: GatewayProcess,
    path: str,
    headers: Mapping[str, str] | None = None,
    protocols: Sequence[str] | None = None,
    **options: Any,
) -> ClientConnection:
    """Opens one from `CLIENT_ADDRESS`, over HTTP/1.1 and TLS. It sends no pings by itself."""
    plain = socket.create_connection(("127.0.0.1", gateway.port), PATIENCE_SECS, (CLIENT_ADDRESS, 0))
    opened: ClientConnection = connect(
        f"wss://{gateway.host}{path}",
        sock=plain,
        ssl=gateway.authority.trust(),
        server_hostname="localhost",
        additional_headers=headers,
        subprotocols=[Subprotocol(name) for name in protocols] if protocols else None,
        **{"proxy": None, "ping_interval": None, "open_timeout": PATIENCE_SECS, **options},
    )
    return opened


def open_around(server: AppServer, path: str, **options: Any) -> ClientConnection:
    """Opens one to the application server itself."""
    if server.port is None:
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(str(server.socket))
    else:
        plain = socket.create_connection(("127.0.0.1", server.port))
    settings = {"proxy": None, "ping_interval": None, **options}
    opened: ClientConnection = connect(f"ws://localhost{path}", sock=plain, **settings)
    return opened


def refusal(
    gateway: GatewayProcess, path: str, headers: Mapping[str, str] | None = None, protocols: Sequence[str] | None = None
) -> Response:
    """The answer that refuses the handshake."""
    with pytest.raises(InvalidStatus) as refused:
        open_socket(gateway, path, headers, protocols).close()
    return refused.value.response


def extensions(opened: Connection) -> str | None:
    """What both ends have agreed on."""
    assert opened.response is not None
    return opened.response.headers.get("Sec-WebSocket-Extensions")


def end_of(opened: Connection, within: float = PATIENCE_SECS) -> tuple[int, str]:
    """The code and the reason with which the other side closes, whatever comes before."""
    while True:
        try:
            opened.recv(timeout=within)
        except ConnectionClosed as closed:
            return (1006, "") if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)
