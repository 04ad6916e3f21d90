"""The clients of the comparison: each sends a message, waits for its echo and sends the next."""

import select
import socket
import time

from processes import Failed
from wire import ECHO, HEAD_END, MESSAGE, REQUEST

PATIENCE_SECS = 10.0


def open_all(port: int, count: int) -> list[socket.socket]:
    """Opens WebSockets, one after the other."""
    return [_open(port) for _ in range(count)]


def echo_once(sockets: list[socket.socket]) -> None:
    """One message on each, checked."""
    for one in sockets:
        one.sendall(MESSAGE)
        if _exactly(one, len(ECHO)) != ECHO:
            raise Failed("an echo is not what was said")


def echo(sockets: list[socket.socket], secs: float) -> int:
    """Echoes in that time, on all sockets at once."""
    echo_once(sockets)
    by_number = {one.fileno(): one for one in sockets}
    missing = dict.fromkeys(by_number, len(ECHO))
    poll = select.epoll()
    for number, one in by_number.items():
        poll.register(number, select.EPOLLIN)
        one.sendall(MESSAGE)
    echoes, end = 0, time.monotonic() + secs
    while time.monotonic() < end:
        ready = poll.poll(PATIENCE_SECS)
        if not ready:
            raise Failed("no echo came")
        for number, _ in ready:
            left = missing[number] - len(by_number[number].recv(len(ECHO)))
            if left == 0:
                echoes += 1
                by_number[number].sendall(MESSAGE)
            missing[number] = left or len(ECHO)
    for number, one in by_number.items():  # what is still on its way
        _exactly(one, missing[number])
    poll.close()
    return echoes


def _open(port: int) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECS)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.sendall(REQUEST)
    head = b""
    while HEAD_END not in head:
        more = opened.recv(4096)
        if not more:
            raise Failed(f"no WebSocket: {head!r}")
        head += more
    if not head.startswith(b"HTTP/1.1 101 "):
        raise Failed(f"no WebSocket: {head!r}")
    return opened


def _exactly(one: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = one.recv(length - len(data))
        if not more:
            raise Failed("a WebSocket ended")
        data += more
    return data
