"""What the servers are asked to do: every row of the table."""

from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus


class Need(Enum):
    """What a server must be able to do to take part."""

    TOKEN = "checks a bearer token and proxies"
    PROXY = "proxies, asking for no token"
    FILES = "serves files over TLS"
    FILES_HTTP = "serves files over plain HTTP"
    ONCE = "proxies by uwsgi and by HTTP, a connection to the upstream for each request"


class Client(Enum):
    """What makes the load."""

    WRK = "wrk, HTTP/1.1"
    H2LOAD = "h2load, HTTP/2"
    IDLE = "connections that stay open after one request"


@dataclass(frozen=True)
class Work:
    """One row: requests of one kind, and how many connections make them."""

    name: str
    need: Need
    path: str
    connections: int
    about: str
    client: Client = Client.WRK
    tokens: str | None = None
    """The token file; `None` sends no token."""
    token_count: int = 0
    method: str = "GET"
    body_bytes: int = 0
    close: bool = False
    """Whether each request has a connection, and so a handshake, of its own."""
    expected: HTTPStatus = HTTPStatus.OK
    warm_secs: int = 1
    unguarded: str | None = None
    """The work that is the same but for the token."""


API, PUBLIC, UWSGI, ONCE = "/api/items", "/public/items", "/uwsgi/items", "/once/items"
STREAMS = 16
"""Requests at once on one HTTP/2 connection."""
IDLE_CONNECTIONS = 2000


def _static(size: str, file: str, connections: int) -> tuple[Work, Work]:
    path, about = f"/static/{file}", f"a file of {size[:-1]} {size[-1].upper()}iB"
    return (
        Work(f"static-{size}", Need.FILES, path, connections, f"{about}, TLS"),
        Work(f"static-{size}-http", Need.FILES_HTTP, path, connections, f"{about}, plain HTTP"),
    )


_ALL = (
    Work("jwt-hot", Need.TOKEN, API, 64, "64 users' RS256 tokens", tokens="rs256", token_count=64, unguarded="plain"),
    Work(
        "jwt-cold",
        Need.TOKEN,
        API,
        64,
        "2,000 users' RS256 tokens",
        tokens="rs256",
        token_count=2000,
        unguarded="plain",
    ),
    Work(
        "jwt-es-wide",
        Need.TOKEN,
        API,
        64,
        "20,000 users' ES256 tokens",
        tokens="es256",
        token_count=20_000,
        warm_secs=4,
        unguarded="plain",
    ),
    Work(
        "jwt-reject",
        Need.TOKEN,
        API,
        64,
        "2,000 forged RS256 signatures, each refused",
        tokens="forged",
        token_count=2000,
        expected=HTTPStatus.UNAUTHORIZED,
    ),
    Work("plain", Need.PROXY, PUBLIC, 64, "proxied, no token asked for"),
    Work("uwsgi", Need.ONCE, UWSGI, 64, "proxied by uwsgi: one request a connection to the upstream"),
    Work("once", Need.ONCE, ONCE, 64, "the same by HTTP"),
    Work(
        "upload-64k",
        Need.TOKEN,
        API,
        32,
        "POST of 64 KiB with a token",
        tokens="rs256",
        token_count=64,
        method="POST",
        body_bytes=65_536,
    ),
    *_static("1k", "1k.css", 64),
    *_static("10k", "10k.js", 64),
    *_static("100k", "100k.png", 32),
    *_static("10m", "10m.bin", 8),
    Work("handshake", Need.PROXY, PUBLIC, 16, "a full TLS 1.3 handshake for each proxied request", close=True),
    Work(
        "h2-jwt",
        Need.TOKEN,
        API,
        16,
        f"HTTP/2, {STREAMS} streams a connection, one RS256 token",
        client=Client.H2LOAD,
        tokens="rs256",
        token_count=1,
        unguarded="h2-plain",
    ),
    Work("h2-plain", Need.PROXY, PUBLIC, 16, "the same without a token", client=Client.H2LOAD),
    Work(
        "idle",
        Need.PROXY,
        PUBLIC,
        IDLE_CONNECTIONS,
        "bytes of memory for an idle keep-alive TLS connection",
        client=Client.IDLE,
    ),
)

WORKS = {work.name: work for work in _ALL}
CHECKED = ("jwt-hot", "jwt-reject", "plain", "static-1k", "static-1k-http", "h2-plain", "idle")
"""What `--check` does: each kind of client and of need once."""
