"""Channels behind the gateway: what is said over a WebSocket arrives, and only those may open one who may."""

import json
import secrets
import signal
import time
from collections.abc import Callable

import pytest
from websockets.exceptions import InvalidStatus

from support.appserver import AppServer
from support.gates import Gate
from support.gateway import CLIENT_ADDRESS, Gateway
from support.metrics import TUNNELS_OPEN
from support.servers import SERVERS
from support.site import Site
from support.sockets import PATIENCE_SECS, end_of, extensions, open_around, open_socket, refusal
from support.tokens import mint
from support.waiting import wait_until

MIB = 1024 * 1024
MESSAGES: tuple[str | bytes, ...] = ("a", "grüße \U0001f600", "x" * 70_000, b"\x00\xff" * 100, b"y" * 500_000)
"""Daphne keeps empty ones for itself."""


@pytest.fixture
def gate(site: Site) -> Gate:
    """The name of this story's connection."""
    return Gate.of(site)


# What is said arrives.


def test_every_message_comes_back_as_it_was_sent(socket_gateway: Gateway, gate: Gate) -> None:
    with open_socket(socket_gateway, f"/public/ws/echo/{gate.name}/") as opened:
        for message in MESSAGES:
            opened.send(message)
            assert opened.recv(timeout=PATIENCE_SECS) == message


def test_a_message_in_fragments_comes_back_whole(socket_gateway: Gateway, gate: Gate) -> None:
    with open_socket(socket_gateway, f"/public/ws/echo/{gate.name}/") as opened:
        opened.send(["one, ", "", "two, ", "three"])
        assert opened.recv(timeout=PATIENCE_SECS) == "one, two, three"
        opened.send([b"\x00" * 1000, b"\x01" * 100_000])
        assert opened.recv(timeout=PATIENCE_SECS) == b"\x00" * 1000 + b"\x01" * 100_000


@pytest.mark.parametrize("size", [MIB, 8 * MIB])
def test_a_large_message_of_the_application_arrives_whole(socket_gateway: Gateway, gate: Gate, size: int) -> None:
    with open_socket(socket_gateway, f"/public/ws/large/{size}/{gate.name}/", max_size=None) as opened:
        message = opened.recv(timeout=PATIENCE_SECS)
    assert message == b"0123456789abcdef" * (size // 16)


def test_a_room_hears_what_one_of_them_says(socket_gateway: Gateway, gate: Gate, alice: dict[str, str]) -> None:
    path = f"/ws/chat/{gate.name}/"
    with (
        open_socket(socket_gateway, f"/guarded{path}", alice) as speaker,
        open_socket(socket_gateway, f"/public{path}") as listener,
    ):
        listener.send("hello")
        assert [member.recv(timeout=PATIENCE_SECS) for member in (speaker, listener)] == ["somebody: hello"] * 2
        speaker.send("grüße")
        assert [member.recv(timeout=PATIENCE_SECS) for member in (speaker, listener)] == ["alice: grüße"] * 2


def test_a_ping_is_answered_by_the_application_s_server(socket_gateway: Gateway, gate: Gate) -> None:
    with open_socket(socket_gateway, f"/public/ws/slow/{gate.name}/") as opened:
        for payload in (b"", b"are you there?", b"\xff" * 125):
            assert opened.ping(payload).wait(PATIENCE_SECS)


def test_what_the_application_says_in_between_arrives_at_once(socket_gateway: Gateway, gate: Gate) -> None:
    with open_socket(socket_gateway, f"/public/ws/slow/{gate.name}/") as opened:
        for number in (1, 2):
            gate.open(number)
            assert opened.recv(timeout=PATIENCE_SECS) == f"message {number}"


@pytest.mark.parametrize("offer", ["deflate", None])
def test_compression_is_what_client_and_server_agree_on(
    socket_gateway: Gateway, socket_server: AppServer, gate: Gate, offer: str | None
) -> None:
    path = f"/public/ws/echo/{gate.name}/"

    with (
        open_socket(socket_gateway, path, compression=offer) as through,
        open_around(socket_server, path, compression=offer) as around,
    ):
        assert extensions(through) == extensions(around)
        assert extensions(through) is None or offer == "deflate"
        for message in ("again and again " * 5000, b"\x00" * 200_000):
            through.send(message)
            assert through.recv(timeout=PATIENCE_SECS) == message


# What the application sees.


def test_the_consumer_sees_the_request_as_the_client_sent_it(
    socket_gateway: Gateway, gate: Gate, alice: dict[str, str]
) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "X-User-Id": "99", "Script-Name": "/x"}
    path = f"/guarded/ws/seen/{gate.name}/"
    with open_socket(socket_gateway, f"{path}?a=%C3%A4&b", {**alice, **forged, "Cookie": "a=1"}, ["chat"]) as opened:
        seen = json.loads(opened.recv(timeout=PATIENCE_SECS))
    headers = dict(seen["headers"])
    assert (seen["path"], seen["query"], seen["user"], seen["subprotocols"]) == (path, "a=%C3%A4&b", "alice", ["chat"])
    assert (headers["host"], headers["cookie"]) == (socket_gateway.host, "a=1")
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == (CLIENT_ADDRESS, "https")
    assert headers["x-user-id"] != "99"
    assert headers["authorization"] == alice["Authorization"]
    assert "script-name" not in headers
    assert len(headers) == len(seen["headers"]), "no field comes twice"


def test_both_servers_take_the_client_s_address_from_the_gateway(socket_gateway: Gateway, gate: Gate) -> None:
    with open_socket(socket_gateway, f"/public/ws/seen/{gate.name}/") as opened:
        seen = json.loads(opened.recv(timeout=PATIENCE_SECS))
    assert seen["client"][0] == CLIENT_ADDRESS


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["echo"], "echo"), (["other", "echo", "echo.v2"], "echo.v2"), (["other"], None)],
    ids=["one", "the best", "none"],
)
def test_the_application_chooses_the_protocol(
    socket_gateway: Gateway, gate: Gate, offered: list[str], chosen: str | None
) -> None:
    with open_socket(socket_gateway, f"/public/ws/echo/{gate.name}/", protocols=offered) as opened:
        assert opened.subprotocol == chosen


# Who may open one.


def test_nobody_gets_through_without_a_good_token(socket_gateway: Gateway, gate: Gate) -> None:
    expired = mint(socket_gateway.secret, exp=int(time.time()) - 1)
    for headers in ({}, {"Authorization": f"Bearer {expired}"}, {"Authorization": f"Bearer {mint('x' * 32)}"}):
        answer = refusal(socket_gateway, f"/guarded/ws/echo/{gate.name}/", headers)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")
        assert answer.headers["www-authenticate"] == 'Bearer realm="api"'
        assert "sec-websocket-accept" not in answer.headers


def test_a_page_sends_its_token_as_a_protocol(
    socket_gateway: Gateway, gate: Gate, login: Callable[[str], dict[str, str]]
) -> None:
    token = login("alice")["access"]
    with open_socket(socket_gateway, f"/live/seen/{gate.name}/", protocols=["bearer", token, "echo"]) as opened:
        seen = json.loads(opened.recv(timeout=PATIENCE_SECS))
    assert (seen["user"], seen["subprotocols"]) == ("alice", ["echo"])
    assert not [name for name, value in seen["headers"] if token in value and name != "authorization"]
    with open_socket(socket_gateway, f"/live/echo/{gate.name}/", protocols=["echo", "bearer", token]) as opened:
        assert opened.subprotocol == "echo"


def test_a_page_that_offers_nothing_but_its_token_is_answered_with_its_announcement(
    socket_gateway: Gateway, gate: Gate, login: Callable[[str], dict[str, str]]
) -> None:
    """A browser gives up a connection whose answer chooses none of the protocols that were offered."""
    protocols = ["bearer", login("alice")["access"]]
    with open_socket(socket_gateway, f"/live/seen/{gate.name}/", protocols=protocols) as opened:
        assert json.loads(opened.recv(timeout=PATIENCE_SECS))["subprotocols"] == []
        assert opened.subprotocol == "bearer"


@pytest.mark.parametrize("protocols", [None, ["echo"], ["bearer"], ["bearer", "x.y.z"]], ids=str)
def test_a_protocol_that_is_no_good_token_is_refused(
    socket_gateway: Gateway, gate: Gate, protocols: list[str] | None
) -> None:
    assert refusal(socket_gateway, f"/live/echo/{gate.name}/", protocols=protocols).status_code == 401


def test_what_the_application_refuses_is_refused(socket_gateway: Gateway, gate: Gate) -> None:
    for _ in range(3):
        assert refusal(socket_gateway, f"/public/ws/refusing/{gate.name}/").status_code == 403
    with open_socket(socket_gateway, f"/public/ws/echo/{gate.name}/") as opened:
        opened.send("still here")
        assert opened.recv(timeout=PATIENCE_SECS) == "still here"


@pytest.fixture
def cookie_gateway(own_socket_gateway: Gateway) -> Gateway:
    """One that takes the token out of a cookie, too."""
    before = own_socket_gateway.generation()
    own_socket_gateway.configure("""
    [[route]]
    name = "cookie"
    path = "/guarded/ws/"
    auth = { issuer = "django", token = { cookie = "access" } }
    upstream = "web"
    """)
    own_socket_gateway.wait_generation_after(before)
    return own_socket_gateway


def test_no_other_site_opens_one_with_a_user_s_cookie(
    cookie_gateway: Gateway, gate: Gate, login: Callable[[str], dict[str, str]]
) -> None:
    """Browsers ask no server whether a page may open a WebSocket, and send the cookies."""
    path, cookie = f"/guarded/ws/seen/{gate.name}/", {"Cookie": f"access={login('alice')['access']}"}
    with open_socket(cookie_gateway, path, {**cookie, "Origin": cookie_gateway.url}) as opened:
        assert json.loads(opened.recv(timeout=PATIENCE_SECS))["user"] == "alice"
    for origin in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert refusal(cookie_gateway, path, {**cookie, **origin}).status_code == 403


# How it ends.


@pytest.mark.parametrize("code", [1000, 3000, 3999, 4000, 4999])
def test_the_application_s_close_code_reaches_the_client(socket_gateway: Gateway, gate: Gate, code: int) -> None:
    with open_socket(socket_gateway, f"/public/ws/closing/{code}/{gate.name}/") as opened:
        assert end_of(opened)[0] == code


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
def test_the_client_s_close_code_reaches_the_application(socket_gateway: Gateway, gate: Gate, code: int) -> None:
    with open_socket(socket_gateway, f"/public/ws/echo/{gate.name}/") as opened:
        opened.close(code, "done")
    assert gate.close_code() == code


def test_a_client_that_vanishes_is_noticed(socket_gateway: Gateway, gate: Gate) -> None:
    opened = open_socket(socket_gateway, f"/public/ws/slow/{gate.name}/")
    opened.socket.close()
    assert gate.close_code() in {1001, 1005, 1006}


def test_a_connection_lives_no_longer_than_its_token(socket_gateway: Gateway, gate: Gate) -> None:
    token = mint(socket_gateway.secret, exp=int(time.time()) + 3)
    with open_socket(socket_gateway, f"/guarded/ws/echo/{gate.name}/", {"Authorization": f"Bearer {token}"}) as opened:
        opened.send("in time")
        assert opened.recv(timeout=PATIENCE_SECS) == "in time"
        assert end_of(opened)[0] == 1008
    assert gate.close_code() == 1001
    assert socket_gateway.logged(f"/guarded/ws/echo/{gate.name}/")["outcome"] == "token_expired"


def test_a_connection_without_a_token_outlives_those_with_one(socket_gateway: Gateway, gate: Gate) -> None:
    token = mint(socket_gateway.secret, exp=int(time.time()) + 2)
    with (
        open_socket(socket_gateway, f"/public/ws/echo/{gate.name}/") as free,
        open_socket(socket_gateway, f"/guarded/ws/echo/{gate.name}-2/", {"Authorization": f"Bearer {token}"}) as bound,
    ):
        assert end_of(bound)[0] == 1008
        free.send("still here")
        assert free.recv(timeout=PATIENCE_SECS) == "still here"


def test_a_drain_sends_everybody_away_to_come_back(own_socket_gateway: Gateway, site: Site) -> None:
    gates = [Gate.of(site) for _ in range(5)]
    opened = [open_socket(own_socket_gateway, f"/public/ws/echo/{gate.name}/") for gate in gates]
    own_socket_gateway.daemon.signal(signal.SIGTERM)
    assert {end_of(one)[0] for one in opened} == {1012}
    assert own_socket_gateway.daemon.wait_exit(within=own_socket_gateway.drain_secs / 2) == 0
    assert {gate.close_code() for gate in gates} == {1001}


def test_a_drain_waits_for_nobody_who_does_not_answer(own_socket_gateway: Gateway, gate: Gate) -> None:
    """The client's half of the closing handshake may never come."""
    opened = open_socket(own_socket_gateway, f"/public/ws/slow/{gate.name}/")
    silent = opened.socket
    own_socket_gateway.daemon.signal(signal.SIGTERM)
    assert own_socket_gateway.daemon.wait_exit(within=own_socket_gateway.drain_secs) == 0
    silent.close()


# What the operator sees.


def test_a_connection_is_one_line_of_the_log_and_a_place_among_the_open_ones(
    socket_gateway: Gateway, gate: Gate, alice: dict[str, str]
) -> None:
    path = f"/guarded/ws/echo/{gate.name}/"
    before = socket_gateway.metrics().total(TUNNELS_OPEN, route="guarded")
    with open_socket(socket_gateway, path, alice, compression=None) as opened:
        opened.send("x" * 1000)
        assert opened.recv(timeout=PATIENCE_SECS) == "x" * 1000
        assert socket_gateway.metrics().total(TUNNELS_OPEN, route="guarded") == before + 1
    line = socket_gateway.logged(path)
    assert (line["status"], line["outcome"], line["route"], line["issuer"]) == (101, "ok", "guarded", "django")
    assert min(line["bytes_in"], line["bytes_out"]) > 1000
    wait_until(lambda: socket_gateway.metrics().total(TUNNELS_OPEN, route="guarded") == before, "its place to be free")


# Limits.


@pytest.fixture
def limited_gateway(own_socket_gateway: Gateway) -> Callable[[str], Gateway]:
    """A gateway whose route for WebSockets has these lines besides."""

    def limited(lines: str) -> Gateway:
        before = own_socket_gateway.generation()
        own_socket_gateway.configure(f"""
    [[route]]
    name = "limited"
    path = "/public/ws/"
    auth = "public"
    upstream = "web"
    {lines}
    """)
        own_socket_gateway.wait_generation_after(before)
        return own_socket_gateway

    return limited


def test_a_quiet_connection_is_ended_and_a_busy_one_is_not(
    limited_gateway: Callable[[str], Gateway], site: Site
) -> None:
    gateway = limited_gateway("tunnel_idle_secs = 1")
    quiet, busy = Gate.of(site), Gate.of(site)
    with (
        open_socket(gateway, f"/public/ws/slow/{quiet.name}/") as idle,
        open_socket(gateway, f"/public/ws/slow/{busy.name}/") as pinging,
    ):
        begun = time.monotonic()
        while time.monotonic() - begun < 3:
            assert pinging.ping().wait(PATIENCE_SECS)
            time.sleep(0.1)
        assert quiet.close_code() == 1001
        assert end_of(idle)[0] == 1001
        busy.open(1)
        assert pinging.recv(timeout=PATIENCE_SECS) == "message 1"


def test_a_route_has_as_many_connections_as_it_says(limited_gateway: Callable[[str], Gateway], site: Site) -> None:
    gateway = limited_gateway("max_tunnels = 2")
    paths = [f"/public/ws/echo/{Gate.of(site).name}/" for _ in range(3)]
    first, second = (open_socket(gateway, path) for path in paths[:2])
    assert refusal(gateway, paths[2]).status_code == 503
    first.close()

    def opens() -> bool:
        try:
            open_socket(gateway, paths[2]).close()
        except InvalidStatus:
            return False
        return True

    wait_until(opens, "the place of the one that was closed")
    second.send("still here")
    assert second.recv(timeout=PATIENCE_SECS) == "still here"
    second.close()


def test_a_route_may_have_none(limited_gateway: Callable[[str], Gateway], site: Site) -> None:
    gateway = limited_gateway("max_tunnels = 0")
    assert refusal(gateway, f"/public/ws/echo/{Gate.of(site).name}/").status_code == 403
    with gateway.client() as client:
        assert client.get("/public/echo/").status_code == 200


# When the application's server ends.


@pytest.mark.parametrize("name", ["daphne-tcp", "uvicorn-unix"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_the_client_hears_when_the_server_dies(
    name: str,
    how: signal.Signals,
    site: Site,
    make_front: Callable[..., Gateway],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = SERVERS[name](site, tmp_path_factory.mktemp("dying"))
    try:
        server.start()
        gateway = make_front(server)
        with open_socket(gateway, f"/public/ws/echo/{secrets.token_hex(8)}/") as opened:
            opened.send("before")
            assert opened.recv(timeout=PATIENCE_SECS) == "before"
            server.daemon.signal(how)
            assert end_of(opened)[0] in {1001, 1005, 1006, 1011, 1012, 1014}
            server.daemon.wait_exit()
        assert refusal(gateway, "/public/ws/echo/x/").status_code == 502
        server.start()
        with open_socket(gateway, "/public/ws/echo/x/") as opened:
            opened.send("after")
            assert opened.recv(timeout=PATIENCE_SECS) == "after"
    finally:
        server.stop()
