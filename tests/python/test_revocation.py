"""A token that was revoked stays so, in whatever spelling its bearer finds for it."""

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.forging import AUDIENCE, EC_KID, ISSUER, P256_ORDER, RSA_KID, Pair, b64, claims, compact
from support.gateway import binary
from support.whoami import WhoamiGateway, bearer

PATH = "/corp/"


@pytest.fixture(scope="module")
def keys() -> Pair:
    """The issuer's keys."""
    return Pair()


@pytest.fixture
def gateway(make_gateway: Callable[..., WhoamiGateway], keys: Pair, tmp_path: Path) -> WhoamiGateway:
    """A gateway that trusts both, and keeps what was revoked."""
    (tmp_path / "set.json").write_text(json.dumps({"keys": [keys.jwk(RSA_KID), keys.ec_jwk(EC_KID)]}))
    started = make_gateway(corp=f'jwks_file = "set.json"\nissuer = "{ISSUER}"\naudiences = ["{AUDIENCE}"]')
    started.configure('[revocation]\njournal = "revoked.journal"\n')
    started.start()
    return started


def revoke(gateway: WhoamiGateway, *words: str, said: str = "") -> None:
    """Has the operator's command revoke something."""
    argv = [str(binary()), "revoke", "--config", str(gateway.config_file), *words]
    done = subprocess.run(argv, input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def by_es256(keys: Pair) -> str:
    """A good token."""
    return compact({"alg": "ES256", "kid": EC_KID}, claims(jti="a"), keys.es)


def by_rs256(keys: Pair) -> str:
    """A good token."""
    return compact({"alg": "RS256", "kid": RSA_KID}, claims(jti="a"), keys.rs())


def twin_of(token: str) -> str:
    """The same claims with the other signature that ECDSA has for them, (r, n - s), which anybody can work out."""
    head, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    return f"{head}.{b64(raw[:32] + (P256_ORDER - int.from_bytes(raw[32:])).to_bytes(32))}"


@pytest.mark.parametrize("make", [by_es256, by_rs256], ids=["ES256", "RS256"])
def test_a_token_that_was_given_to_the_operator_is_revoked_at_once(
    gateway: WhoamiGateway, keys: Pair, make: Callable[[Pair], str]
) -> None:
    token = make(keys)
    with gateway.client() as client:
        assert client.get(PATH, headers=bearer(token)).status_code == 200
        revoke(gateway, "--token", "-", said=token)
        with gateway.deciding("corp", revoked=3):
            assert [client.get(PATH, headers=bearer(token)).status_code for _ in range(3)] == [401] * 3


@pytest.mark.parametrize("how", ["--token", "--jti", "--sub"])
def test_the_twin_of_a_revoked_token_is_revoked_too(gateway: WhoamiGateway, keys: Pair, how: str) -> None:
    token = by_es256(keys)
    with gateway.client() as client:
        assert client.get(PATH, headers=bearer(twin_of(token))).status_code == 200, "a twin is as good as the other"
        words = {"--token": ("--token", "-"), "--jti": ("--jti", "a"), "--sub": ("--sub", "ann")}[how]
        revoke(gateway, *words, said=token)
        with gateway.deciding("corp", revoked=2):
            for each in (token, twin_of(token)):
                assert client.get(PATH, headers=bearer(each)).status_code == 401
