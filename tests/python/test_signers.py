"""Whoever signs by the standard is understood, and only as long as nothing of the token is wrong.

Three independent libraries sign; every algorithm, and every way of telling the gateway the key.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.certificates import Authority
from support.node import Peer
from support.signers import ALGORITHMS, AUDIENCE, ISSUER, LIBRARIES, Key, claims, key_set, new_key
from support.tokens import with_claims_changed, with_header_changed, with_signature_changed
from support.whoami import PERMITTED, WhoamiGateway, assert_refused, bearer

RULES = f'issuer = "{ISSUER}"\naudiences = ["{AUDIENCE}", "billing"]\nleeway_secs = 0\n'
KEY_FORMS = {"secret": ("HS",), "pem": ("RS", "PS", "ES", "Ed"), "set": ("HS", "RS", "PS", "ES", "Ed")}
"""How a key is configured, and which algorithms' keys can be."""
ISSUERS = tuple(
    (library, alg, form)
    for library in LIBRARIES
    for alg in ALGORITHMS
    for form, families in KEY_FORMS.items()
    if alg[:2] in families
)


@dataclass(frozen=True)
class Signer:
    """One issuer of the gateway and the key that it trusts."""

    name: str
    key: Key
    other: Key
    """A key of the same library, algorithm and `kid` which the gateway does not know."""

    @property
    def path(self) -> str:
        """Where its tokens pass."""
        return f"/{self.name}/"


@pytest.fixture(scope="module")
def signers(signer: Peer) -> dict[str, Signer]:
    """One for every library, algorithm and form, by name."""
    pairs = {
        (library, alg): [new_key(library, alg, f"{library}-{alg}-key", signer) for _ in range(2)]
        for library in LIBRARIES
        for alg in ALGORITHMS
    }
    named = {f"{library}-{alg}-{form}": pairs[library, alg] for library, alg, form in ISSUERS}
    return {name: Signer(name, *pair) for name, pair in named.items()}


@pytest.fixture(scope="module")
def gateway(
    signers: dict[str, Signer], authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WhoamiGateway]:
    """A gateway that trusts each of them on a route of its own."""
    directory = tmp_path_factory.mktemp("signers")
    issuers = {name: RULES + key_lines(one.key, name.rpartition("-")[2], directory) for name, one in signers.items()}
    started = WhoamiGateway(directory=directory, authority=authority, issuers=issuers)
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def client(gateway: WhoamiGateway) -> Iterator[httpx.Client]:
    """One connection for all: what is wrong with one token is never held against the next."""
    with gateway.client(http2=True) as opened:
        yield opened


@pytest.fixture(params=[f"{library}-{alg}-{form}" for library, alg, form in ISSUERS])
def one(request: pytest.FixtureRequest, signers: dict[str, Signer]) -> Signer:
    """Each issuer in turn."""
    return signers[request.param]


def key_lines(key: Key, form: str, directory: Path) -> str:
    """The keys of an issuer's table, and the file they name."""
    file = directory / f"{key.kid}.{form}"
    if form == "secret":
        file.write_text(key.secret or "")
        return f'secret = {{ file = "{file}" }}\nalgorithms = ["{key.alg}"]'
    if form == "pem":
        file.write_text(key.pem or "")
        return f'public_keys = ["{file}"]\nalgorithms = ["{key.alg}"]'
    file.write_text(key_set(key))
    return f'jwks_file = "{file}"'


GOOD: dict[str, Callable[[Signer], str]] = {
    "plain": lambda one: one.key.sign(claims()),
    "without kid": lambda one: one.key.sign(claims(), kid=None),
    "typed": lambda one: one.key.sign(claims(), typ="at+jwt"),
    "among audiences": lambda one: one.key.sign(claims(aud=["elsewhere", AUDIENCE])),
    "for the second audience": lambda one: one.key.sign(claims(aud="billing")),
    "already valid": lambda one: one.key.sign(claims(nbf=int(time.time()) - 1)),
    "by fractions of a second": lambda one: one.key.sign(claims(exp=time.time() + 60.5, iat=time.time() - 0.5)),
    "beyond ASCII": lambda one: one.key.sign(claims(name="Zoë 🜁", roles={"a": [1, None, True, 1e3]})),
}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a token, and the reason it is refused for."""

    title: str
    token: Callable[[Signer], str]
    reason: str


FAULTS = (
    Fault("claims changed", lambda one: with_claims_changed(one.key.sign(claims()), sub="eve"), "bad_signature"),
    Fault("header changed", lambda one: with_header_changed(one.key.sign(claims()), cty="x"), "bad_signature"),
    Fault("signature changed", lambda one: with_signature_changed(one.key.sign(claims())), "bad_signature"),
    Fault("another key", lambda one: one.other.sign(claims()), "bad_signature"),
    Fault("another key, no kid", lambda one: one.other.sign(claims(), kid=None), "bad_signature"),
    Fault("expired", lambda one: one.key.sign(claims(exp=int(time.time()) - 1)), "expired"),
    Fault("not yet valid", lambda one: one.key.sign(claims(nbf=int(time.time()) + 60)), "not_yet_valid"),
    Fault("from the future", lambda one: one.key.sign(claims(iat=int(time.time()) + 600)), "not_yet_valid"),
    Fault("no expiry", lambda one: one.key.sign(claims(exp=None)), "missing_claim"),
    Fault("wrong audience", lambda one: one.key.sign(claims(aud=["elsewhere", "orders2"])), "wrong_audience"),
    Fault("no audience", lambda one: one.key.sign(claims(aud=None)), "missing_claim"),
    Fault("wrong issuer", lambda one: one.key.sign(claims(iss="https://id.example")), "wrong_issuer"),
    Fault("no issuer", lambda one: one.key.sign(claims(iss=None)), "missing_claim"),
)


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_token_of_every_library_and_algorithm_passes(
    client: httpx.Client, gateway: WhoamiGateway, one: Signer, kind: str
) -> None:
    token = GOOD[kind](one)
    with gateway.deciding(one.name, **{PERMITTED: 1}):
        answer = client.get(one.path, headers=bearer(token))
    assert answer.status_code == 200, answer.text
    assert answer.json()["headers"]["authorization"] == f"Bearer {token}"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.title)
def test_a_token_with_one_thing_wrong_is_refused_for_that(
    client: httpx.Client, gateway: WhoamiGateway, one: Signer, fault: Fault
) -> None:
    token = fault.token(one)
    with gateway.deciding(one.name, **{fault.reason: 1}):
        answer = client.get(one.path, headers=bearer(token))
    assert_refused(answer, 401)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.title)
def test_the_access_log_names_the_reason_and_the_client_is_not_told(
    client: httpx.Client, gateway: WhoamiGateway, signers: dict[str, Signer], fault: Fault
) -> None:
    answers = [client.get(one.path, headers=bearer(fault.token(one))) for one in signers.values()]
    outcomes = gateway.outcomes({answer.headers["x-request-id"] for answer in answers})
    assert set(outcomes.values()) == {fault.reason}
    assert {answer.content for answer in answers} == {answers[0].content}
    assert fault.reason.encode() not in answers[0].content


def test_no_issuer_s_token_passes_for_another(client: httpx.Client, signers: dict[str, Signer]) -> None:
    """Whatever the two have in common: library, form, `iss` and `aud`."""
    everyone = list(signers.values())
    for one, next_one in zip(everyone, [*everyone[2:], *everyone[:2]], strict=True):
        assert one.key is not next_one.key
        answer = client.get(next_one.path, headers=bearer(one.key.sign(claims())))
        assert answer.status_code == 401, f"{one.name} passed for {next_one.name}"


def test_one_set_holds_the_keys_of_every_algorithm_of_every_library(
    signers: dict[str, Signer], authority: Authority, tmp_path: Path
) -> None:
    """27 public keys in one set; the gateway finds each by its `kid`, and none by another's."""
    keys = list({one.key.kid: one.key for one in signers.values() if one.key.secret is None}.values())
    assert len(keys) == 27
    (tmp_path / "set.json").write_text(key_set(*keys))
    lines: dict[str, Any] = {"all": RULES + f'jwks_file = "{tmp_path}/set.json"'}
    gateway = WhoamiGateway(directory=tmp_path, authority=authority, issuers=lines)
    try:
        gateway.start()
        with gateway.client(http2=True) as client:
            for key in keys:
                assert client.get("/all/", headers=bearer(key.sign(claims()))).status_code == 200, key.kid
                stolen = key.sign(claims(), kid=keys[0].kid if key is not keys[0] else keys[1].kid)
                assert client.get("/all/", headers=bearer(stolen)).status_code == 401, key.kid
    finally:
        gateway.stop()
