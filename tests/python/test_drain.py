"""SIGTERM ends the gateway without anybody noticing who had been let in."""

import secrets
import signal
from collections.abc import Iterator

import httpx

from support.curl import Curl
from support.gateway import Gateway
from support.gunicorn import Gunicorn
from support.load import Load
from support.waiting import wait_until


def begin_drain(gateway: Gateway) -> None:
    """Sends SIGTERM and returns once no new connection is accepted."""
    gateway.daemon.signal(signal.SIGTERM)
    wait_until(lambda: not gateway.listening, "the listener to stop accepting")


def release(upstream: Gunicorn, path: str, alice: dict[str, str]) -> None:
    """Asks Gunicorn itself for something, since the gateway takes no more requests."""
    with upstream.client("localhost") as direct:
        assert direct.post(path, headers=alice).status_code == 200


def test_a_response_in_flight_is_finished_before_the_clean_exit(
    own_gateway: Gateway, upstream: Gunicorn, alice: dict[str, str]
) -> None:
    path = f"/api/streams/{secrets.token_hex(8)}/"
    with own_gateway.client() as client, client.stream("GET", path, headers=alice) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "chunk 0"
        begin_drain(own_gateway)
        assert own_gateway.readiness() == 503
        for chunk in (1, 2):
            release(upstream, f"{path}release/{chunk}/", alice)
            assert next(lines) == f"chunk {chunk}"
        assert list(lines) == []
        assert own_gateway.daemon.wait_exit() == 0


def test_a_response_in_flight_over_http2_outlives_the_goaway(
    own_gateway: Gateway, upstream: Gunicorn, alice: dict[str, str]
) -> None:
    """By curl, since httpx gives up its open streams when it reads a GOAWAY."""
    path = f"/api/streams/{secrets.token_hex(8)}/"
    with Curl(own_gateway, path, alice, "--http2") as answer:
        assert answer.line() == "chunk 0"
        begin_drain(own_gateway)
        assert own_gateway.readiness() == 503
        for chunk in (1, 2):
            release(upstream, f"{path}release/{chunk}/", alice)
            assert answer.line() == f"chunk {chunk}"
        assert answer.verdict() == ("HTTP/2 200", 0)
        assert own_gateway.daemon.wait_exit() == 0


def test_a_request_whose_body_is_in_flight_is_answered_and_told_to_close(
    own_gateway: Gateway, alice: dict[str, str]
) -> None:
    def body() -> Iterator[bytes]:
        yield b"before, "
        begin_drain(own_gateway)
        yield b"after"

    path = f"/api/uploads/{secrets.token_hex(8)}/"
    headers = {**alice, "Content-Length": "13", "Content-Type": "application/octet-stream"}
    with own_gateway.client() as client:
        answer = client.post(path, content=body(), headers=headers)
        assert (answer.status_code, answer.json()["size"]) == (200, 13)
        assert answer.headers["connection"] == "close"
        assert own_gateway.daemon.wait_exit() == 0


def test_an_idle_gateway_exits_at_once_although_connections_are_kept_open(own_gateway: Gateway) -> None:
    with own_gateway.client() as h1, own_gateway.client(http2=True) as h2:
        assert [client.get("/public/echo/").status_code for client in (h1, h2)] == [200, 200]
        own_gateway.daemon.signal(signal.SIGTERM)
        assert own_gateway.daemon.wait_exit(within=own_gateway.drain_secs / 2) == 0


def test_nothing_accepted_is_dropped_under_load(own_gateway: Gateway) -> None:
    """Every request comes on a connection of its own: once its handshake is done, it is answered in full."""
    load = Load(own_gateway, "/public/echo/", threads=6, keep_connections=False)
    with load.running() as ledger:
        own_gateway.daemon.signal(signal.SIGTERM)
        load.join()
        assert own_gateway.daemon.wait_exit() == 0
    assert (ledger.dropped, ledger.statuses()) == ([], {200})
    assert len(ledger.refused) == 6, "each client ends when it finds the door closed"


def test_what_a_kept_connection_lost_to_the_close_was_never_passed_on(own_gateway: Gateway, upstream: Gunicorn) -> None:
    """A request may cross the gateway's close of an idle connection (RFC 9112, section 9.5).

    Then the client has no byte of an answer and may repeat it, which is safe only if Django never saw it.
    """
    load = Load(own_gateway, "/public/echo/", threads=6, keep_connections=True)
    with load.running() as ledger:
        own_gateway.daemon.signal(signal.SIGTERM)
        load.join()
        assert own_gateway.daemon.wait_exit() == 0
    seen = upstream.requests_seen()
    assert ledger.statuses() == {200}
    assert {name: seen[name] for name, _ in ledger.answered} == {name: 1 for name, _ in ledger.answered}
    assert {name: seen[name] for name, _ in ledger.dropped} == {name: 0 for name, _ in ledger.dropped}


def test_the_port_is_free_for_the_next_gateway(own_gateway: Gateway) -> None:
    own_gateway.daemon.signal(signal.SIGTERM)
    assert own_gateway.daemon.wait_exit() == 0
    own_gateway.start()
    with own_gateway.client() as client:
        assert client.get("/public/echo/").status_code == httpx.codes.OK
