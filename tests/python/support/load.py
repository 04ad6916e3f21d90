"""Clients in the background that keep asking, number their requests and remember what became of each."""

import itertools
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from support.gateway import GatewayProcess
from support.waiting import wait_until


@dataclass
class Ledger:
    """What became of every request of a load. List appends are atomic, so the threads share it as it is."""

    answered: list[tuple[str, int]] = field(default_factory=list)
    """Requests with a whole response, and its status."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Attempts that got no connection: nothing was accepted."""
    dropped: list[tuple[str, str]] = field(default_factory=list)
    """Requests sent on an established connection that brought no whole response."""

    def statuses(self) -> set[int]:
        """Every status that was seen."""
        return {status for _, status in self.answered}


class Load:
    """Requests from several threads, each on one kept connection or on a fresh one for every request."""

    def __init__(
        self,
        gateway: GatewayProcess,
        path: str,
        threads: int,
        keep_connections: bool,
        fields: Callable[[], Mapping[str, str]] = dict,
        method: str = "POST",
    ) -> None:
        """`fields` says what each request carries at the moment it is sent; one that is no POST has no body."""
        self.ledger = Ledger()
        self._method = method
        self._fields = fields
        self._gateway = gateway
        self._path = path
        self._keep = keep_connections
        self._stop = threading.Event()
        self._run = secrets.token_hex(4)
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(threads)]

    @contextmanager
    def running(self) -> Iterator[Ledger]:
        """Runs while the block does; on the way out every thread has ended."""
        for thread in self._threads:
            thread.start()
        try:
            self.wait_for_answers(20)
            yield self.ledger
        finally:
            self._stop.set()
            self.join()

    def wait_for_answers(self, more: int) -> None:
        """Returns after that many further answers."""
        goal = len(self.ledger.answered) + more
        wait_until(lambda: len(self.ledger.answered) >= goal, f"{more} more answers under load", within=30)

    def join(self) -> None:
        """Waits for the threads, which end when told to or when nobody accepts their connections any more."""
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client of the load hangs"

    def _ask(self, number: int) -> None:
        with self._gateway.client() as client:
            lasting = {} if self._keep else {"Connection": "close"}
            for count in itertools.count():
                name = f"{self._run}-{number}-{count}"
                if self._stop.is_set() or not self._one(client, name, {**lasting, **self._fields()}):
                    return

    def _one(self, client: httpx.Client, name: str, headers: dict[str, str]) -> bool:
        """Whether it makes sense to ask again."""
        try:
            body = {"name": name} if self._method == "POST" else None
            response = client.request(self._method, f"{self._path}?{name}", json=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self.ledger.refused.append((name, repr(error)))
            return False
        except httpx.TransportError as error:
            self.ledger.dropped.append((name, repr(error)))
            return True
        self.ledger.answered.append((name, response.status_code))
        return True
