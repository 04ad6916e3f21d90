"""Attacks with good signatures: dates that are none, and tokens that were made for something or somebody else."""

import time
from collections.abc import Iterator
from typing import Any

from support.attacks.attack import Attack, claiming, claiming_text, for_django, signed
from support.forging import AUDIENCE, ISSUER

NO_DATES = (
    '"1900000000"',
    "null",
    "true",
    "[]",
    "{}",
    "-1",
    "-1e300",
    "-0.5",
    "1e18",
    "9" * 30,
    "1e308",
    "253402300800",
)
"""JSON, but no moment between 1970 and the year 9999."""
NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e400", "0x7fffffff", "+1", "01", "1.", ".5", "1e", "\u0661")
"""No JSON, or beyond what a double holds."""


def dates() -> Iterator[Attack]:
    """RFC 7519 section 2: a NumericDate is a number, and one that a calendar has."""
    now = int(time.time())
    for name in ("exp", "nbf", "iat"):
        for value in NO_DATES:
            yield Attack(f"{name} {value}", claiming_text(f'"{name}":{value}', without=name), "malformed_claim")
        for value in NO_NUMBERS:
            yield Attack(f"{name} {value}", claiming_text(f'"{name}":{value}', without=name), "malformed_token")
    for title, past in {"0": "0", "0.0": "0.0", "tiny": "1e-400", "a second ago": f"{now - 1}", "1e9": "1e9"}.items():
        yield Attack(f"exp {title}", claiming_text(f'"exp":{past}', without="exp"), "expired")
    for name in ("nbf", "iat"):
        for title, future in {"in an hour": f"{now + 3600}.5", "4e9": "4e9", "in 9999": "253402300799"}.items():
            yield Attack(f"{name} {title}", claiming_text(f'"{name}":{future}', without=name), "not_yet_valid")
    yield Attack("no exp", claiming(exp=None), "missing_claim")
    yield Attack("Exp for exp", claiming(exp=None, Exp=now + 3600), "missing_claim")


TYPES = ("", "jwt", "at+jwt2", "logout+jwt", "dpop+jwt", "secevent+jwt", "application/application/at+jwt", "at+jwt;a=b")


def mistaken() -> Iterator[Attack]:
    """RFC 8725 sections 3.11 and 3.12: good tokens that were made for something else."""
    yield Attack("a refresh token", for_django(token_type="refresh"), "wrong_token_type", "django")
    yield Attack("a sliding token", for_django(token_type="sliding"), "wrong_token_type", "django")
    yield Attack("a type in a list", for_django(token_type=["access"]), "wrong_token_type", "django")
    yield Attack("no type", for_django(token_type=None), "missing_claim", "django")
    yield Attack("an ID token", claiming(aud="web-client", nonce="n", at_hash="h"), "wrong_audience")
    yield Attack("an ID token where types are told apart", signed(typ="JWT"), "wrong_token_type", "access")
    for typ in TYPES:
        yield Attack(f"typ {typ!r}", signed(typ=typ), "wrong_token_type", "access")
    yield Attack("no typ", signed(), "wrong_token_type", "access")
    yield Attack("typ in a list", signed(typ=["at+jwt"]), "malformed_token", "access")


OTHER_AUDIENCES: tuple[Any, ...] = (
    *(AUDIENCE.title(), f"{AUDIENCE}2", f"{AUDIENCE} ", "*", ""),
    *([], ["x"], [AUDIENCE, 7], [[AUDIENCE]], {AUDIENCE: True}, 7, True),
)
OTHER_ISSUERS: tuple[Any, ...] = (ISSUER.rstrip("/"), ISSUER.upper(), f"{ISSUER}\0", f"{ISSUER}x", [ISSUER], "", 1)


def addressed_elsewhere() -> Iterator[Attack]:
    """RFC 8725 sections 3.8 and 3.9: another issuer's, or for another audience."""
    for audience in OTHER_AUDIENCES:
        yield Attack(f"aud {audience!r}", claiming(aud=audience), "wrong_audience")
    yield Attack("aud null", claiming_text('"aud":null', without="aud"), "wrong_audience")
    yield Attack("no aud", claiming(aud=None), "missing_claim")
    for issuer in OTHER_ISSUERS:
        yield Attack(f"iss {issuer!r}", claiming(iss=issuer), "wrong_issuer")
    yield Attack("no iss", claiming(iss=None), "missing_claim")
