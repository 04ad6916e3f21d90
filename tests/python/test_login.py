"""A user logs in through a public route and is known behind the protected ones."""

import httpx
import pytest

from support.gateway import CLIENT_ADDRESS, Gateway
from support.site import PASSWORD
from support.tokens import mint


@pytest.mark.parametrize(("http2", "version"), [(False, "HTTP/1.1"), (True, "HTTP/2")])
def test_the_client_and_the_gateway_agree_on_a_version_by_alpn(gateway: Gateway, http2: bool, version: str) -> None:
    with gateway.client(http2=http2) as client:
        assert client.get("/public/echo/").http_version == version


def test_a_login_through_the_public_route_opens_the_protected_one(client: httpx.Client) -> None:
    pair = client.post("/api/token/", json={"username": "alice", "password": PASSWORD})
    assert pair.status_code == 200, pair.text
    me = client.get("/api/me/", headers={"Authorization": f"Bearer {pair.json()['access']}"})
    assert (me.status_code, me.json()["user"]) == (200, "alice")


def test_a_refreshed_token_opens_it_too(client: httpx.Client) -> None:
    pair = client.post("/api/token/", json={"username": "bob", "password": PASSWORD}).json()
    fresh = client.post("/api/token/refresh/", json={"refresh": pair["refresh"]})
    assert fresh.status_code == 200, fresh.text
    me = client.get("/api/me/", headers={"Authorization": f"Bearer {fresh.json()['access']}"})
    assert (me.json()["user"], me.json()["is_staff"]) == ("bob", True)


def test_a_wrong_password_is_django_s_own_refusal_passed_on(client: httpx.Client, direct: httpx.Client) -> None:
    wrong = {"username": "alice", "password": "wrong"}
    gated, own = client.post("/api/token/", json=wrong), direct.post("/api/token/", json=wrong)
    assert (gated.status_code, gated.content) == (own.status_code, own.content) == (401, own.content)
    assert gated.headers.get_list("www-authenticate") == own.headers.get_list("www-authenticate")


def test_django_sees_the_user_the_scheme_the_host_and_the_client_address(
    client: httpx.Client, gateway: Gateway, alice: dict[str, str]
) -> None:
    me = client.get("/api/me/", params={"q": "a b"}, headers=alice).json()
    assert (me["user"], me["is_staff"]) == ("alice", False)
    assert (me["scheme"], me["host"]) == ("https", gateway.host)
    assert me["absolute_uri"] == f"{gateway.url}{me['full_path']}"
    assert me["full_path"].startswith("/api/me/?q=a")
    assert me["headers"]["x-forwarded-for"] == CLIENT_ADDRESS
    assert me["headers"]["x-forwarded-proto"] == "https"
    assert me["headers"]["authorization"] == alice["Authorization"]
    assert me["headers"]["x-user-id"] == str(me["user_id"])


def test_the_scheme_word_is_made_canonical_because_simplejwt_compares_it_by_case(
    client: httpx.Client, direct: httpx.Client, alice: dict[str, str]
) -> None:
    shouted = {"Authorization": alice["Authorization"].replace("Bearer", "bEARER")}
    assert direct.get("/api/me/", headers=shouted).status_code == 401
    me = client.get("/api/me/", headers=shouted)
    assert (me.status_code, me.json()["user"]) == (200, "alice")


@pytest.mark.parametrize("user_id", [7, 2**60 + 1, "7f6c2d"])
def test_a_user_id_reaches_django_digit_for_digit(client: httpx.Client, gateway: Gateway, user_id: int | str) -> None:
    token = mint(gateway.secret, user_id=user_id)
    seen = client.get("/guarded/echo/", headers={"Authorization": f"Bearer {token}"})
    assert seen.json()["headers"]["x-user-id"] == str(user_id)
