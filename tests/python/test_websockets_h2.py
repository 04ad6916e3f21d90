"""WebSockets on a stream of HTTP/2 (RFC 8441): the application behind sees the same as over HTTP/1.1."""

import json
import secrets
import signal
import time
from collections.abc import Iterator

import pytest

from support.appserver import AppServer
from support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close
from support.gates import Gate
from support.gateway import CLIENT_ADDRESS, Gateway
from support.h2_socket import Carrier
from support.site import Site
from support.sockets import extensions, open_around
from support.tokens import mint

MIB = 1024 * 1024


@pytest.fixture
def gate(site: Site) -> Gate:
    """The name of this story's connection."""
    return Gate.of(site)


@pytest.fixture
def carrier(socket_gateway: Gateway) -> Iterator[Carrier]:
    """An HTTP/2 connection."""
    with Carrier(socket_gateway) as opened:
        yield opened


def lower(headers: dict[str, str]) -> dict[str, str]:
    """Field names as HTTP/2 has them."""
    return {name.lower(): value for name, value in headers.items()}


def test_the_gateway_says_that_it_can(carrier: Carrier) -> None:
    assert carrier.offers_connect


def test_every_message_comes_back_as_it_was_sent(carrier: Carrier, gate: Gate) -> None:
    opened = carrier.open(f"/public/ws/echo/{gate.name}/")
    assert opened.status == 200
    assert not {"upgrade", "connection", "sec-websocket-accept", "content-length"} & set(opened.headers)
    for frame in (
        Frame(TEXT, b"hello"),
        Frame(TEXT, "grüße \U0001f600".encode()),
        Frame(BINARY, bytes(range(256))),
        Frame(BINARY, b"x" * 70_000),
        Frame(BINARY, b"y" * 900_000),
    ):
        opened.send(frame)
        assert opened.frame() == frame


def test_a_message_in_fragments_comes_back_whole_and_a_ping_between_them_is_answered(
    carrier: Carrier, gate: Gate
) -> None:
    opened = carrier.open(f"/public/ws/echo/{gate.name}/")
    opened.send(Frame(TEXT, b"one, ", fin=False), Frame(PING, b"now"), Frame(CONTINUATION, b"two"))
    assert [opened.frame(), opened.frame()] == [Frame(PONG, b"now"), Frame(TEXT, b"one, two")]


def test_a_large_message_of_the_application_arrives_whole(carrier: Carrier, gate: Gate) -> None:
    opened = carrier.open(f"/public/ws/large/{8 * MIB}/{gate.name}/")
    assert opened.frame() == Frame(BINARY, b"0123456789abcdef" * (8 * MIB // 16))


def test_the_consumer_sees_what_it_would_see_over_http_1(
    carrier: Carrier, socket_gateway: Gateway, gate: Gate, alice: dict[str, str]
) -> None:
    path = f"/guarded/ws/seen/{gate.name}/"
    forged = {"x-forwarded-for": "203.0.113.9", "x-user-id": "99", "script-name": "/x"}
    said = {**lower(alice), **forged, "sec-websocket-protocol": "chat", "cookie": "a=1"}
    opened = carrier.open(f"{path}?a=%C3%A4", said)
    assert opened.status == 200, opened.headers
    seen = json.loads(opened.frame().payload)
    headers = dict(seen["headers"])
    assert (seen["path"], seen["query"], seen["user"], seen["subprotocols"]) == (path, "a=%C3%A4", "alice", ["chat"])
    assert seen["client"][0] == CLIENT_ADDRESS
    assert (headers["host"], headers["cookie"]) == (socket_gateway.host, "a=1")
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == (CLIENT_ADDRESS, "https")
    assert headers["x-user-id"] != "99"
    assert "script-name" not in headers
    assert len(headers["sec-websocket-key"]) == 24


def test_many_share_one_connection_with_ordinary_requests(carrier: Carrier, site: Site) -> None:
    opened = [carrier.open(f"/public/ws/echo/{Gate.of(site).name}/") for _ in range(20)]
    for number, one in enumerate(opened):
        one.send(Frame(TEXT, str(number).encode()))
    assert carrier.get("/public/echo/").status == 200
    assert [one.frame().payload for one in reversed(opened)] == [str(number).encode() for number in range(19, -1, -1)]


def test_compression_is_what_client_and_server_agree_on(carrier: Carrier, socket_server: AppServer, gate: Gate) -> None:
    path = f"/public/ws/echo/{gate.name}/"
    with open_around(socket_server, path) as around:
        assert around.request is not None
        offer, agreed = around.request.headers["Sec-WebSocket-Extensions"], extensions(around)
    opened = carrier.open(path, {"sec-websocket-extensions": offer})
    assert opened.status == 200
    assert opened.headers.get("sec-websocket-extensions") == agreed


# Who may open one.


def test_nobody_gets_through_without_a_good_token(carrier: Carrier, socket_gateway: Gateway, gate: Gate) -> None:
    path = f"/guarded/ws/echo/{gate.name}/"
    for headers in ({}, {"authorization": f"Bearer {mint('x' * 32)}"}):
        opened = carrier.open(path, headers)
        assert opened.status == 401
        assert opened.headers["www-authenticate"] == 'Bearer realm="api"'
    good = carrier.open(path, {"authorization": f"Bearer {mint(socket_gateway.secret)}"})
    assert good.status == 200, "the connection goes on"


def test_a_token_comes_as_a_protocol(carrier: Carrier, gate: Gate, alice: dict[str, str]) -> None:
    token = alice["Authorization"].removeprefix("Bearer ")
    opened = carrier.open(f"/live/echo/{gate.name}/", {"sec-websocket-protocol": f"bearer, {token}, echo"})
    assert (opened.status, opened.headers["sec-websocket-protocol"]) == (200, "echo")


def test_what_the_application_refuses_is_refused(carrier: Carrier, gate: Gate) -> None:
    assert carrier.open(f"/public/ws/refusing/{gate.name}/").status == 403


@pytest.mark.parametrize("protocol", ["connect-udp", "websocket2", "h2c"])
def test_no_other_protocol_is_tunnelled(carrier: Carrier, gate: Gate, protocol: str) -> None:
    assert 400 <= carrier.open(f"/public/ws/echo/{gate.name}/", protocol=protocol).status <= 501
    assert carrier.get("/public/echo/").status == 200


@pytest.mark.parametrize("version", ["12", "8", "13, 13", ""])
def test_another_version_is_refused(carrier: Carrier, gate: Gate, version: str) -> None:
    opened = carrier.open(f"/public/ws/echo/{gate.name}/", {"sec-websocket-version": version})
    assert opened.status in {400, 426}


# How it ends.


@pytest.mark.parametrize("code", [1000, 3000, 4999])
def test_a_close_code_passes_both_ways(carrier: Carrier, gate: Gate, code: int) -> None:
    from_app = carrier.open(f"/public/ws/closing/{code}/{secrets.token_hex(4)}/")
    assert from_app.end_of() == code
    from_app.send(close(code))
    assert from_app.rest() == b""
    assert from_app.ended
    from_client = carrier.open(f"/public/ws/echo/{gate.name}/")
    from_client.send(close(code))
    assert from_client.end_of() in {code, 1000}, "Daphne confirms every code with 1000"
    assert gate.close_code() == code


@pytest.mark.parametrize("how", ["end", "cancel"])
def test_a_client_that_vanishes_is_noticed(carrier: Carrier, gate: Gate, how: str) -> None:
    opened = carrier.open(f"/public/ws/slow/{gate.name}/")
    assert opened.status == 200
    opened.end() if how == "end" else opened.cancel()
    assert gate.close_code() in {1001, 1005, 1006}
    assert carrier.get("/public/echo/").status == 200


def test_a_connection_lives_no_longer_than_its_token(carrier: Carrier, socket_gateway: Gateway, gate: Gate) -> None:
    token = mint(socket_gateway.secret, exp=int(time.time()) + 3)
    opened = carrier.open(f"/guarded/ws/echo/{gate.name}/", {"authorization": f"Bearer {token}"})
    opened.send(Frame(TEXT, b"in time"))
    assert opened.frame() == Frame(TEXT, b"in time")
    assert opened.end_of() == 1008
    assert gate.close_code() == 1001
    assert carrier.get("/public/echo/").status == 200, "the connection goes on"


def test_a_drain_sends_everybody_away_to_come_back(own_socket_gateway: Gateway, site: Site) -> None:
    with Carrier(own_socket_gateway) as carrier:
        opened = [carrier.open(f"/public/ws/echo/{Gate.of(site).name}/") for _ in range(5)]
        assert {one.status for one in opened} == {200}
        own_socket_gateway.daemon.signal(signal.SIGTERM)
        for one in opened:
            assert one.end_of() == 1012
            one.send(Frame(CLOSE, (1012).to_bytes(2, "big")))
        assert carrier.goaway
        assert own_socket_gateway.daemon.wait_exit(within=own_socket_gateway.drain_secs / 2) == 0
