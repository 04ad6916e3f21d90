"""Every way of asking without a good access token, and what DRF with simplejwt says to it, byte for byte."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from support.tokens import mint, unsigned, with_claims_changed, with_signature_changed

CHALLENGE = 'Bearer realm="api"'
NO_CREDENTIALS = b'{"detail":"Authentication credentials were not provided."}'
NOT_PERMITTED = b'{"detail":"You do not have permission to perform this action."}'
BAD_HEADER = (
    b'{"detail":"Authorization header must contain two space-delimited values","code":"bad_authorization_header"}'
)
NO_USER = b'{"detail":"Token contained no recognizable user identification","code":"token_not_valid"}'
COMPARED_HEADERS = ("www-authenticate", "content-type")


def not_valid(message: str) -> bytes:
    """The body that tells a front end to refresh its token, with simplejwt's reason in it."""
    return (
        b'{"detail":"Given token not valid for any token type","code":"token_not_valid","messages":'
        b'[{"token_class":"AccessToken","token_type":"access","message":"' + message.encode() + b'"}]}'
    )


@dataclass(frozen=True)
class Deployment:
    """What a bad token is made from."""

    secret: str
    access: str
    """A good access token of an ordinary user."""
    refresh: str
    """The refresh token issued with it."""


@dataclass(frozen=True)
class Refusal:
    """One bad request and the body it gets with a 401."""

    title: str
    authorization: Callable[[Deployment], str | None]
    body: bytes

    def headers(self, deployment: Deployment) -> dict[str, str]:
        """What the client sends."""
        value = self.authorization(deployment)
        return {} if value is None else {"Authorization": value}


REFUSALS = (
    Refusal("no credentials", lambda _: None, NO_CREDENTIALS),
    Refusal("another scheme", lambda _: "Basic YWxpY2U6c2VjcmV0", NO_CREDENTIALS),
    Refusal("no token after the scheme", lambda _: "Bearer", BAD_HEADER),
    Refusal("more than a token", lambda d: f"Bearer {d.access} {d.access}", BAD_HEADER),
    Refusal(
        "expired token",
        lambda d: f"Bearer {mint(d.secret, exp=int(time.time()) - 1)}",
        not_valid("Token is expired"),
    ),
    Refusal("refresh token", lambda d: f"Bearer {d.refresh}", not_valid("Token has wrong type")),
    Refusal(
        "tampered claims",
        lambda d: f"Bearer {with_claims_changed(d.access, is_staff=True)}",
        not_valid("Token is invalid"),
    ),
    Refusal(
        "tampered signature",
        lambda d: f"Bearer {with_signature_changed(d.access)}",
        not_valid("Token is invalid"),
    ),
    Refusal("another secret", lambda _: f"Bearer {mint('another secret' * 4)}", not_valid("Token is invalid")),
    Refusal("not a token", lambda _: "Bearer not.a.token", not_valid("Token is invalid")),
    Refusal(
        "right secret, other algorithm",
        lambda d: f"Bearer {mint(d.secret, algorithm='HS512')}",
        not_valid("Token is invalid"),
    ),
    Refusal("unsigned token", lambda _: f"Bearer {unsigned()}", not_valid("Token is invalid")),
    Refusal("no expiry", lambda d: f"Bearer {mint(d.secret, exp=None)}", not_valid("Token has no 'exp' claim")),
    Refusal("no id", lambda d: f"Bearer {mint(d.secret, jti=None)}", not_valid("Token has no id")),
    Refusal("no type", lambda d: f"Bearer {mint(d.secret, token_type=None)}", not_valid("Token has no type")),
    Refusal("no user", lambda d: f"Bearer {mint(d.secret, user_id=None)}", NO_USER),
)


def assert_same_refusal(gated: httpx.Response, direct: httpx.Response) -> None:
    """The two look alike in all that a front end looks at: status, body bytes, challenge and media type."""
    assert gated.status_code == direct.status_code
    assert gated.content == direct.content
    for name in COMPARED_HEADERS:
        assert gated.headers.get_list(name) == direct.headers.get_list(name), name
