"""A listener that nobody has any business to connect to."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.waiting import wait_until


@dataclass
class Lure:
    """Counts who connects, and says nothing."""

    port: int
    callers: list[tuple[str, int]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where keys are said to be."""
        return f"http://127.0.0.1:{self.port}/keys.json"

    def call(self) -> None:
        """Connects to it, and returns once that was counted."""
        before = len(self.callers)
        socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        wait_until(lambda: len(self.callers) > before, "the lure to count a connection")


@contextmanager
def laid() -> Iterator[Lure]:
    """A lure that listens while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lure = Lure(listener.getsockname()[1])
        threading.Thread(target=_count, args=(listener, lure), daemon=True).start()
        try:
            yield lure
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _count(listener: socket.socket, lure: Lure) -> None:
    while True:
        try:
            caller, address = listener.accept()
        except OSError:
            return
        lure.callers.append(address)
        caller.close()
