"""An application server that takes one request a connection, by uwsgi or by HTTP: `once.py PORT`.

No uwsgi server is part of this comparison's packages, and none is needed: what it costs is nobody's figure.
"""

import socket
import sys
from contextlib import suppress

BACKLOG = 4096
RECEIVE_BYTES = 65_536
PATIENCE_SECS = 5.0
BODY = (
    b'{"id":4711,"name":"widget","tags":["a","b","c"],"description":"An answer of about 180 bytes, as a small JSON '
    b'API gives them all day: one object, a few fields, no more than that."}'
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
PACKET_HEAD = 4


def main() -> None:
    """Serves one connection after the other: each is there with its request or will be at once."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=BACKLOG) as listener:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(PATIENCE_SECS)
                if _read(connection):
                    connection.sendall(ANSWER)


def _read(connection: socket.socket) -> bool:
    """Whether a whole request came; none here has a body."""
    came = b""
    while not _is_whole(came):
        more = connection.recv(RECEIVE_BYTES)
        if not more:
            return False
        came += more
    return True


def _is_whole(came: bytes) -> bool:
    if came[:1] != b"\0":
        return came.endswith(b"\r\n\r\n")
    return len(came) >= PACKET_HEAD and len(came) >= PACKET_HEAD + int.from_bytes(came[1:3], "little")


if __name__ == "__main__":
    main()
