"""Every published attack on a verifier of tokens is refused, over both versions of HTTP and for the right reason."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from support.attacks import ATTACKS, HONEST
from support.attacks.attack import Attack
from support.certificates import Authority
from support.forging import AUDIENCE, EC_KID, ISSUER, RSA_KID, Pair, Scene, claims, django_claims
from support.lure import Lure, laid
from support.node import Peer
from support.whoami import WhoamiGateway, assert_refused, bearer

RULES = f'issuer = "{ISSUER}"\naudiences = ["{AUDIENCE}"]\nleeway_secs = 0\n'
DJANGO_CHALLENGE = 'Bearer realm="api"'


@pytest.fixture(scope="module")
def lure() -> Iterator[Lure]:
    """Where tokens say that keys are."""
    with laid() as listening:
        yield listening


@pytest.fixture(scope="module")
def scene(signer: Peer, lure: Lure) -> Scene:
    """The keys of both sides."""
    return Scene(Pair(), Pair(), "a secret of Django's that nobody guesses, 50 letters", lure.url, signer)


@pytest.fixture(scope="module")
def issuers(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tables of every kind of issuer that is attacked."""
    files = tmp_path_factory.mktemp("keys")
    honest = scene.honest
    (files / "set.json").write_text(json.dumps({"keys": [honest.jwk(RSA_KID), honest.ec_jwk(EC_KID)]}))
    (files / "rsa.pem").write_bytes(honest.spki(Encoding.PEM))
    (files / "ed.pem").write_bytes(honest.spki(Encoding.PEM, honest.ed_key))
    (files / "secret").write_text(scene.secret)
    made = scene.node.ask(operation="generate", handle="attacks", alg="ES256")
    (files / "jose.pem").write_text(made["pem"])
    key_set = f'{RULES}jwks_file = "{files}/set.json"\n'
    return {
        "corp": key_set,
        "access": f'{key_set}token_types = ["at+jwt"]\n',
        "pem": f'{RULES}public_keys = ["{files}/rsa.pem"]\nalgorithms = ["RS256"]\n',
        "ed": f'{RULES}public_keys = ["{files}/ed.pem"]\n',
        "jose": f'{RULES}public_keys = ["{files}/jose.pem"]\n',
        "django": f'preset = "simplejwt"\nsecret = {{ file = "{files}/secret" }}\n',
    }


@pytest.fixture(scope="module")
def gateway(
    issuers: dict[str, str], authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WhoamiGateway]:
    """A gateway that reads heads of 128 KiB, so that what a long token meets is not the parser of HTTP."""
    started = WhoamiGateway(
        directory=tmp_path_factory.mktemp("attacked"),
        authority=authority,
        issuers=issuers,
        limits="header_bytes = 131072",
    )
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module", params=[False, True], ids=["h1", "h2"])
def client(request: pytest.FixtureRequest, gateway: WhoamiGateway) -> Iterator[httpx.Client]:
    """One connection over each version of HTTP: no attack costs the next request its connection."""
    with gateway.client(http2=request.param) as opened:
        yield opened


def send(client: httpx.Client, attack: Attack, scene: Scene) -> httpx.Response:
    """Sends the token as a client would its own."""
    token = attack.token(scene)
    raw = token if isinstance(token, bytes) else token.encode("latin-1")
    return client.get(f"/{attack.issuer}/", headers=[(b"Authorization", b"Bearer " + raw)])


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.title)
def test_an_attack_is_refused_for_the_right_reason(
    client: httpx.Client, gateway: WhoamiGateway, scene: Scene, attack: Attack
) -> None:
    with gateway.deciding(attack.issuer, **{attack.reason: 1}):
        answer = send(client, attack, scene)
    if attack.issuer == "django":
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, DJANGO_CHALLENGE)
    else:
        assert_refused(answer, attack.status)


@pytest.mark.parametrize("attack", HONEST, ids=lambda attack: attack.title)
def test_what_the_attacks_are_made_from_passes(
    client: httpx.Client, gateway: WhoamiGateway, scene: Scene, attack: Attack
) -> None:
    with gateway.deciding(attack.issuer, **{attack.reason: 1}):
        assert send(client, attack, scene).status_code == 200


def test_the_access_log_has_the_reason_of_each_and_no_token(
    client: httpx.Client, gateway: WhoamiGateway, scene: Scene
) -> None:
    answers = {send(client, attack, scene).headers["x-request-id"]: attack for attack in ATTACKS}
    outcomes = gateway.outcomes(answers.keys())
    assert outcomes == {request_id: attack.reason for request_id, attack in answers.items()}
    written = gateway.access_log.read_text() + gateway.process_log.read_text()
    assert "eyJ" not in written, "a part of a token was written down"
    assert "Set-Cookie" not in written


def test_nobody_asks_where_a_token_says_that_keys_are(
    issuers: dict[str, str], authority: Authority, scene: Scene, lure: Lure, tmp_path: Path
) -> None:
    """The gateway is stopped before the connections are counted, so that none can come later."""
    gateway = WhoamiGateway(directory=tmp_path, authority=authority, issuers=issuers)
    pointing = [attack for attack in (*ATTACKS, *HONEST) if "jku" in attack.title or "x5u" in attack.title]
    try:
        gateway.start()
        with gateway.client() as client:
            statuses = {send(client, attack, scene).status_code for attack in pointing}
        gateway.daemon.signal(signal.SIGTERM)
        assert gateway.daemon.wait_exit() == 0
    finally:
        gateway.stop()
    assert statuses == {200, 401}
    assert lure.callers == []
    lure.call()
    assert len(lure.callers) == 1, "the lure does count"
    lure.callers.clear()


def test_a_token_is_looked_for_in_one_place_alone(client: httpx.Client, gateway: WhoamiGateway, scene: Scene) -> None:
    good = scene.signed(claims())
    elsewhere = {"Cookie": f"access_token={good}", "X-Authorization": f"Bearer {good}", "Token": good}
    with gateway.deciding("corp", missing_credentials=1):
        answer = client.get(f"/corp/?access_token={good}", headers=elsewhere)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="portcullis"')
    with gateway.deciding("corp", missing_credentials=1):
        answer = client.post("/corp/", data={"access_token": good})
    assert answer.status_code == 401


@pytest.mark.parametrize("second", ["Bearer {good}", "Bearer {bad}", "Basic YTpi"])
@pytest.mark.parametrize("good_first", [True, False])
def test_of_two_fields_neither_is_chosen(
    client: httpx.Client, gateway: WhoamiGateway, scene: Scene, second: str, good_first: bool
) -> None:
    good = scene.signed(claims())
    fields = [f"Bearer {good}", second.format(good=good, bad=scene.forged())]
    with gateway.deciding("corp", two_credentials=1):
        answer = client.get(
            "/corp/", headers=[("Authorization", field) for field in (fields if good_first else fields[::-1])]
        )
    assert_refused(answer, 400)


@pytest.mark.parametrize("field", ["Basic {good}", "Bearer{good}", "JWT {good}", "{good}", "Bearer:{good}"])
def test_another_scheme_brings_no_credentials(
    client: httpx.Client, gateway: WhoamiGateway, scene: Scene, field: str
) -> None:
    with gateway.deciding("corp", missing_credentials=1):
        answer = client.get("/corp/", headers={"Authorization": field.format(good=scene.signed(claims()))})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="portcullis"')


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
@pytest.mark.parametrize("size", [17_000, 64_000])
def test_by_default_a_long_token_is_too_long_a_head(
    issuers: dict[str, str], authority: Authority, tmp_path: Path, http2: bool, size: int
) -> None:
    gateway = WhoamiGateway(directory=tmp_path, authority=authority, issuers=issuers)
    try:
        gateway.start()
        with gateway.client(http2=http2) as client:
            assert client.get("/corp/", headers=bearer("A" * size)).status_code == 431
            assert client.get("/corp/", headers=bearer("A" * 15_000)).status_code == 401
        assert gateway.decisions("corp") == {"malformed_token": 1}
    finally:
        gateway.stop()


def test_a_remembered_token_lends_nothing_to_its_forgeries(client: httpx.Client, scene: Scene) -> None:
    """Verified tokens are cached: by all of their bytes, and for their own issuer alone."""
    good = scene.signed(claims())
    head, _, signature = good.rpartition(".")
    other_signature = scene.signed(claims(sub="eve")).rpartition(".")[2]
    for _ in range(3):
        assert client.get("/corp/", headers=bearer(good)).status_code == 200
        for forged in (f"{head}.{other_signature}", f"{head}.", f"{head}.{signature[:-2]}AA", good + "=="):
            assert client.get("/corp/", headers=bearer(forged)).status_code == 401
        for issuer in ("access", "ed", "jose", "django"):
            assert client.get(f"/{issuer}/", headers=bearer(good)).status_code == 401


def test_django_s_front_end_is_answered_in_its_words(client: httpx.Client, scene: Scene) -> None:
    refresh = scene.of_django(django_claims(token_type="refresh"))
    answer = client.get("/django/", headers=bearer(refresh))
    assert answer.json()["messages"][0]["message"] == "Token has wrong type"
