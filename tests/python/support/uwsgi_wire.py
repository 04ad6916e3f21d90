"""The client's side of the uwsgi protocol, to speak to a server around the gateway.

A request is a packet of CGI variables and then the body; the answer is plain HTTP, and ends with the connection.
https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html
"""

import http.client
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote_to_bytes

import httpx

PIECE_BYTES = 64 * 1024
UNPREFIXED = ("CONTENT_TYPE", "CONTENT_LENGTH")


def packet(variables: Mapping[str, str | bytes]) -> bytes:
    """One packet for a Python application (modifier 0)."""
    parts = []
    for name, value in variables.items():
        raw = value if isinstance(value, bytes) else value.encode("latin-1")
        parts.append(struct.pack("<H", len(name)) + name.encode() + struct.pack("<H", len(raw)) + raw)
    whole = b"".join(parts)
    return struct.pack("<BHB", 0, len(whole), 0) + whole


def variables_of(request: httpx.Request) -> dict[str, str | bytes]:
    """The CGI variables (RFC 3875) of a request that came over https."""
    url = request.url
    path, _, query = url.raw_path.partition(b"?")
    variables: dict[str, str | bytes] = {
        "REQUEST_METHOD": request.method,
        "REQUEST_URI": url.raw_path,
        "PATH_INFO": unquote_to_bytes(path),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": request.headers["Host"].partition(":")[0],
        "SERVER_PORT": "443",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTPS": "on",
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        variables[key if key in UNPREFIXED else f"HTTP_{key}"] = value
    return variables


class UwsgiTransport(httpx.BaseTransport):
    """Each request of an `httpx.Client` on a connection of its own."""

    def __init__(self, place: tuple[str, int] | Path) -> None:
        self._place = place

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends the whole request, then reads the answer as it arrives."""
        body = request.read()
        if body:
            request.headers["Content-Length"] = str(len(body))
        request.headers.pop("Transfer-Encoding", None)
        connection = self._connect()
        try:
            connection.sendall(packet(variables_of(request)) + body)
            answer = http.client.HTTPResponse(connection, method=request.method)
            answer.begin()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise httpx.ReadError(str(error), request=request) from error
        return httpx.Response(answer.status, headers=answer.getheaders(), stream=_Body(connection, answer))

    def _connect(self) -> socket.socket:
        if isinstance(self._place, tuple):
            return socket.create_connection(self._place, timeout=20)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(str(self._place))
        return connection


class _Body(httpx.SyncByteStream):
    def __init__(self, connection: socket.socket, answer: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._answer.read1(PIECE_BYTES):
            yield piece

    def close(self) -> None:
        self._answer.close()
        self._connection.close()
