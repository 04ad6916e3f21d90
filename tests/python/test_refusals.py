"""Who is turned away at the gate cannot tell it from Django REST framework turning them away itself."""

import secrets

import httpx
import pytest

from support.gateway import Gateway
from support.gunicorn import Gunicorn
from support.refusals import (
    CHALLENGE,
    NOT_PERMITTED,
    REFUSALS,
    Deployment,
    Refusal,
    assert_same_refusal,
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.title)
def test_a_bad_request_gets_the_very_answer_of_simplejwt(
    client: httpx.Client, direct: httpx.Client, deployment: Deployment, refusal: Refusal
) -> None:
    headers = refusal.headers(deployment)
    gated, own = client.get("/api/me/", headers=headers), direct.get("/api/me/", headers=headers)
    assert (gated.status_code, gated.content) == (401, refusal.body)
    assert gated.headers["www-authenticate"] == CHALLENGE
    assert_same_refusal(gated, own)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.title)
def test_a_refused_request_never_reaches_django(
    gateway: Gateway, upstream: Gunicorn, deployment: Deployment, refusal: Refusal
) -> None:
    name = secrets.token_hex(8)
    with gateway.client() as client:
        assert client.get(f"/guarded/echo/?{name}", headers=refusal.headers(deployment)).status_code == 401
    assert upstream.requests_seen()[name] == 0


def test_a_claim_rule_refuses_alice_in_django_s_words_and_lets_bob_through(
    client: httpx.Client, direct: httpx.Client, alice: dict[str, str], bob: dict[str, str]
) -> None:
    gated, own = client.get("/api/staff/", headers=alice), direct.get("/api/staff/", headers=alice)
    assert (gated.status_code, gated.content) == (403, NOT_PERMITTED)
    assert_same_refusal(gated, own)
    let_through = client.get("/api/staff/", headers=bob)
    assert (let_through.status_code, let_through.json()) == (200, {"user": "bob"})


def test_a_claim_rule_is_the_gateway_s_own_judgement(
    gateway: Gateway, upstream: Gunicorn, alice: dict[str, str]
) -> None:
    name = secrets.token_hex(8)
    with gateway.client() as client:
        assert client.get(f"/api/staff/?{name}", headers=alice).status_code == 403
    assert upstream.requests_seen()[name] == 0


def test_of_two_authorization_lines_neither_is_chosen(
    gateway: Gateway, upstream: Gunicorn, alice: dict[str, str], bob: dict[str, str]
) -> None:
    """RFC 6750 makes it a 400; Django, which joins the two lines, a 401."""
    name = secrets.token_hex(8)
    both = [*alice.items(), *bob.items()]
    with gateway.client() as client:
        assert client.get(f"/api/me/?{name}", headers=both).status_code in {400, 401}
    assert upstream.requests_seen()[name] == 0


def test_the_token_cache_never_outlives_a_good_answer(
    client: httpx.Client, deployment: Deployment, alice: dict[str, str]
) -> None:
    """A verified token is remembered; its tampered sisters are not let in on its account, whatever the order."""
    tampered = [refusal for refusal in REFUSALS if refusal.title.startswith("tampered")]
    for _ in range(3):
        assert client.get("/api/me/", headers=alice).status_code == 200
        for refusal in tampered:
            assert client.get("/api/me/", headers=refusal.headers(deployment)).content == refusal.body


def test_what_no_route_names_is_not_found(client: httpx.Client, alice: dict[str, str]) -> None:
    assert client.get("/nowhere/", headers=alice).status_code == 404


def test_a_method_the_route_does_not_allow_is_refused(client: httpx.Client) -> None:
    answer = client.delete("/api/token/")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
