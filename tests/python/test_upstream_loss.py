"""Gunicorn may go away and come back; clients are told so at once, and served again at once."""

import httpx

from support.gateway import Gateway
from support.gunicorn import Gunicorn

DEADLINE_SECS = 5
"""A refused connection is known immediately; this is what a loaded machine may add."""


def test_a_stopped_gunicorn_is_a_prompt_502_and_a_started_one_serves_again(
    gateway_before_own_upstream: Gateway, own_upstream: Gunicorn, alice: dict[str, str]
) -> None:
    with gateway_before_own_upstream.client(timeout=DEADLINE_SECS) as client:
        assert client.get("/api/me/", headers=alice).status_code == 200
        own_upstream.stop()
        for _ in range(3):
            assert client.get("/api/me/", headers=alice).status_code == 502
            assert client.post("/guarded/echo/", json={}, headers=alice).status_code == 502
        own_upstream.start()
        assert client.get("/api/me/", headers=alice).json()["user"] == "alice"
        assert client.post("/guarded/echo/", json={}, headers=alice).status_code == 200


def test_what_needs_no_gunicorn_goes_on_without_it(
    gateway_before_own_upstream: Gateway, own_upstream: Gunicorn
) -> None:
    own_upstream.stop()
    with gateway_before_own_upstream.client(timeout=DEADLINE_SECS) as client:
        assert client.get("/static/staticfiles.json").status_code == 200
        assert client.get("/api/me/").status_code == 401


def test_a_502_tells_the_client_nothing_about_the_inside(
    gateway_before_own_upstream: Gateway, own_upstream: Gunicorn
) -> None:
    own_upstream.stop()
    with gateway_before_own_upstream.client(timeout=DEADLINE_SECS) as client:
        answer = client.get("/public/echo/")
    assert answer.status_code == 502
    shown = answer.text + repr(answer.headers)
    inside = own_upstream.endpoint.partition(":")[2].removeprefix("//")
    assert inside not in shown
    assert "gunicorn" not in shown.lower()


def test_a_gunicorn_that_restarts_costs_kept_connections_nothing(
    gateway_before_own_upstream: Gateway, own_upstream: Gunicorn, alice: dict[str, str]
) -> None:
    """The gateway holds idle connections to the old process; the requests after the restart are served all the same."""
    with gateway_before_own_upstream.client(timeout=DEADLINE_SECS) as client:
        for _ in range(3):
            assert client.get("/api/me/", headers=alice).status_code == 200
            own_upstream.stop()
            own_upstream.start()
            answers: list[httpx.Response] = [client.get("/api/me/", headers=alice) for _ in range(8)]
            assert [answer.status_code for answer in answers] == [200] * 8
