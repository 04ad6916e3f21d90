"""A real OpenID provider signs; the gateway learns its keys by itself, through rotations, outages and floods."""

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.certificates import Authority
from support.flood import flood
from support.forging import b64, part
from support.gateway import binary
from support.load import Ledger, Load
from support.metrics import KEY_SET_AGE
from support.provider import AUDIENCE, DISCOVERY, KEYS, Provider, new_ec_key, new_key
from support.waiting import wait_until
from support.whoami import PERMITTED, WhoamiGateway, assert_refused, assert_unavailable, bearer

COOLDOWN_SECS = 1
PACE = f"""
refetch_cooldown_secs = {COOLDOWN_SECS}
refresh_min_secs = 1
fetch_timeout_secs = 2
"""
PATH = "/corp/"


@pytest.fixture
def gateway(provider: Provider, make_gateway: Callable[..., WhoamiGateway]) -> WhoamiGateway:
    """A gateway that discovers the provider and has its keys."""
    started = make_gateway(corp=discovering(provider))
    started.start()
    with started.client() as client:
        assert status(client, provider.token()) == 200
    return started


def discovering(provider: Provider, more: str = "") -> str:
    """The table of an issuer that is found by its metadata."""
    return f'discovery = "{provider.issuer}"\nplain_http = true\n{rules()}{PACE}{more}'


def rules() -> str:
    """What is demanded of every token."""
    return f'audiences = ["{AUDIENCE}"]\ntoken_types = ["at+jwt"]\n'


def status(client: httpx.Client, token: str, path: str = PATH) -> int:
    """How one request with this token is answered."""
    return client.get(path, headers=bearer(token)).status_code


def wait_out_the_cooldown(gateway: WhoamiGateway) -> None:
    """Returns when the last fetch is longer ago than the cool-down."""
    wait_until(lambda: gateway.metrics().total(KEY_SET_AGE) > COOLDOWN_SECS, "the cool-down to be over")


@contextmanager
def under_load(gateway: WhoamiGateway, token: str) -> Iterator[Ledger]:
    """Three clients that send this token all the while, on kept connections; each gets an answer to each request."""
    load = Load(gateway, PATH, threads=3, keep_connections=True, fields=lambda: bearer(token))
    with load.running() as ledger:
        yield ledger
        load.wait_for_answers(20)
    assert (ledger.refused, ledger.dropped) == ([], [])


# Logging in.


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_who_logs_in_at_the_provider_is_let_through_by_name(
    gateway: WhoamiGateway, provider: Provider, http2: bool
) -> None:
    tokens = provider.log_in("alice")
    with gateway.client(http2=http2) as client, gateway.deciding("corp", **{PERMITTED: 1}):
        answer = client.get(PATH, headers=bearer(tokens["access_token"]))
    assert answer.status_code == 200
    (line,) = gateway.lines({answer.headers["x-request-id"]})
    assert (line["issuer"], line["subject"]) == ("corp", "alice")


def test_of_what_a_login_brings_only_the_access_token_opens_the_door(
    gateway: WhoamiGateway, provider: Provider
) -> None:
    tokens = provider.log_in("alice")
    with gateway.client() as client:
        with gateway.deciding("corp", wrong_token_type=1):
            assert_refused(client.get(PATH, headers=bearer(tokens["id_token"])), 401)
        with gateway.deciding("corp", malformed_token=1):
            assert_refused(client.get(PATH, headers=bearer(provider.token("opaque"))), 401)


SOURCES: dict[str, Callable[[Provider], str]] = {
    "discovery": discovering,
    "jwks_url": lambda p: f'jwks_url = "{p.issuer}{KEYS}"\nissuer = "{p.issuer}"\nplain_http = true\n{rules()}{PACE}',
}


@pytest.mark.parametrize("source", SOURCES)
def test_keys_are_found_by_metadata_or_by_their_own_url(
    provider: Provider, make_gateway: Callable[..., WhoamiGateway], source: str
) -> None:
    gateway = make_gateway(corp=SOURCES[source](provider))
    gateway.start()
    with gateway.client() as client:
        assert status(client, provider.token()) == 200
    assert provider.asked(DISCOVERY) == (1 if source == "discovery" else 0)
    assert provider.asked(KEYS) == 1


def test_keys_are_fetched_over_https_from_whom_the_authorities_vouch_for(
    secure_provider: Provider, authority: Authority, make_gateway: Callable[..., WhoamiGateway]
) -> None:
    table = f'discovery = "{secure_provider.issuer}"\n{rules()}{PACE}'
    gateway = make_gateway(corp=f'{table}ca_file = "{authority.path}"\n', distrustful=table)
    gateway.start()
    token = secure_provider.token()
    with gateway.client() as client:
        assert status(client, token) == 200
        assert status(client, token, "/distrustful/") == 503
    assert "certificate" in gateway.process_log.read_text().lower()


def test_http_is_for_those_who_ask_for_it(provider: Provider, make_gateway: Callable[..., WhoamiGateway]) -> None:
    gateway = make_gateway(corp=f'discovery = "{provider.issuer}"\n{rules()}')
    checked = subprocess.run(
        [binary(), "check", "--config", gateway.config_file], capture_output=True, text=True, check=False
    )
    assert checked.returncode != 0
    assert "plain_http" in checked.stdout + checked.stderr
    assert provider.asked(DISCOVERY) == 0


def test_metadata_of_another_issuer_is_not_believed(
    provider: Provider, make_gateway: Callable[..., WhoamiGateway]
) -> None:
    """The provider calls itself by its address and is asked by its name."""
    gateway = make_gateway(corp=discovering(provider).replace("127.0.0.1", "localhost"))
    gateway.start()
    with gateway.client() as client:
        answer = client.get(PATH, headers=bearer(provider.token()))
    assert_unavailable(answer)
    assert provider.asked(DISCOVERY) >= 1
    assert provider.asked(KEYS) == 0
    assert provider.issuer in gateway.process_log.read_text(), "the log says whose metadata it was"


def test_another_issuer_of_the_same_keys_is_another_issuer(
    provider: Provider, make_gateway: Callable[..., WhoamiGateway]
) -> None:
    table = f'jwks_url = "{provider.issuer}{KEYS}"\nissuer = "https://id.example"\nplain_http = true\n{rules()}{PACE}'
    gateway = make_gateway(corp=table)
    gateway.start()
    with gateway.client() as client, gateway.deciding("corp", wrong_issuer=1):
        assert_refused(client.get(PATH, headers=bearer(provider.token())), 401)


# Rotations.


def test_a_rotation_under_load_gives_no_wrong_answer(gateway: WhoamiGateway, provider: Provider) -> None:
    """New tokens pass at once; old ones as long as their key is published."""
    old_key = provider.keys[0]
    old = provider.token()
    with gateway.client() as client:
        with under_load(gateway, old) as ledger:
            wait_out_the_cooldown(gateway)
            provider.publish([new_key(), old_key])
            new = provider.token()
            assert status(client, new) == 200, "the first token of the new key"
            assert status(client, old) == 200
        assert ledger.statuses() == {200}

        with under_load(gateway, new) as ledger:
            wait_out_the_cooldown(gateway)
            provider.publish([new_key(), provider.keys[0]])
            newest = provider.token()
            assert [status(client, token) for token in (newest, new, old)] == [200, 200, 401]
        assert ledger.statuses() == {200}


def test_a_rotation_to_another_algorithm_is_a_rotation(gateway: WhoamiGateway, provider: Provider) -> None:
    """The configuration names no algorithms, so the keys say which there are; new keys may say others."""
    old_key, old = provider.keys[0], provider.token()
    with gateway.client() as client:
        wait_out_the_cooldown(gateway)
        provider.publish([new_ec_key(), old_key])
        new = provider.token()
        assert [status(client, token) for token in (new, old)] == [200, 200]


def test_a_key_that_is_withdrawn_is_forgotten_without_anybody_asking(
    provider: Provider, make_gateway: Callable[..., WhoamiGateway]
) -> None:
    gateway = make_gateway(corp=discovering(provider, "refresh_max_secs = 2\nmax_stale_secs = 60\n"))
    gateway.start()
    old = provider.token()
    with gateway.client() as client:
        assert status(client, old) == 200
        provider.publish([new_key()])
        wait_until(lambda: status(client, old) == 401, "the withdrawn key to be forgotten")
        assert status(client, provider.token()) == 200


def test_every_worker_learns_of_a_rotation(gateway: WhoamiGateway, provider: Provider) -> None:
    """Connections are spread over workers; whichever has them, the token of the new key passes."""
    wait_out_the_cooldown(gateway)
    provider.publish([new_key()])
    new = provider.token()
    for _ in range(16):
        with gateway.client() as client:
            assert status(client, new) == 200
    assert provider.asked(KEYS) == 2


# Outages.


def test_an_outage_of_the_provider_is_not_noticed_by_those_who_have_tokens(
    gateway: WhoamiGateway, provider: Provider
) -> None:
    token = provider.token()
    with under_load(gateway, token) as ledger:
        provider.stop()
        wait_out_the_cooldown(gateway)
        with gateway.client() as client:
            assert status(client, random_kid_token(provider)) in {401, 503}
            assert status(client, token) == 200
        provider.start()
    assert ledger.statuses() == {200}


def test_a_token_whose_key_cannot_be_fetched_is_not_called_bad(gateway: WhoamiGateway, provider: Provider) -> None:
    """It was signed after a rotation that the gateway has not seen, and the provider is down."""
    provider.publish([new_key(), provider.keys[0]])
    new = provider.token()
    wait_out_the_cooldown(gateway)
    provider.stop()
    with gateway.client() as client:
        for _ in range(3):
            assert_unavailable(client.get(PATH, headers=bearer(new)))
        provider.start()
        wait_until(lambda: status(client, new) == 200, "the gateway to have the new key", within=30)


def test_a_start_during_an_outage_uses_the_last_good_keys(
    provider: Provider, make_gateway: Callable[..., WhoamiGateway], tmp_path: Path
) -> None:
    gateway = make_gateway(corp=discovering(provider, 'last_good_file = "corp.jwks.json"\nmax_stale_secs = 86400\n'))
    gateway.start()
    token = provider.token()
    with gateway.client() as client:
        assert status(client, token) == 200
    wait_until((tmp_path / "corp.jwks.json").is_file, "the copy of the keys")
    gateway.stop()
    provider.stop()

    gateway.start()
    with gateway.client() as client:
        assert status(client, token) == 200
        assert status(client, token[:-4] + "AAAA") == 401
    assert provider.keys[0]["d"] not in (tmp_path / "corp.jwks.json").read_text()


@pytest.mark.parametrize("spoil", ["emptied", "of another source", "for anybody to write"])
def test_a_copy_that_anybody_may_have_made_is_not_used(
    provider: Provider, make_gateway: Callable[..., WhoamiGateway], tmp_path: Path, spoil: str
) -> None:
    copy = tmp_path / "corp.jwks.json"
    gateway = make_gateway(corp=discovering(provider, f'last_good_file = "{copy}"\n'))
    gateway.start()
    token = provider.token()
    wait_until(copy.is_file, "the copy of the keys")
    gateway.stop()
    provider.stop()
    if spoil == "emptied":
        copy.write_text("")
    elif spoil == "of another source":
        copy.write_text(copy.read_text().replace(provider.issuer, "https://id.example"))
    else:
        copy.chmod(0o666)
    gateway.start()
    with gateway.client() as client:
        assert_unavailable(client.get(PATH, headers=bearer(token)))


def test_a_start_during_an_outage_without_a_copy_heals_by_itself(
    provider: Provider, make_gateway: Callable[..., WhoamiGateway]
) -> None:
    """503 until then: to say 401 would log everybody out."""
    token = provider.token()
    provider.stop()
    gateway = make_gateway(corp=discovering(provider))
    gateway.start()
    seen = set()
    with gateway.client() as client:
        for bad in (token, random_kid_token(provider), token[:-4] + "AAAA"):
            assert_unavailable(client.get(PATH, headers=bearer(bad)))
        provider.start()

        def healed() -> bool:
            seen.add(answered := status(client, token))
            return answered == 200

        wait_until(healed, "the gateway to have keys", within=30)
        assert seen <= {200, 503}
        assert status(client, token[:-4] + "AAAA") == 401


def test_a_provider_that_says_nothing_delays_nobody_who_has_a_token(gateway: WhoamiGateway, provider: Provider) -> None:
    token = provider.token()
    wait_out_the_cooldown(gateway)
    provider.freeze()
    try:
        with gateway.client() as asking, under_load(gateway, token) as ledger:
            answer = asking.get(PATH, headers=bearer(random_kid_token(provider)))
            assert answer.status_code in {401, 503}
    finally:
        provider.thaw()
    assert ledger.statuses() == {200}
    with gateway.client() as client:
        assert status(client, token) == 200


def test_a_reload_during_an_outage_keeps_the_keys(gateway: WhoamiGateway, provider: Provider) -> None:
    token = provider.token()
    provider.stop()
    before = gateway.generation()
    gateway.limits = "header_fields = 90"
    gateway.configure()
    gateway.wait_generation_after(before)
    with gateway.client() as client:
        for _ in range(3):
            assert status(client, token) == 200


# Floods.

FLOOD = 100_000


@pytest.mark.timeout(300)
def test_a_flood_of_random_kids_costs_a_fetch_in_a_cooldown_at_most(gateway: WhoamiGateway, provider: Provider) -> None:
    token = provider.token()
    before = provider.asked(KEYS)
    begun = time.monotonic()
    with under_load(gateway, token) as ledger:
        statuses = flood(gateway, PATH, random_kid_tokens(provider, FLOOD))
    lasted = time.monotonic() - begun
    assert statuses == {401: FLOOD}
    assert ledger.statuses() == {200}
    assert 1 <= provider.asked(KEYS) - before <= lasted / COOLDOWN_SECS + 1


def test_a_flood_during_an_outage_asks_no_more_often(gateway: WhoamiGateway, provider: Provider) -> None:
    provider.stop()
    with gateway.client() as client:
        assert flood(gateway, PATH, random_kid_tokens(provider, 2_000)).total() == 2_000
        provider.start()
        wait_until(lambda: status(client, provider.token()) == 200, "the gateway to have keys")
    assert provider.asked(KEYS) <= 2


def random_kid_tokens(provider: Provider, count: int) -> Iterator[str]:
    """Tokens of keys that nobody has; nothing else is wrong with them that can be seen."""
    now = int(time.time())
    claims = part({"iss": provider.issuer, "aud": AUDIENCE, "sub": "eve", "exp": now + 3600})
    signature = b64(bytes(256))
    for _ in range(count):
        header = part({"alg": "RS256", "typ": "at+jwt", "kid": secrets.token_hex(8)})
        yield f"{header}.{claims}.{signature}"


def random_kid_token(provider: Provider) -> str:
    """One of them."""
    return next(random_kid_tokens(provider, 1))
