"""More requests than a client library could send: raw HTTP/1.1 over TLS, many on the way at once."""

import itertools
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator

from support.gateway import CLIENT_ADDRESS, GatewayProcess

AT_ONCE = 50
"""Requests on the way on each connection."""
STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)


def flood(gateway: GatewayProcess, path: str, tokens: Iterable[str], connections: int = 4) -> Counter[int]:
    """Sends a request with each token, and counts the statuses of the answers."""
    heads = (
        f"GET {path} HTTP/1.1\r\nHost: {gateway.host}\r\nAuthorization: Bearer {token}\r\n\r\n" for token in tokens
    )
    batches, lock, counted = _batches(heads), threading.Lock(), Counter[int]()

    def send() -> None:
        context = gateway.authority.trust()
        with (
            socket.create_connection(("127.0.0.1", gateway.port), 30, (CLIENT_ADDRESS, 0)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            while True:
                with lock:
                    batch = next(batches, None)
                if batch is None:
                    return
                secured.sendall("".join(batch).encode())
                statuses = _answers(secured, len(batch))
                with lock:
                    counted.update(statuses)

    threads = [threading.Thread(target=send, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counted


def _batches(heads: Iterator[str]) -> Iterator[tuple[str, ...]]:
    while batch := tuple(itertools.islice(heads, AT_ONCE)):
        yield batch


def _answers(secured: socket.socket, count: int) -> list[int]:
    """The statuses of the next answers; the last one's body ends with the line that ends a problem."""
    read = b""
    while len(found := STATUS.findall(read)) < count or not read.endswith(b"}\n"):
        more = secured.recv(65536)
        assert more, f"the connection was closed after {len(found)} of {count} answers: {read[-500:]!r}"
        read += more
    return [int(status) for status in found]
