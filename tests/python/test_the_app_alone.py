"""What the application does with nobody in front: the ground the other stories stand on. No gateway takes part."""

from collections.abc import Iterator

import httpx
import pytest

from support.gunicorn import Gunicorn
from support.refusals import CHALLENGE, NOT_PERMITTED, REFUSALS, Deployment, Refusal


@pytest.fixture
def app(upstream: Gunicorn) -> Iterator[httpx.Client]:
    """A client of Gunicorn itself."""
    with upstream.client("localhost") as opened:
        yield opened


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.title)
def test_simplejwt_refuses_in_the_words_the_gateway_must_use(
    app: httpx.Client, deployment: Deployment, refusal: Refusal
) -> None:
    answer = app.get("/api/me/", headers=refusal.headers(deployment))
    assert (answer.status_code, answer.content) == (401, refusal.body)
    assert answer.headers["www-authenticate"] == CHALLENGE
    assert answer.headers["content-type"] == "application/json"


def test_django_refuses_who_is_not_staff(app: httpx.Client, alice: dict[str, str], bob: dict[str, str]) -> None:
    refused = app.get("/api/staff/", headers=alice)
    assert (refused.status_code, refused.content) == (403, NOT_PERMITTED)
    assert app.get("/api/staff/", headers=bob).json() == {"user": "bob"}


def test_the_scheme_comes_from_the_forwarded_header_alone(app: httpx.Client) -> None:
    assert app.get("/public/echo/").json()["scheme"] == "https"
    plain = app.get("/public/echo/", headers={"X-Forwarded-Proto": "http"})
    assert (plain.status_code, plain.headers["location"]) == (301, "https://localhost/public/echo/")
