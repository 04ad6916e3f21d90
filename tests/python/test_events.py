"""Answers that take their time: server-sent events and long polls pass at once, and end when somebody leaves."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from support.appserver import AppServer
from support.curl import Curl
from support.gates import Gate
from support.gateway import Gateway
from support.site import Site
from support.tokens import mint

NOTICED_SECS = 5
"""A view that is told at once knows at once; this is what a loaded machine may add."""
GIVES_UP_SECS = 30
"""When a view would end by itself (see `backend.gates`)."""


@pytest.fixture
def gate(site: Site) -> Iterator[Gate]:
    """The name of this story's stream, which ends with the story."""
    made = Gate.of(site)
    yield made
    made.end()


@contextmanager
def listening(client: httpx.Client, path: str, headers: dict[str, str] | None = None) -> Iterator[Iterator[str]]:
    """The data of each event as soon as it is there."""
    with client.stream("GET", path, headers={"Accept": "text/event-stream", **(headers or {})}) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        yield (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))


def test_each_event_arrives_before_the_next_one_exists(visitor: httpx.Client, gate: Gate) -> None:
    with listening(visitor, f"/public/events/{gate.name}/") as events:
        assert next(events) == "event 0"
        for number in (1, 2, 3):
            gate.open(number)
            assert next(events) == f"event {number}"


def test_a_client_that_comes_back_says_what_it_has(visitor: httpx.Client, gate: Gate) -> None:
    gate.open(8)
    with listening(visitor, f"/public/events/{gate.name}/", {"Last-Event-ID": "6"}) as events:
        assert [next(events), next(events)] == ["event 7", "event 8"]


def test_the_view_is_told_when_its_client_has_gone(visitor: httpx.Client, gate: Gate, server: AppServer) -> None:
    """Under WSGI it can only be told when it sends something."""
    path = f"/public/events/{gate.name}/" if server.asynchronous else f"/public/events/{gate.name}/?comments=0.1"
    with listening(visitor, path) as events:
        assert next(events) == "event 0"
    # Over HTTP/2 httpx tells nobody that it has left a stream while the connection is open.
    visitor.close()
    gate.wait_gone(NOTICED_SECS)


def test_a_stream_ends_with_its_token(visitor: httpx.Client, front: Gateway, gate: Gate) -> None:
    """Cleanly: a browser comes again by itself with what it has for a token by then."""
    begun, token = time.monotonic(), mint(front.secret, exp=int(time.time()) + 2)
    path, headers = f"/guarded/events/{gate.name}/?comments=0.1", {"Authorization": f"Bearer {token}"}
    with listening(visitor, path, headers) as events:
        assert list(events) == ["event 0"]
    assert time.monotonic() - begun < GIVES_UP_SECS / 2, "the view has ended it"
    gate.wait_gone(NOTICED_SECS)
    assert visitor.get(path, headers=headers).status_code == 401
    assert front.logged(path)["outcome"] == "token_expired"


def test_a_poll_is_answered_when_there_is_news(visitor: httpx.Client, gate: Gate) -> None:
    path = f"/public/poll/{gate.name}/"
    assert visitor.get(path, params={"wait": 0.2}).status_code == 204
    gate.open()
    assert visitor.get(path).json() == {"news": gate.name}


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_a_poll_whose_client_has_gone_is_given_up(socket_gateway: Gateway, gate: Gate, http2: bool) -> None:
    """Under ASGI: a WSGI application is not told before it answers."""
    with socket_gateway.client(http2) as leaving, pytest.raises(httpx.ReadTimeout):
        leaving.get(f"/public/poll/{gate.name}/", timeout=1)
    gate.wait_gone(NOTICED_SECS)


# How long nothing may come.


@pytest.fixture
def hasty(socket_server: AppServer, make_front: Callable[..., Gateway]) -> Gateway:
    """A gateway that gives up an answer of which nothing has come for a second."""
    return make_front(socket_server, "read_timeout_secs = 1")


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_comments_keep_a_stream_open(hasty: Gateway, gate: Gate, http2: bool) -> None:
    with hasty.client(http2) as client:
        begun = time.monotonic()
        path = f"/public/events/{gate.name}/?comments=0.2"
        with client.stream("GET", path) as answer:
            lines = answer.iter_lines()
            while time.monotonic() - begun < 3:
                assert next(lines) in {": still here", "id: 0", "data: event 0", ""}
            gate.open(1)
            assert next(line for line in lines if line.startswith("data: ")) == "data: event 1"


@pytest.mark.parametrize("option", ["--http1.1", "--http2"])
def test_a_stream_that_falls_silent_is_given_up(hasty: Gateway, gate: Gate, option: str) -> None:
    """The client learns that it was not the end; the view, that nobody listens."""
    with Curl(hasty, f"/public/events/{gate.name}/", {}, option) as answer:
        assert answer.line() == "id: 0"
        _, status = answer.verdict()
        assert status != 0
    gate.wait_gone(NOTICED_SECS)
