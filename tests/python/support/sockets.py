"""WebSockets through the gateway, by the `websockets` library."""

import socket
import ssl
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
    """Opens one from `CLIENT_ADDRESS`, over HTTP/1.1 and TLS."""
    plain = socket.create_connection(("127.0.0.1", gateway.port), PATIENCE_SECS, (CLIENT_ADDRESS, 0))
    trust = gateway.authority.trust()
    # The library reads in one thread and writes in another, which goes wrong while the tickets of TLS 1.3 come in.
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    secured = {"ssl": trust, "server_hostname": "localhost"}
    offered = [Subprotocol(name) for name in protocols] if protocols else None
    url = f"wss://{gateway.host}{path}"
    return open_over(plain, url, additional_headers=headers, subprotocols=offered, **secured, **options)


def open_around(server: AppServer, path: str, **options: Any) -> ClientConnection:
    """Opens one to the application server itself."""
    if server.port is None:
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(str(server.socket))
    else:
        plain = socket.create_connection(("127.0.0.1", server.port))
    return open_over(plain, f"ws://localhost{path}", **options)


def open_over(plain: socket.socket, url: str, **options: Any) -> ClientConnection:
    """Opens one over a connection that is there already. It sends no pings by itself."""
    settings = {"legacy": True, "proxy": None, "ping_interval": None, "open_timeout": PATIENCE_SECS, **options}
    opened: ClientConnection = connect(url, sock=plain, **settings)
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
