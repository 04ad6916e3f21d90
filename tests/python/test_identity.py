"""An application that takes the gateway's word alone is safe from whoever reaches it around the gateway."""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support.gateway import Gateway
from support.gunicorn import Gunicorn
from support.site import Site

ISSUER = "https://gateway.example.com"
FIELD = "X-Portcullis-Identity"
TYPE = "portcullis-identity+jwt"
PATH = "/api/vouched/"

TABLES = """
    [identity]
    key = "{key}"
    issuer = "https://gateway.example.com"

    [[route]]
    name = "vouched"
    path = "/api/vouched/"
    auth = {{ issuer = "django" }}
    identity_token = true
    upstream = "web"

    [[route]]
    name = "keys"
    path = "/.well-known/jwks.json"
    auth = "public"
    publish = "jwks"
"""


@pytest.fixture
def vouching(own_gateway: Gateway, site: Site) -> Gateway:
    """A gateway that signs for what it lets through to `PATH`."""
    before = own_gateway.generation()
    own_gateway.configure(TABLES.format(key=site.identity_key))
    own_gateway.wait_generation_after(before)
    return own_gateway


@pytest.fixture
def around(upstream: Gunicorn) -> Iterator[httpx.Client]:
    """A client that has found the way to Gunicorn itself."""
    with upstream.client("localhost") as opened:
        yield opened


def signed(key: Any, algorithm: str = "EdDSA", typ: str = TYPE, **claims: Any) -> str:
    """A token as the gateway signs it for Alice's GET; a claim given as `None` is left out."""
    now = int(time.time())
    whole = {
        "iss": ISSUER,
        "aud": "web",
        "sub": "1",
        "issuer": "django",
        "htm": "GET",
        "htp": PATH,
        "iat": now,
        "exp": now + 30,
        "jti": secrets.token_urlsafe(16),
        **claims,
    }
    kept = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"typ": typ})


@pytest.mark.parametrize(
    "target",
    ["", "?a=1&b=%2F&c", "na%20me/", "a%2Bb/?x=y%3Fz", "%E2%82%AC/", "?"],
    ids=["path", "query", "space", "plus", "euro", "empty query"],
)
def test_what_comes_through_the_gateway_passes(vouching: Gateway, alice: dict[str, str], target: str) -> None:
    with vouching.client() as client:
        got = client.get(PATH + target, headers=alice)
        posted = client.post(PATH + target, headers=alice, json={"a": 1})
    for answer in (got, posted):
        assert answer.status_code == 200, answer.text
        assert answer.json()["user"] == "alice"
    assert posted.json()["body"] == {"a": 1}


def test_no_client_speaks_for_the_gateway(vouching: Gateway, site: Site, alice: dict[str, str]) -> None:
    forged = signed(site.identity_key.read_text())
    with vouching.client() as client:
        assert client.get(PATH, headers={FIELD: forged}).status_code == 401
        for name in (FIELD, FIELD.replace("-", "_")):
            seen = client.get("/public/echo/", headers={name: forged})
            assert (seen.status_code, forged in seen.text) == (200, False)
        seen = client.get(PATH, headers={**alice, FIELD: forged})
    assert (seen.status_code, forged in seen.text) == (200, False)


def test_who_goes_around_the_gateway_is_refused(around: httpx.Client, alice: dict[str, str]) -> None:
    for headers in ({}, alice, {"X-User-Id": "1"}, {FIELD: ""}, {FIELD: alice["Authorization"][7:]}):
        assert around.get(PATH, headers=headers).status_code == 403, headers


def test_a_token_that_passed_once_is_spent(vouching: Gateway, around: httpx.Client, alice: dict[str, str]) -> None:
    with vouching.client() as client:
        spent = client.get(PATH, headers=alice).json()["headers"][FIELD.lower()]
    assert around.get(PATH, headers={FIELD: spent}).status_code == 403


FORGERIES: dict[str, Callable[[Site], str]] = {
    "another key": lambda _: signed(Ed25519PrivateKey.generate()),
    "the public key as a secret": lambda _: signed("0" * 64, "HS256"),
    "unsigned": lambda _: signed(None, "none"),
    "expired": lambda site: signed(site.identity_key.read_text(), iat=int(time.time()) - 31, exp=int(time.time()) - 1),
    "from the future": lambda site: signed(site.identity_key.read_text(), iat=int(time.time()) + 20),
    "for ever": lambda site: signed(site.identity_key.read_text(), exp=None),
    "for another application": lambda site: signed(site.identity_key.read_text(), aud="other"),
    "of another gateway": lambda site: signed(site.identity_key.read_text(), iss="https://other.example.com"),
    "of another type": lambda site: signed(site.identity_key.read_text(), typ="JWT"),
    "for another method": lambda site: signed(site.identity_key.read_text(), htm="POST"),
    "for another path": lambda site: signed(site.identity_key.read_text(), htp="/api/vouched/x/"),
    "for another query": lambda site: signed(site.identity_key.read_text(), htp="/api/vouched/?a=1"),
    "of nobody": lambda site: signed(site.identity_key.read_text(), sub=None),
    "of no user": lambda site: signed(site.identity_key.read_text(), sub="no-number"),
    "without an id": lambda site: signed(site.identity_key.read_text(), jti=None),
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_a_token_that_is_not_for_this_request_is_refused(
    around: httpx.Client, site: Site, forgery: Callable[[Site], str]
) -> None:
    good = around.get(PATH, headers={FIELD: signed(site.identity_key.read_text())})
    assert (good.status_code, good.json()["user"]) == (200, "alice")
    refused = around.get(PATH, headers={FIELD: forgery(site)})
    assert refused.status_code == 403, refused.text


def test_the_path_that_is_compared_is_the_one_django_serves(around: httpx.Client, site: Site) -> None:
    # Gunicorn believes this field of a peer it trusts, and cuts it off the path.
    asked = "/api/api/vouched/"
    token = signed(site.identity_key.read_text(), htp=asked)
    assert around.get(asked, headers={FIELD: token}).status_code == 404
    assert around.get(asked, headers={FIELD: token, "SCRIPT_NAME": "/api"}).status_code == 403


def test_the_published_key_verifies_what_the_gateway_signs(
    vouching: Gateway, alice: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "localhost")
    with vouching.client() as client:
        token = client.get(PATH, headers=alice).json()["headers"][FIELD.lower()]
    keys = jwt.PyJWKClient(f"{vouching.url}/.well-known/jwks.json", ssl_context=vouching.authority.trust())
    key = keys.get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["EdDSA"], issuer=ISSUER, audience="web")
    assert (claims["sub"], claims["issuer"]) == ("1", "django")
    assert (claims["htm"], claims["htp"], claims["exp"] - claims["iat"]) == ("GET", PATH, 30)
