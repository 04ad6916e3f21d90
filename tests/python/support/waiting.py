"""Waiting for what will happen, up to a deadline, looking often; never for a time that is hoped to be enough."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

GLANCE_SECS = 0.02


def wait_until(look: Callable[[], T | None], what: str, within: float = 15.0) -> T:
    """The first truthy answer of `look`; fails loudly when there is none in time."""
    deadline = time.monotonic() + within
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s in vain for {what}; last seen: {answer!r}")
        time.sleep(GLANCE_SECS)


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(opened.getsockname()[1]) for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def accepts(port: int) -> bool:
    """Whether somebody accepts TCP connections on this port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True
