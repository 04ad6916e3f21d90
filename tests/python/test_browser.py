"""A real browser before the gateway: WebSockets over HTTP/2, tokens as a protocol, event streams and close codes."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.browser import Browser, executable
from support.gates import Gate
from support.gateway import Gateway
from support.site import Site
from support.tokens import mint

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium is installed; tests/run installs one")

PAGE = "/public/paths/page"
"""Any page of the gateway: what counts is its origin, and that the browser has an HTTP/2 connection then."""

EXCHANGE = """
new Promise((resolve) => {
  const [url, protocols, messages] = %s;
  const seen = { received: [], protocol: null, extensions: null };
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => {
    seen.protocol = socket.protocol;
    seen.extensions = socket.extensions;
    messages.forEach((message) => socket.send(message));
  };
  socket.onmessage = (event) => {
    seen.received.push(event.data);
    if (messages.length && seen.received.length === messages.length) socket.close(4321, "enough");
  };
  socket.onclose = (event) => resolve({ ...seen, code: event.code, reason: event.reason, clean: event.wasClean });
})
"""

EVENTS = """
new Promise((resolve, reject) => {
  const received = [];
  const source = new EventSource(%s);
  source.onmessage = (event) => {
    received.push([event.lastEventId, event.data]);
    if (received.length === 3) { source.close(); resolve(received); }
  };
  source.onerror = () => reject(new Error("the stream broke after " + received.length));
})
"""


@pytest.fixture(scope="module")
def browser(socket_gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser on a page of the gateway."""
    started = Browser(socket_gateway, tmp_path_factory.mktemp("browser"))
    try:
        started.visit(PAGE)
        yield started
    finally:
        started.stop()


@pytest.fixture
def gate(site: Site) -> Gate:
    """The name of this story's connection."""
    return Gate.of(site)


def exchange(browser: Browser, path: str, protocols: list[str], *messages: str) -> dict[str, Any]:
    """What a page sees of a WebSocket, from its opening to its end."""
    url = f"wss://{browser.gateway.host}{path}"
    seen: dict[str, Any] = browser.run(EXCHANGE % json.dumps([url, protocols, messages]))
    return seen


@pytest.fixture
def token(login: Callable[[str], dict[str, str]]) -> str:
    """Alice's."""
    return login("alice")["access"]


def test_a_page_talks_over_http_2(browser: Browser, gate: Gate) -> None:
    path = f"/public/ws/echo/{gate.name}/"
    seen = exchange(browser, path, ["echo"], "hello", "gr\u00fc\u00dfe", "x" * 100_000)
    assert seen["received"] == ["hello", "gr\u00fc\u00dfe", "x" * 100_000]
    assert (seen["protocol"], seen["clean"]) == ("echo", True)
    assert gate.close_code() == 4321
    line = browser.gateway.logged(path)
    assert (line["protocol"], line["method"], line["outcome"]) == ("HTTP/2", "CONNECT", "ok")


@pytest.mark.parametrize("more", [[], ["echo"]], ids=["alone", "beside another"])
def test_a_page_sends_its_token_as_a_protocol(browser: Browser, gate: Gate, token: str, more: list[str]) -> None:
    path = f"/live/echo/{gate.name}/"
    seen = exchange(browser, path, ["bearer", token, *more], "hello")
    assert (seen["received"], seen["clean"]) == (["hello"], True)
    assert seen["protocol"] == ("echo" if more else "bearer")
    line = browser.gateway.logged(path)
    assert (line["protocol"], line["issuer"]) == ("HTTP/2", "django")
    assert token not in browser.gateway.access_log.read_text()


def test_a_page_without_a_good_token_gets_nothing(browser: Browser, gate: Gate) -> None:
    for protocols in (["echo"], ["bearer", mint("x" * 32)]):
        seen = exchange(browser, f"/live/echo/{gate.name}/", protocols, "hello")
        assert (seen["received"], seen["code"], seen["clean"]) == ([], 1006, False)


def test_a_page_hears_why_its_connection_ends(browser: Browser, gate: Gate) -> None:
    by_application = exchange(browser, f"/public/ws/closing/4000/{gate.name}/", [])
    assert (by_application["code"], by_application["clean"]) == (4000, True)
    expiring = mint(browser.gateway.secret, exp=int(time.time()) + 2)
    by_gateway = exchange(browser, f"/live/slow/{gate.name}/", ["bearer", expiring])
    assert (by_gateway["code"], by_gateway["clean"]) == (1008, True)


def test_a_page_listens_to_events(browser: Browser, gate: Gate) -> None:
    gate.open(1)
    gate.open(2)
    received = browser.run(EVENTS % json.dumps(f"/public/events/{gate.name}/"))
    assert received == [["0", "event 0"], ["1", "event 1"], ["2", "event 2"]]
    assert browser.gateway.logged(f"/public/events/{gate.name}/")["protocol"] == "HTTP/2"
    gate.wait_gone(within=10)
