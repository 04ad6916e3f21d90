"""What a client says about itself in the gateway's own words never reaches Django."""

import httpx
import pytest

from support.gateway import CLIENT_ADDRESS, Gateway
from support.spoofing import FORGED, MARK


@pytest.mark.parametrize("path", ["/public/echo/", "/guarded/echo/"])
@pytest.mark.parametrize("forged", FORGED, ids=lambda forged: forged[0])
def test_one_forged_header_leaves_no_trace(
    client: httpx.Client, alice: dict[str, str], path: str, forged: tuple[str, str]
) -> None:
    seen = client.get(path, headers=[*alice.items(), forged])
    assert seen.status_code == 200, seen.text
    assert MARK not in seen.text


def test_all_of_them_together_change_nothing(client: httpx.Client, gateway: Gateway, alice: dict[str, str]) -> None:
    seen = client.get("/api/me/", headers=[*alice.items(), *FORGED])
    assert seen.status_code == 200, seen.text
    me = seen.json()
    assert MARK not in seen.text
    assert (me["scheme"], me["host"], me["script_name"]) == ("https", gateway.host, "")
    assert (me["full_path"], me["path_info"]) == ("/api/me/", "/api/me/")
    assert me["headers"]["x-forwarded-for"] == CLIENT_ADDRESS
    assert me["headers"]["x-user-id"] == str(me["user_id"])


def test_a_public_route_carries_no_identity_at_all(client: httpx.Client, alice: dict[str, str]) -> None:
    seen = client.get("/public/echo/", headers=[*alice.items(), ("X-User-Id", "1")])
    assert "x-user-id" not in seen.json()["headers"]


@pytest.mark.parametrize("named", ["x-user-id", "x-forwarded-for", "x-forwarded-proto", "authorization"])
def test_the_connection_header_cannot_strip_what_the_gateway_sets(
    gateway: Gateway, alice: dict[str, str], named: str
) -> None:
    with gateway.client() as client:
        me = client.get("/api/me/", headers=[*alice.items(), ("Connection", f"keep-alive, {named}")])
    assert me.status_code == 200, me.text
    assert named in me.json()["headers"]


def test_each_request_has_an_id_that_django_and_the_client_both_see(
    client: httpx.Client,
) -> None:
    answers = [client.get("/public/echo/") for _ in range(3)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert [answer.json()["headers"]["x-request-id"] for answer in answers] == ids
