"""A kept-alive connection that Gunicorn has just closed never becomes the client's error."""

import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from support.gateway import Gateway
from support.gunicorn import KEEP_ALIVE_SECS, Gunicorn
from support.waiting import wait_until

CLIENTS = 32
SPREAD_SECS = 0.1
"""Requests come this long before and after the moment at which Gunicorn closes an idle connection."""


def test_posts_around_gunicorn_s_keep_alive_are_each_answered_and_each_seen_once(
    keeping_gateway: Gateway, upstream: Gunicorn, alice: dict[str, str]
) -> None:
    """The one story that goes by the clock, since the race it provokes is about time.

    A burst leaves the gateway with a connection to Gunicorn for each client. All of them idle, and then each client
    posts once more, at its own moment between 1.9 and 2.1 s later.
    """
    run = secrets.token_hex(4)
    together = threading.Barrier(CLIENTS)

    def post(client: httpx.Client, name: str) -> int:
        return client.post(f"/guarded/echo/?{name}", json={"name": name}, headers=alice).status_code

    def story(number: int) -> tuple[int, int]:
        with keeping_gateway.client() as client:
            together.wait(30)
            first = post(client, f"{run}-first-{number}")
            idle_from = together_at_rest()
            offset = (2 * number / (CLIENTS - 1) - 1) * SPREAD_SECS
            sleep_until(idle_from + KEEP_ALIVE_SECS + offset)
            return first, post(client, f"{run}-second-{number}")

    def together_at_rest() -> float:
        together.wait(30)
        return time.monotonic()

    with ThreadPoolExecutor(CLIENTS) as clients:
        statuses = list(clients.map(story, range(CLIENTS)))
    assert statuses == [(200, 200)] * CLIENTS
    names = [f"{run}-{which}-{number}" for which in ("first", "second") for number in range(CLIENTS)]
    wait_until(lambda: not set(names) - set(upstream.requests_seen()), "every request in Gunicorn's log")
    seen = upstream.requests_seen()
    assert {name: seen[name] for name in names} == dict.fromkeys(names, 1)


def sleep_until(moment: float) -> None:
    """Sleeps to a moment of the monotonic clock."""
    time.sleep(max(0.0, moment - time.monotonic()))
