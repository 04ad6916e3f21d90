"""What an operator sees: counts that are right, a line for every request, and never a token."""

import json
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from support.gateway import CLIENT_ADDRESS, Gateway
from support.metrics import GENERATION, IN_FLIGHT, REQUESTS
from support.waiting import wait_until

EXCHANGES = (
    ("GET", "/public/echo/", False, "public", 200, 3),
    ("POST", "/public/echo/", False, "public", 200, 2),
    ("GET", "/api/me/", True, "api", 200, 4),
    ("GET", "/api/me/", False, "api", 401, 2),
    ("GET", "/api/staff/", True, "staff", 403, 1),
    ("GET", "/static/missing.css", False, "static", 404, 2),
    ("HEAD", "/static/staticfiles.json", False, "static", 200, 1),
)
"""Method, path, whether Alice's token goes along; then the route, the status, and how often."""


def lines_of(gateway: Gateway, marks: Callable[[dict[str, Any]], bool], count: int) -> list[dict[str, Any]]:
    """That many access-log lines, as soon as they are written; every line must be JSON."""

    def look() -> list[dict[str, Any]]:
        whole = gateway.access_log.read_text().split("\n")[:-1] if gateway.access_log.exists() else []
        found = [line for line in map(json.loads, whole) if marks(line)]
        return found if len(found) >= count else []

    return wait_until(look, f"{count} lines in the access log")


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_requests_are_counted_by_route_method_and_status(
    own_gateway: Gateway, alice: dict[str, str], http2: bool
) -> None:
    assert own_gateway.metrics().total(REQUESTS) == 0
    with own_gateway.client(http2=http2) as client:
        for method, path, with_token, _, status, times in EXCHANGES:
            for _ in range(times):
                headers = alice if with_token else {}
                assert client.request(method, path, headers=headers).status_code == status
    total = sum(times for *_, times in EXCHANGES)
    wait_until(lambda: own_gateway.metrics().total(REQUESTS) >= total, "every exchange to be counted")
    metrics = own_gateway.metrics()
    assert metrics.total(REQUESTS) == total
    for method, _, _, route, status, times in EXCHANGES:
        assert metrics.total(REQUESTS, route=route, method=method, status=str(status)) == times


def test_what_is_under_way_is_shown_and_ends_at_zero(own_gateway: Gateway, alice: dict[str, str]) -> None:
    path = f"/api/streams/{secrets.token_hex(8)}/"

    def in_flight() -> float:
        return own_gateway.metrics().total(IN_FLIGHT, route="api")

    with own_gateway.client() as client, own_gateway.client() as second:
        with client.stream("GET", path, headers=alice) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "chunk 0"
            assert in_flight() == 1
        for chunk in (1, 2):
            second.post(f"{path}release/{chunk}/", headers=alice)
        wait_until(lambda: in_flight() == 0, "the stream that its client left to be over")


def test_no_path_a_client_invents_becomes_a_series(own_gateway: Gateway) -> None:
    with own_gateway.client() as client:
        client.get("/nowhere/")
        wait_until(lambda: own_gateway.metrics().total(REQUESTS) == 1, "the first to be counted")
        before = len(own_gateway.metrics().samples)
        for _ in range(50):
            client.get(f"/nowhere/{secrets.token_hex(4)}/")
        wait_until(lambda: own_gateway.metrics().total(REQUESTS) == 51, "the others to be counted")
    assert len(own_gateway.metrics().samples) == before


def test_the_metrics_name_the_build_the_generation_and_the_process(gateway: Gateway) -> None:
    metrics = gateway.metrics()
    assert metrics.total(GENERATION) >= 1
    assert metrics.total("portcullis_build_info") == 1
    assert metrics.total("process_resident_memory_bytes") > 0
    expiry = metrics.total("portcullis_certificate_expiry_timestamp_seconds")
    assert expiry > metrics.total("process_start_time_seconds")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_about(gateway: Gateway) -> None:
    text = gateway.admin("/metrics").text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_process_says_that_it_lives_and_that_it_is_ready(gateway: Gateway) -> None:
    assert gateway.admin("/healthz").status_code == 200
    assert gateway.admin("/readyz").status_code == 200
    assert gateway.admin("/nothing").status_code == 404


def test_every_request_leaves_a_line_under_the_id_the_client_was_told(
    own_gateway: Gateway, alice: dict[str, str]
) -> None:
    with own_gateway.client() as client:
        answers = [
            client.request(method, path, headers=alice if with_token else {})
            for method, path, with_token, *_ in EXCHANGES
        ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    lines = {line["request_id"]: line for line in lines_of(own_gateway, lambda _: True, len(ids))}
    assert set(lines) == set(ids)
    for answer, (method, path, *_), request_id in zip(answers, EXCHANGES, ids, strict=True):
        line = lines[request_id]
        assert (line["method"], line["status"]) == (method, answer.status_code)
        assert line["path"] == path
        assert line["client"] == CLIENT_ADDRESS


def test_a_line_names_the_route_the_subject_and_the_upstream(own_gateway: Gateway, alice: dict[str, str]) -> None:
    with own_gateway.client() as client:
        me = client.get("/api/me/", headers=alice)
    (line,) = lines_of(own_gateway, lambda line: line["request_id"] == me.headers["x-request-id"], 1)
    assert (line["route"], line["subject"], line["upstream"]) == ("api", str(me.json()["user_id"]), "web")


def test_no_token_and_no_secret_is_ever_written_down(
    own_gateway: Gateway, alice: dict[str, str], bob: dict[str, str]
) -> None:
    """Neither good nor bad ones, neither in the access log nor in the process's own output, nor in its metrics."""
    spoilt = {"Authorization": bob["Authorization"] + "x"}
    with own_gateway.client() as client:
        statuses = [client.get("/api/me/", headers=headers).status_code for headers in (alice, bob, spoilt)]
        in_query = client.get(f"/api/me/?access_token={token_of(alice)}")
        cookie = client.get("/public/echo/", headers={"Cookie": f"session={token_of(alice)}"})
        last = cookie.headers["x-request-id"]
    assert statuses == [200, 200, 401]
    assert in_query.status_code == 401, "a token in the query is not looked at"
    lines_of(own_gateway, lambda line: line["request_id"] == last, 1)
    written = own_gateway.access_log.read_text() + own_gateway.process_log.read_text()
    written += own_gateway.admin("/metrics").text + own_gateway.admin("/readyz").text
    for token in (token_of(alice), token_of(bob)):
        for part in token.split(".")[1:]:
            assert part not in written
    assert own_gateway.secret not in written


def test_no_line_is_lost_when_the_gateway_stops(own_gateway: Gateway) -> None:
    with own_gateway.client() as client:
        ids = {client.get("/public/echo/").headers["x-request-id"] for _ in range(20)}
    own_gateway.daemon.signal(signal.SIGTERM)
    assert own_gateway.daemon.wait_exit() == 0
    lines = own_gateway.access_log.read_text().splitlines()
    assert ids <= {json.loads(line)["request_id"] for line in lines}


def test_what_a_client_sends_cannot_forge_a_line(own_gateway: Gateway) -> None:
    forged = '/public/echo/?"},%0d%0a{"request_id":"forged"}%1b[31m'
    with own_gateway.client() as client:
        answer = client.get(forged, headers={"User-Agent": 'x"} {"request_id": "forged"}'})
    lines_of(own_gateway, lambda line: line["request_id"] == answer.headers["x-request-id"], 1)
    assert all(line["request_id"] != "forged" for line in lines_of(own_gateway, lambda _: True, 1))


def token_of(headers: dict[str, str]) -> str:
    """The bare token."""
    return headers["Authorization"].removeprefix("Bearer ")
