"""What both ends of the comparison know of WebSockets: RFC 6455, as far as one message of a fixed length goes."""

import base64
import hashlib

PAYLOAD = bytes(range(128))
MESSAGE = b"\x82\xfe\x00\x80" + bytes(4) + PAYLOAD
"""From a client: binary, masked by zeros, which is a mask like any other and leaves the payload readable."""
ECHO = b"\x82\x7e\x00\x80" + PAYLOAD
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
HEAD_END = b"\r\n\r\n"


def answer(head: bytes) -> bytes:
    """The 101 to a request."""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    cased = head[head.lower().index(b"sec-websocket-key: ") + 19 :].split(b"\r\n", 1)[0]
    assert fields[b"upgrade"] == b"websocket", head
    accept = base64.b64encode(hashlib.sha1(cased + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
        + accept
        + HEAD_END
    )
