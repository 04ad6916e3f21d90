"""Two Gunicorns behind one name: either may stop, be taken out, or be added, and no client notices."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from support.certificates import Authority
from support.gateway import Gateway
from support.gunicorn import Gunicorn
from support.load import Load
from support.site import Site
from support.waiting import free_ports, wait_until

STICKY = 'balance = { sticky = { cookie = "srv", secret = { env = "STICKY" } } }'


@pytest.fixture
def pair(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gunicorn, Gunicorn]]:
    """Two Gunicorns for this story alone, which may stop them."""
    first, second = (Gunicorn(site, tmp_path_factory.mktemp("pair"), port) for port in free_ports(2))
    try:
        first.start()
        second.start()
        yield first, second
    finally:
        first.stop()
        second.stop()


@pytest.fixture
def make_gateway_before(
    pair: tuple[Gunicorn, Gunicorn], authority: Authority, tmp_path: Path
) -> Iterator[Callable[..., Gateway]]:
    """Makes and starts the gateway of this story before both, with more lines for its upstream."""
    made: list[Gateway] = []
    site = pair[0].site

    def make(upstream_keys: str = "") -> Gateway:
        gateway = Gateway(
            directory=tmp_path,
            authority=authority,
            endpoint=pair[0].endpoint,
            more_endpoints=(pair[1].endpoint,),
            static_root=site.static_root,
            secret=site.secret,
            upstream_keys=upstream_keys,
            environment={"STICKY": "a secret of 32 bytes at the least"},
        )
        made.append(gateway)
        gateway.start()
        return gateway

    yield make
    for gateway in made:
        gateway.stop()


def answered(gunicorn: Gunicorn) -> int:
    """How many requests this Gunicorn has answered, the one by which it is asked included."""
    return gunicorn.requests_seen().total()


@pytest.mark.parametrize("keep_connections", [True, False], ids=["kept", "fresh"])
def test_gunicorns_that_restart_one_after_the_other_cost_no_request(
    pair: tuple[Gunicorn, Gunicorn], make_gateway_before: Callable[..., Gateway], keep_connections: bool
) -> None:
    load = Load(make_gateway_before(), "/public/echo/", 4, keep_connections, method="GET")
    with load.running() as ledger:
        for gunicorn in pair:
            gunicorn.stop()
            load.wait_for_answers(50)
            gunicorn.start()
            load.wait_for_answers(50)
    assert (ledger.refused, ledger.dropped, ledger.statuses()) == ([], [], {200})


def test_a_drained_gunicorn_gets_no_more_requests_and_none_is_lost(
    pair: tuple[Gunicorn, Gunicorn], make_gateway_before: Callable[..., Gateway]
) -> None:
    gateway = make_gateway_before()
    drained, other = pair
    load = Load(gateway, "/public/echo/", 4, keep_connections=True)
    with load.running() as ledger:
        wait_until(lambda: answered(drained) > 10 and answered(other) > 10, "both to have their share")
        assert gateway.order(f"/upstreams/web/endpoints/{drained.endpoint}/drain").status_code == 200
        assert gateway.order(f"/upstreams/web/endpoints/{other.endpoint}/drain").status_code == 409, "the last one"
        load.wait_for_answers(20)
        before = answered(drained)
        load.wait_for_answers(100)
        assert answered(drained) == before + 1, "only the question itself"
        drained.stop()
        load.wait_for_answers(20)
        drained.start()
        assert gateway.order(f"/upstreams/web/endpoints/{drained.endpoint}/undrain").status_code == 200
        before = answered(drained)
        wait_until(lambda: answered(drained) > before + 20, "it to have its share again")
    assert (ledger.refused, ledger.dropped, ledger.statuses()) == ([], [], {200})


def test_an_endpoint_that_an_edit_takes_and_gives_costs_no_request(
    pair: tuple[Gunicorn, Gunicorn], make_gateway_before: Callable[..., Gateway]
) -> None:
    gateway = make_gateway_before()
    load = Load(gateway, "/public/echo/", 4, keep_connections=True)
    with load.running() as ledger:
        for more in [(), (pair[1].endpoint,), ()]:
            before = gateway.generation()
            gateway.more_endpoints = more
            gateway.configure()
            gateway.wait_generation_after(before)
            load.wait_for_answers(50)
        pair[1].stop()
        load.wait_for_answers(50)
    assert (ledger.refused, ledger.dropped, ledger.statuses()) == ([], [], {200})


def test_a_client_stays_with_its_gunicorn_until_that_stops(
    pair: tuple[Gunicorn, Gunicorn], make_gateway_before: Callable[..., Gateway]
) -> None:
    with make_gateway_before(STICKY).client() as client:
        first = client.get("/public/echo/?first")
        assert "httponly" in first.headers["set-cookie"].lower()
        assert first.headers["cache-control"] == "private"
        home, away = sorted(pair, key=lambda gunicorn: "first" in gunicorn.requests_seen(), reverse=True)
        again = [ask(client, f"again-{number}") for number in range(20)]
        assert all("set-cookie" not in answer.headers for answer in again)
        seen = home.requests_seen()
        assert all(f"again-{number}" in seen for number in range(20))
        home.stop()
        moved = ask(client, "moved")
        assert moved.headers["set-cookie"] != first.headers["set-cookie"]
        assert "moved" in away.requests_seen()
        assert "set-cookie" not in ask(client, "at home").headers


def ask(client: httpx.Client, query: str) -> httpx.Response:
    """One request that is served, known by its query."""
    answer = client.get(f"/public/echo/?{query}")
    assert answer.status_code == 200, query
    return answer
