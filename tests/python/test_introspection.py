"""Tokens that only their issuer can read: a real OpenID provider is asked, and its word holds as long as agreed."""

import secrets
from collections.abc import Callable

import httpx
import pytest

from support.flood import flood
from support.provider import AUDIENCE, INTROSPECTION, Provider
from support.waiting import wait_until
from support.whoami import PERMITTED, WhoamiGateway, assert_refused, assert_unavailable, bearer

MakeGateway = Callable[..., WhoamiGateway]
SECRET = "INTROSPECTION_SECRET"
PATH = "/opaque/"


@pytest.fixture
def introspecting(provider: Provider, make_gateway: MakeGateway) -> Callable[..., WhoamiGateway]:
    """Starts a gateway that asks the provider and keeps an answer for so many seconds."""

    def started(cache_secs: int, audience: str = AUDIENCE, secret: str = "") -> WhoamiGateway:
        url = f"{provider.issuer}{INTROSPECTION}"
        asking = f'url = "{url}", client_id = "gateway", client_secret = {{ env = "{SECRET}" }}'
        gateway = make_gateway(
            opaque=f"""
introspection = {{ {asking}, cache_secs = {cache_secs} }}
issuer = "{provider.issuer}"
audiences = ["{audience}"]
plain_http = true
fetch_timeout_secs = 1
"""
        )
        gateway.environment[SECRET] = secret or provider.client_secret
        gateway.start()
        return gateway

    return started


def ask(client: httpx.Client, token: str) -> httpx.Response:
    """One request with this token."""
    return client.get(PATH, headers=bearer(token))


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_an_opaque_token_passes_and_its_bearer_is_known(
    provider: Provider, introspecting: Callable[..., WhoamiGateway], http2: bool
) -> None:
    gateway = introspecting(cache_secs=60)
    token = provider.log_in("alice", form="opaque")["access_token"]
    assert "." not in token
    with gateway.client(http2=http2) as client, gateway.deciding("opaque", **{PERMITTED: 2}):
        answer = ask(client, token)
        assert (answer.status_code, answer.json()["headers"]["authorization"]) == (200, f"Bearer {token}")
        assert ask(client, provider.token("opaque")).status_code == 200
    (line,) = gateway.lines({answer.headers["x-request-id"]})
    assert (line["issuer"], line["subject"]) == ("opaque", "alice")


def test_what_the_provider_does_not_stand_by_is_refused(
    provider: Provider, introspecting: Callable[..., WhoamiGateway]
) -> None:
    """Tokens nobody issued, a token given up, and one of another form, which this provider does not introspect."""
    gateway = introspecting(cache_secs=60)
    given_up = provider.token("opaque")
    provider.revoke(given_up)
    bad = [secrets.token_urlsafe(32), "a", "a+b/c~d==", given_up, provider.token("jwt")]
    with gateway.client() as client, gateway.deciding("opaque", inactive_token=len(bad)):
        for token in bad:
            assert_refused(ask(client, token), 401)


def test_a_token_for_another_audience_is_refused(
    provider: Provider, introspecting: Callable[..., WhoamiGateway]
) -> None:
    gateway = introspecting(cache_secs=60, audience="elsewhere")
    with gateway.client() as client, gateway.deciding("opaque", wrong_audience=1):
        assert_refused(ask(client, provider.token("opaque")), 401)


def test_an_answer_is_kept_as_long_as_agreed_and_a_revoked_token_no_longer(
    provider: Provider, introspecting: Callable[..., WhoamiGateway]
) -> None:
    gateway = introspecting(cache_secs=1)
    token, other = provider.token("opaque"), provider.token("opaque")
    with gateway.client() as client:
        assert ask(client, token).status_code == 200
        provider.revoke(token)
        wait_until(lambda: ask(client, token).status_code == 401, "the revoked token to be refused", within=5)
        assert ask(client, other).status_code == 200


def test_one_token_is_asked_about_once_while_its_answer_is_kept(
    provider: Provider, introspecting: Callable[..., WhoamiGateway]
) -> None:
    gateway = introspecting(cache_secs=600)
    token = provider.token("opaque")
    with gateway.client() as client:  # one connection, so one worker
        assert {ask(client, token).status_code for _ in range(50)} == {200}
        assert provider.asked(INTROSPECTION) == 1
        provider.revoke(token)
        assert ask(client, token).status_code == 200, "until the answer is too old"


def test_without_a_cache_each_request_is_asked_about(
    provider: Provider, introspecting: Callable[..., WhoamiGateway]
) -> None:
    gateway = introspecting(cache_secs=0)
    token = provider.token("opaque")
    with gateway.client() as client:
        assert [ask(client, token).status_code for _ in range(5)] == [200] * 5
        assert provider.asked(INTROSPECTION) == 5
        provider.revoke(token)
        assert ask(client, token).status_code == 401


def test_a_provider_that_is_down_is_503_and_never_401(
    provider: Provider, introspecting: Callable[..., WhoamiGateway]
) -> None:
    gateway = introspecting(cache_secs=1)
    token = provider.token("opaque")
    with gateway.client() as client:
        assert ask(client, token).status_code == 200
        provider.stop()
        seen: list[int] = []

        def forgotten() -> bool:
            seen.append(ask(client, token).status_code)
            return seen[-1] != 200

        wait_until(forgotten, "the remembered answer to be too old", within=5)
        assert seen[-1] == 503
        assert_unavailable(ask(client, token))
        assert_unavailable(ask(client, secrets.token_urlsafe(32)))
        provider.start()
        assert ask(client, provider.token("opaque")).status_code == 200


def test_a_provider_that_says_nothing_is_503_in_time(
    provider: Provider, introspecting: Callable[..., WhoamiGateway]
) -> None:
    gateway = introspecting(cache_secs=60)
    known, unknown = provider.token("opaque"), provider.token("opaque")
    with gateway.client(timeout=10) as client:
        assert ask(client, known).status_code == 200
        provider.freeze()
        try:
            assert_unavailable(ask(client, unknown))
            assert ask(client, known).status_code == 200
        finally:
            provider.thaw()
        assert ask(client, unknown).status_code == 200


def test_a_gateway_the_provider_does_not_know_blames_no_client(
    provider: Provider, introspecting: Callable[..., WhoamiGateway]
) -> None:
    gateway = introspecting(cache_secs=60, secret="not the provider's secret")
    with gateway.client() as client:
        assert_unavailable(ask(client, provider.token("opaque")))
    assert "not the provider's secret" not in gateway.process_log.read_text()


def test_a_flood_of_made_up_tokens_leaves_others_alone(
    provider: Provider, introspecting: Callable[..., WhoamiGateway]
) -> None:
    gateway = introspecting(cache_secs=60)
    token = provider.token("opaque")
    with gateway.client() as client:
        assert ask(client, token).status_code == 200
        statuses = flood(gateway, PATH, (secrets.token_urlsafe(32) for _ in range(2_000)))
        assert ask(client, token).status_code == 200
    assert set(statuses) <= {401, 503}
    assert statuses.total() == 2_000


def test_no_token_that_was_asked_about_is_written_down(
    provider: Provider, introspecting: Callable[..., WhoamiGateway]
) -> None:
    gateway = introspecting(cache_secs=0)
    token = provider.token("opaque")
    with gateway.client() as client:
        ids = {ask(client, token).headers["x-request-id"]}
        provider.stop()
        ids.add(ask(client, token).headers["x-request-id"])
    gateway.lines(ids)
    written = gateway.access_log.read_text() + gateway.process_log.read_text() + gateway.admin("/metrics").text
    assert token not in written
    assert provider.client_secret not in written
