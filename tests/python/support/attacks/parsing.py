"""Attacks on the reading of a token: what two parsers understand in two ways, and what costs memory or stack."""

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jwe
from joserfc.jwk import RSAKey

from support.attacks.attack import Attack, Maker, by, claiming, claiming_text, headed, respelt, signed
from support.forging import RSA_KID, Scene, claims, compact, part

NAMED = f'"alg":"RS256","kid":"{RSA_KID}"'
"""The members of an honest header."""


CRITICAL: tuple[Any, ...] = (
    *(["x-unknown"], ["b64"], [], ["alg"], ["exp"], ["crit"], ["b64", "b64"], [1]),
    *("b64", None, {}, True),
)


def extensions() -> Iterator[Attack]:
    """RFC 7515 section 4.1.11, RFC 7797: what must be understood or refused."""
    for crit in CRITICAL:
        yield Attack(f"crit {crit!r}", signed(crit=crit, **{"x-unknown": 1}), "unsupported_header")
    for name, value in (("b64", False), ("b64", "false"), ("b64", None), ("b64", 0), ("zip", "DEF"), ("zip", None)):
        yield Attack(f"{name} {value!r}", signed(**{name: value}), "unsupported_header")
    yield Attack(
        "compressed claims", lambda s: s.signed(gzip.compress(json.dumps(claims()).encode())), "malformed_token"
    )
    yield Attack("b64=false, detached", lambda s: _unencoded(s, json.dumps(claims())), "unsupported_header", "jose")
    yield Attack("b64=false, attached", lambda s: _attached(s, json.dumps(claims())), "malformed_header", "jose")
    yield Attack(
        "b64=false, encoded all the same", lambda s: _attached(s, part(claims())), "unsupported_header", "jose"
    )
    yield Attack("detached claims", respelt(lambda token: "..".join(token.split(".")[::2])), "bad_signature")


def _unencoded(scene: Scene, payload: str) -> str:
    """By RFC 7797, which jose knows: the payload is signed as it is, and sent apart."""
    header = {"alg": "ES256", "b64": False, "crit": ["b64"]}
    token: str = scene.node.ask(operation="signBytes", handle="attacks", header=header, payload=payload, crit={})
    return token


def _attached(scene: Scene, payload: str) -> str:
    head, _, signature = _unencoded(scene, payload).split(".")
    return f"{head}.{payload}.{signature}"


HEADERS = (
    f'{{"alg":"none",{NAMED}}}',
    f'{{{NAMED},"alg":"none"}}',
    f'{{{NAMED},"\\u0061lg":"none"}}',
    f'{{{NAMED},"kid":"x"}}',
    f'{{{NAMED},"jwk":{{"a":1,"a":2}}}}',
    f"{{{NAMED}}}{{}}",
    f"\ufeff{{{NAMED}}}",
    f"{{{NAMED},}}",
    f"{{{NAMED}/**/}}",
    f"{{{NAMED}",
    f"[{{{NAMED}}}]",
    f"{{{NAMED}}}".replace('"', "'"),
    '"RS256"',
    "null",
    "",
)
CLAIMS = ("", "null", "[]", '"x"', "1", "{} {}", '{"a":1', "\ufeff{}", "{'a':1}", '{"a":"\t"}', '{"a":01}', '{"a":1,}')
ENCODINGS: dict[str, bytes] = {
    "a stray byte": b'{"sub":"\xff"}',
    "an overlong slash": b'{"sub":"\xc0\xaf"}',
    "a surrogate": b'{"sub":"\xed\xa0\x80"}',
    "an escaped lone surrogate": b'{"sub":"\\ud800"}',
    "UTF-16": '{"sub":"a"}'.encode("utf-16"),
    "a NUL after the end": b'{"sub":"a"}\0',
}


def ambiguous() -> Iterator[Attack]:
    """RFC 7515 section 4, RFC 7519 section 4: one object, each name once, in UTF-8."""
    for header in HEADERS:
        yield Attack(f"header {header}", headed(header), "malformed_token")
    for member in ('"sub":"admin"', '"\\u0073ub":"admin"', '"exp":9999999999', '"x":[{"a":1,"a":2}]', '"a":1,"a":1'):
        yield Attack(f"claims with {member} twice", claiming_text(member), "malformed_token")
    for payload in CLAIMS:
        yield Attack(f"claims {payload!r}", signed(payload), "malformed_token")
    for title, raw in ENCODINGS.items():
        yield Attack(f"claims with {title}", signed(raw), "malformed_token")
        yield Attack(f"a header with {title}", headed(raw), "malformed_token")


SPELLINGS: dict[str, tuple[Callable[[str], str], str]] = {
    "padding at the end": (lambda token: token + "==", "malformed_token"),
    "one = too few": (lambda token: token + "=", "malformed_token"),
    "padding inside": (lambda token: token.replace(".", "=.", 1), "malformed_header"),
    "a space inside": (lambda token: token.replace(".", ". ", 1), "malformed_header"),
    "a tab inside": (lambda token: token.replace(".", ".\t", 1), "malformed_header"),
    "a comma after it": (lambda token: token + ",", "malformed_header"),
    "quotes around it": (lambda token: f'"{token}"', "malformed_header"),
    "a percent sign": (lambda token: token.replace(".", "%2E", 1), "malformed_header"),
    "a semicolon after it": (lambda token: token + ";", "malformed_header"),
    "a byte that is no text": (lambda token: token + "\xff", "malformed_header"),
    "itself twice": (lambda token: f"{token} {token}", "malformed_header"),
    "Bearer twice": (lambda token: f"Bearer {token}", "malformed_header"),
    "JSON serialization": (lambda token: _as_json(*token.split(".")), "malformed_header"),
    "a tilde": (lambda token: token + "~", "malformed_token"),
    "the other alphabet": (lambda token: f"{token[:-344]}+/{token[-342:]}", "malformed_token"),
    "trailing bits": (lambda token: _with_trailing_bit(token), "malformed_token"),
    "upper case": (str.upper, "malformed_token"),
    "one part": (lambda token: token.replace(".", ""), "malformed_token"),
    "two parts": (lambda token: token.rpartition(".")[0], "malformed_token"),
    "four parts": (lambda token: token + ".AA", "malformed_token"),
    "five parts": (lambda token: token + ".AA.AA", "malformed_token"),
    "a dot more": (lambda token: token + ".", "malformed_token"),
    "a dot before it": (lambda token: "." + token, "malformed_token"),
    "dots alone": (lambda _: "..", "malformed_token"),
    "no header": (lambda token: "." + token.partition(".")[2], "malformed_token"),
    "no claims and no signature": (lambda token: token.partition(".")[0] + "..", "bad_signature"),
    "no signature": (lambda token: token.rpartition(".")[0] + ".", "bad_signature"),
    "a letter more": (lambda token: token + "A", "bad_signature"),
}


def spellings() -> Iterator[Attack]:
    """RFC 7515 section 2: base64url has one spelling, and a token three parts."""
    for title, (change, reason) in SPELLINGS.items():
        yield Attack(title, respelt(change), reason)


def _with_trailing_bit(token: str) -> str:
    """The last letter of 256 bytes in base64url holds four bits that nobody reads."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


def _as_json(protected: str, payload: str, signature: str) -> str:
    return json.dumps({"payload": payload, "protected": protected, "signature": signature})


def nested() -> Iterator[Attack]:
    """RFC 7516, RFC 8725 section 3.3: encrypted to the issuer, or wrapped."""
    yield Attack("jose's JWE", lambda s: _encrypted(s, json.dumps(claims())), "malformed_token")
    yield Attack("jose's JWE of a JWS", lambda s: _encrypted(s, s.signed(claims())), "malformed_token")
    yield Attack("joserfc's JWE", lambda s: _encrypted_by_joserfc(s), "malformed_token")
    yield Attack("a JWS in a JWS", lambda s: s.signed(s.signed(claims()), cty="JWT"), "malformed_token")
    yield Attack("a JWS in a claim", lambda s: s.signed({"jwt": s.signed(claims())}, cty="JWT"), "missing_claim")
    yield Attack("a good JWS in a forged one", _wrapped_by_the_forger, "bad_signature")


def _encrypted(scene: Scene, text: str) -> str:
    header = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": RSA_KID}
    jwk = {name: value for name, value in scene.honest.jwk(RSA_KID).items() if name != "alg"}
    token: str = scene.node.ask(operation="encrypt", jwk=jwk, header=header, payload=text)
    return token


def _encrypted_by_joserfc(scene: Scene) -> str:
    key = RSAKey.import_key(scene.honest.spki(Encoding.PEM))
    return jwe.encrypt_compact({"alg": "RSA-OAEP", "enc": "A128CBC-HS256"}, json.dumps(claims()), key)


def _wrapped_by_the_forger(scene: Scene) -> str:
    return compact({"alg": "RS256"}, scene.signed(claims()), scene.forger.rs())


def sizes() -> Iterator[Attack]:
    """What costs memory or stack: depth, number, length."""
    for depth in (17, 1000, 2000, 5000):
        yield Attack(f"{depth} arrays in claims", claiming_text(_deep(depth, "[", "]")), "malformed_token")
        yield Attack(f"{depth} arrays in a header", headed(f"{{{NAMED},{_deep(depth, '[', ']')}}}"), "malformed_token")
    for depth in (17, 1000, 1800):
        objects = _deep(depth, '{"a":', "}")
        yield Attack(f"{depth} objects in claims", claiming_text(objects), "malformed_token")
        yield Attack(f"{depth} objects in a header", headed(f"{{{NAMED},{objects}}}"), "malformed_token")
    yield Attack("brackets that never close", signed("[" * 11_000), "malformed_token")
    yield Attack("900 claims", claiming_text(",".join(f'"m{number}":0' for number in range(900))), "malformed_token")
    for size in (17, 64):
        yield Attack(f"{size} KB, well signed", claiming(x="x" * size * 750), "oversized_token")
        yield Attack(f"{size} KB of letters", _repeated("A", size * 1000), "oversized_token")
        yield Attack(f"{size} KB of dots", _repeated(".", size * 1000), "oversized_token")
    yield Attack("17 KB for Django", _repeated("A", 17_000), "oversized_token", "django")
    yield Attack("16 KB of dots", _repeated(".", 16_000), "malformed_token")
    yield Attack("10 KB of signature", by(lambda _, __: bytes(10_000)), "bad_signature")


def _deep(depth: int, opened: str, closed: str) -> str:
    return f'"x":{opened * depth}1{closed * depth}'


def _repeated(letter: str, count: int) -> Maker:
    return lambda _: letter * count
