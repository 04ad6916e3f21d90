"""simplejwt signs with RS256 and names no key; a new key takes over, and nobody is logged out before the old goes."""

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest

from support.certificates import Authority
from support.forging import b64, compact, hmac_by
from support.gateway import Gateway
from support.gunicorn import Gunicorn
from support.refusals import CHALLENGE, assert_same_refusal, not_valid
from support.signing_key import SigningKey
from support.site import PASSWORD, Site
from support.tokens import mint, unsigned, with_claims_changed, with_signature_changed
from support.waiting import free_ports, wait_until
from support.whoami import bearer


@pytest.fixture(scope="module")
def old_key() -> SigningKey:
    """The key that Django signs with at first."""
    return SigningKey.generate()


@pytest.fixture(scope="module")
def new_key() -> SigningKey:
    """The key that takes its place."""
    return SigningKey.generate()


@pytest.fixture
def before(site: Site, old_key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """Django before the rotation."""
    yield from _served(Gunicorn(site.signing_with(old_key), tmp_path_factory.mktemp("before"), free_ports(1)[0]))


@pytest.fixture
def after(
    site: Site, new_key: SigningKey, before: Gunicorn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gunicorn]:
    """Django after it, at the same place; a story starts it when it has stopped the one before."""
    after = Gunicorn(site.signing_with(new_key), tmp_path_factory.mktemp("after"), before.port)
    try:
        yield after
    finally:
        after.stop()


@pytest.fixture
def gateway(before: Gunicorn, authority: Authority, old_key: SigningKey, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that trusts the old key, for one story alone."""
    yield from _trusting_the_old_key(before, authority, old_key, tmp_path)


@pytest.fixture(scope="module")
def lasting(site: Site, old_key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """Django with the old key, for the stories that leave it as it is."""
    yield from _served(Gunicorn(site.signing_with(old_key), tmp_path_factory.mktemp("lasting"), free_ports(1)[0]))


@pytest.fixture(scope="module")
def lasting_gateway(
    lasting: Gunicorn, authority: Authority, old_key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway before it."""
    yield from _trusting_the_old_key(lasting, authority, old_key, tmp_path_factory.mktemp("lasting-gateway"))


def trusting(*names: str) -> str:
    """The keys of the issuer's table."""
    files = ", ".join(f'"{name}.pem"' for name in names)
    return f'public_keys = [{files}]\nalgorithms = ["RS256"]'


def token_of(upstream: Gunicorn) -> str:
    """A token that simplejwt issues for Alice's password."""
    with upstream.client("localhost") as client:
        pair = client.post("/api/token/", json={"username": "alice", "password": PASSWORD})
    assert pair.status_code == 200, pair.text
    token: str = pair.json()["access"]
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "RS256", "typ": "JWT"}, "simplejwt names no key"
    return token


def trust(gateway: Gateway, *names: str) -> None:
    """Edits the configuration, and returns when it is live."""
    before = gateway.generation()
    gateway.issuer_keys = trusting(*names)
    gateway.configure()
    gateway.wait_generation_after(before)


def test_a_key_is_exchanged_without_anybody_being_logged_out(
    gateway: Gateway, before: Gunicorn, after: Gunicorn, new_key: SigningKey
) -> None:
    old = token_of(before)
    with gateway.client() as client:

        def statuses() -> tuple[int, int]:
            answers = [client.get("/guarded/echo/", headers=bearer(token)) for token in (old, new)]
            return answers[0].status_code, answers[1].status_code

        assert client.get("/api/me/", headers=bearer(old)).json()["user"] == "alice"

        (gateway.directory / "new.pem").write_text(new_key.public_pem)
        trust(gateway, "old", "new")
        assert client.get("/api/me/", headers=bearer(old)).json()["user"] == "alice"

        before.stop()
        after.start()
        new = token_of(after)
        for _ in range(3):
            assert statuses() == (200, 200)
        assert client.get("/api/me/", headers=bearer(new)).json()["user"] == "alice"

        trust(gateway, "new")
        for _ in range(3):
            assert statuses() == (401, 200), "also for a token that was verified and remembered"
        refused = client.get("/guarded/echo/", headers=bearer(old))
        assert refused.content == not_valid("Token is invalid")


def test_the_order_of_the_keys_means_nothing(gateway: Gateway, before: Gunicorn, new_key: SigningKey) -> None:
    token = token_of(before)
    (gateway.directory / "new.pem").write_text(new_key.public_pem)
    with gateway.client() as client:
        for order in (("new", "old"), ("old", "new")):
            trust(gateway, *order)
            assert client.get("/guarded/echo/", headers=bearer(token)).status_code == 200


def test_a_key_file_that_is_replaced_needs_no_edit(gateway: Gateway, before: Gunicorn, new_key: SigningKey) -> None:
    token = token_of(before)
    with gateway.client() as client:
        assert client.get("/guarded/echo/", headers=bearer(token)).status_code == 200
        (gateway.directory / "draft.pem").write_text(new_key.public_pem)
        (gateway.directory / "draft.pem").replace(gateway.directory / "old.pem")
        wait_until(
            lambda: client.get("/guarded/echo/", headers=bearer(token)).status_code == 401, "the old key to be gone"
        )


def test_a_private_key_is_not_taken_for_a_public_one(gateway: Gateway, before: Gunicorn, new_key: SigningKey) -> None:
    """What would be a leak on the gateway's disk is refused, and what ran goes on."""
    token = token_of(before)
    generation = gateway.generation()
    (gateway.directory / "new.pem").write_text(new_key.private_pem)
    gateway.issuer_keys = trusting("new")
    gateway.configure()
    complaint = wait_until(gateway.reload_complaint, "the private key to be refused")
    assert "private key" in complaint
    assert "MII" not in complaint + gateway.process_log.read_text()
    assert gateway.generation() == generation
    with gateway.client() as client:
        assert client.get("/guarded/echo/", headers=bearer(token)).status_code == 200


REFUSED: dict[str, tuple[Callable[[SigningKey, SigningKey], str], str]] = {
    "another key": (lambda _, other: _for_alice(other), "Token is invalid"),
    "tampered claims": (lambda key, _: with_claims_changed(_for_alice(key), user_id="2"), "Token is invalid"),
    "tampered signature": (lambda key, _: with_signature_changed(_for_alice(key)), "Token is invalid"),
    "unsigned": (lambda _, __: unsigned(), "Token is invalid"),
    "the public key as secret": (lambda key, _: _with_the_public_key_as_secret(key), "Token is invalid"),
    "Django's secret": (lambda _, __: mint("k" * 64), "Token is invalid"),
    "another hash": (lambda key, _: mint(key.private_pem, "RS512"), "Token is invalid"),
    "another padding": (lambda key, _: mint(key.private_pem, "PS256"), "Token is invalid"),
    "a signature of nothing": (lambda key, _: _signed_by_zeros(key), "Token is invalid"),
    "expired": (lambda key, _: _for_alice(key, exp=int(time.time()) - 1), "Token is expired"),
    "a refresh token": (lambda key, _: _for_alice(key, token_type="refresh"), "Token has wrong type"),
    "no id": (lambda key, _: _for_alice(key, jti=None), "Token has no id"),
}
"""Tokens made of the trusted key and another, and what simplejwt says of them."""


@pytest.mark.parametrize("title", REFUSED)
def test_a_bad_rs256_token_gets_the_very_answer_of_simplejwt(
    lasting_gateway: Gateway, lasting: Gunicorn, old_key: SigningKey, new_key: SigningKey, title: str
) -> None:
    token, message = REFUSED[title]
    headers, mark = bearer(token(old_key, new_key)), secrets.token_hex(8)
    with lasting_gateway.client() as client, lasting.client(lasting_gateway.host) as direct:
        gated, own = client.get(f"/api/me/?{mark}", headers=headers), direct.get("/api/me/", headers=headers)
    assert (gated.status_code, gated.content) == (401, not_valid(message))
    assert gated.headers["www-authenticate"] == CHALLENGE
    assert_same_refusal(gated, own)
    assert lasting.requests_seen()[mark] == 0


def _for_alice(key: SigningKey, **changes: object) -> str:
    return mint(key.private_pem, "RS256", **changes)


def _with_the_public_key_as_secret(key: SigningKey) -> str:
    claims = jwt.decode(_for_alice(key), options={"verify_signature": False})
    return compact({"alg": "HS256", "typ": "JWT"}, claims, hmac_by(key.public_pem.encode()))


def _signed_by_zeros(key: SigningKey) -> str:
    return f"{_for_alice(key).rpartition('.')[0]}.{b64(bytes(256))}"


def _served(upstream: Gunicorn) -> Iterator[Gunicorn]:
    try:
        upstream.start()
        yield upstream
    finally:
        upstream.stop()


def _trusting_the_old_key(
    upstream: Gunicorn, authority: Authority, key: SigningKey, directory: Path
) -> Iterator[Gateway]:
    (directory / "old.pem").write_text(key.public_pem)
    gateway = Gateway(
        directory=directory,
        authority=authority,
        endpoint=upstream.endpoint,
        static_root=upstream.site.static_root,
        secret="of no use to anybody here",
        issuer_keys=trusting("old"),
    )
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()
