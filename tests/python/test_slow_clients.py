"""Two hundred slow clients before four workers that serve one request at a time: what the gateway is before Gunicorn for."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from support.gateway import Gateway
from support.gunicorn import SyncGunicorn
from support.metrics import BUFFERED, BUFFERED_BYTES, LEASES, SPOOLED
from support.site import Site
from support.slow_clients import Place, SlowClients
from support.waiting import free_ports, wait_until

SLOW_CLIENTS = 200
FAST_REQUESTS = 200
DOWNLOAD_BYTES = 5_000_000
FAST_SECS = 5.0
"""What a fast request may take at most: it takes milliseconds where nothing is in its way."""
FAST = "/public/echo/"


@pytest.fixture
def workers(site: Site, tmp_path: Path) -> Iterator[SyncGunicorn]:
    """Gunicorn with four workers that do one thing at a time."""
    served = SyncGunicorn(site, tmp_path, free_ports(1)[0])
    try:
        served.start()
        yield served
    finally:
        served.stop()


def slow_clients(place: Place) -> SlowClients:
    """Not yet started."""
    download = f"/public/answers/exact/{DOWNLOAD_BYTES}/"
    return SlowClients(place, SLOW_CLIENTS, "/public/answers/body/", download, DOWNLOAD_BYTES)


def test_slow_clients_hold_all_of_gunicorn_when_nothing_is_before_it(workers: SyncGunicorn) -> None:
    """What the next story's gateway is for."""
    assert workers.port is not None
    slow = slow_clients(Place(workers.port, "localhost", fields="X-Forwarded-Proto: https\r\n"))
    with workers.client("localhost") as client:
        assert client.get(FAST).status_code == 200
        try:
            slow.start()
            # The first of them are served to the end; whoever comes then waits for somebody who takes as long as this story.
            with pytest.raises(httpx.TimeoutException):
                for _ in range(FAST_REQUESTS):
                    client.get(FAST, timeout=FAST_SECS)
            assert slow.under_way() == SLOW_CLIENTS
        finally:
            slow.stop()


def test_slow_clients_hold_nothing_of_gunicorn_behind_the_gateway(
    workers: SyncGunicorn, make_front: Callable[..., Gateway], capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = make_front(workers)
    slow = slow_clients(Place(gateway.port, gateway.host, gateway.authority.trust()))

    def held_back() -> bool:
        metrics = gateway.metrics()
        return all(metrics.total(name) >= SLOW_CLIENTS / 2 for name in (SPOOLED, BUFFERED)) and not metrics.total(LEASES)

    try:
        slow.start()
        wait_until(held_back, "all slow clients to be kept from Gunicorn", within=60)
        took = []
        with gateway.client(timeout=FAST_SECS) as client:
            for _ in range(FAST_REQUESTS):
                begun = time.monotonic()
                assert client.get(FAST).status_code == 200
                took.append(time.monotonic() - begun)
        assert slow.under_way() == SLOW_CLIENTS
        assert slow.finish() == [""] * SLOW_CLIENTS
    finally:
        slow.stop()
    for name in (LEASES, BUFFERED_BYTES):
        wait_until(lambda name=name: not gateway.metrics().total(name), f"{name} to be as before")
    with capsys.disabled():
        p99 = statistics.quantiles(took, n=100)[98]
        print(f"\n{FAST_REQUESTS} fast requests beside {SLOW_CLIENTS} slow clients: p99 {p99 * 1000:.1f} ms")

