"""Editing a file takes effect by itself, disturbs nobody, and never makes things worse."""

import re
from collections.abc import Callable

import httpx
import pytest

from support.gateway import Gateway
from support.load import Load
from support.metrics import RELOADS
from support.tokens import mint
from support.waiting import wait_until

NEW_ROUTE = """
    [[route]]
    name = "latecomer"
    path = "/late/"
    auth = "public"
    redirect = { to = "/public/echo/" }
"""
MISSPELT = """
    [[route]]
    name = "latecomer"
    path = "/late/"
    auht = "public"
    upstream = "web"
"""
NOT_TOML = """
    [[route
"""
NO_AUTH = """
    [[route]]
    name = "open-by-mistake"
    path = "/late/"
    upstream = "web"
"""


def bearer(secret: str) -> dict[str, str]:
    """The header of a token signed with this secret."""
    return {"Authorization": f"Bearer {mint(secret)}"}


def test_a_new_route_takes_effect(own_gateway: Gateway) -> None:
    before = own_gateway.generation()
    with own_gateway.client() as client:
        assert client.get("/late/").status_code == 404
        own_gateway.configure(NEW_ROUTE)
        own_gateway.wait_generation_after(before)
        answer = client.get("/late/")
        assert (answer.is_redirect, answer.headers["location"]) == (True, "/public/echo/")
        own_gateway.configure()
        wait_until(lambda: client.get("/late/").status_code == 404, "the route to go again")


@pytest.mark.parametrize("broken", [MISSPELT, NOT_TOML, NO_AUTH], ids=["misspelt", "not TOML", "no auth"])
def test_a_broken_edit_keeps_the_live_generation(own_gateway: Gateway, broken: str) -> None:
    before = own_gateway.generation()
    assert own_gateway.reload_complaint() is None
    own_gateway.configure(broken)
    wait_for_refusal(own_gateway)
    assert own_gateway.generation() == before
    assert own_gateway.readiness() == 200
    assert own_gateway.reload_complaint()
    with own_gateway.client() as client:
        assert client.get("/public/echo/").status_code == 200
        assert client.get("/late/").status_code == 404


def test_a_broken_edit_is_an_error_in_the_log_with_its_line(own_gateway: Gateway) -> None:
    sound = own_gateway.process_log.read_text()
    own_gateway.configure(MISSPELT)
    wait_for_refusal(own_gateway)
    lines = own_gateway.config_file.read_text().splitlines()
    number = next(number for number, line in enumerate(lines, start=1) if "auht" in line)
    complaint = own_gateway.process_log.read_text().removeprefix(sound)
    assert "ERROR" in complaint
    assert "auht" in complaint
    assert re.search(rf"gateway\.toml:{number}\b", complaint)


def test_a_mended_edit_goes_live_and_the_complaint_ends(own_gateway: Gateway) -> None:
    before = own_gateway.generation()
    own_gateway.configure(MISSPELT)
    wait_for_refusal(own_gateway)
    assert own_gateway.reload_complaint()
    own_gateway.configure(NEW_ROUTE)
    own_gateway.wait_generation_after(before)
    wait_until(lambda: own_gateway.reload_complaint() is None, "the complaint to end")
    with own_gateway.client() as client:
        assert client.get("/late/").is_redirect


def test_a_rotated_secret_decides_from_then_on(own_gateway: Gateway) -> None:
    """Also for tokens already verified and remembered."""
    old, new = bearer(own_gateway.secret), bearer("a new secret of more than 32 bytes")
    before = own_gateway.generation()
    with own_gateway.client() as client:
        assert client.get("/guarded/echo/", headers=old).status_code == 200
        assert client.get("/guarded/echo/", headers=new).status_code == 401
        own_gateway.secret_file.write_text("a new secret of more than 32 bytes")
        own_gateway.wait_generation_after(before)
        assert client.get("/guarded/echo/", headers=old).status_code == 401
        assert client.get("/guarded/echo/", headers=new).status_code == 200


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_weak_secret_is_not_taken(own_gateway: Gateway) -> None:
    before = own_gateway.generation()
    own_gateway.secret_file.write_text("short")
    wait_for_refusal(own_gateway)
    assert own_gateway.generation() == before
    with own_gateway.client() as client:
        assert client.get("/guarded/echo/", headers=bearer("short")).status_code == 401
        assert client.get("/guarded/echo/", headers=bearer(own_gateway.secret)).status_code == 200


@pytest.mark.parametrize("keep_connections", [True, False], ids=["kept", "fresh"])
def test_a_certificate_is_swapped_under_load_without_one_failure(own_gateway: Gateway, keep_connections: bool) -> None:
    """New connections see the new certificate; those that are open live on."""
    load = Load(own_gateway, "/public/echo/", threads=3, keep_connections=keep_connections)
    assert own_gateway.serial_served() == own_gateway.serial
    with load.running() as ledger:
        for _ in range(3):
            serial = own_gateway.install_certificate()
            wait_until(served(own_gateway, serial), "the new certificate to be served")
            load.wait_for_answers(10)
    assert (ledger.refused, ledger.dropped, ledger.statuses()) == ([], [], {200})


@pytest.mark.parametrize("keep_connections", [True, False], ids=["kept", "fresh"])
def test_reloads_under_load_drop_nothing(own_gateway: Gateway, keep_connections: bool) -> None:
    load = Load(own_gateway, "/public/echo/", threads=3, keep_connections=keep_connections)
    with load.running() as ledger:
        for edit in (NEW_ROUTE, "", NEW_ROUTE):
            before = own_gateway.generation()
            own_gateway.configure(edit)
            own_gateway.wait_generation_after(before)
            load.wait_for_answers(10)
    assert (ledger.refused, ledger.dropped, ledger.statuses()) == ([], [], {200})


def test_a_certificate_that_does_not_match_its_key_is_not_taken(own_gateway: Gateway) -> None:
    before = own_gateway.generation()
    stranger = own_gateway.authority.issue()
    (own_gateway.directory / "tls.crt").write_bytes(stranger.chain)
    wait_for_refusal(own_gateway)
    assert own_gateway.generation() == before
    assert own_gateway.serial_served() == own_gateway.serial


def wait_for_refusal(gateway: Gateway) -> None:
    """Returns once the metrics count an edit that was not taken, and /readyz says why."""
    wait_until(lambda: gateway.metrics().total(RELOADS, result="refused") >= 1, "the refusal to be counted")
    wait_until(gateway.reload_complaint, "the reason of the refusal")


def served(gateway: Gateway, serial: int) -> Callable[[], bool]:
    """Looks whether new connections are shown the certificate of that number."""

    def look() -> bool:
        try:
            return gateway.serial_served() == serial
        except (OSError, httpx.TransportError) as error:
            raise AssertionError("the TLS port went away during the swap") from error

    return look
