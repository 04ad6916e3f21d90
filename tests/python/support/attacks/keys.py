"""Attacks on the choice of key and algorithm."""

import json
from collections.abc import Callable, Iterator

import jwt
from cryptography.hazmat.primitives.serialization import Encoding

from support.attacks.attack import Attack, Maker, by, for_django, headed, signed
from support.forging import EC_KID, RSA_KID, Scene, b64, claims, hmac_by, part


def unsigned() -> Iterator[Attack]:
    """RFC 8725 sections 3.1 and 3.2: `none` in any spelling, and names that are nearly one."""
    yield Attack("PyJWT's none", lambda _: jwt.encode(claims(), "", algorithm="none"), "algorithm_not_allowed")
    yield Attack("none, and signed", signed(alg="none"), "algorithm_not_allowed")
    yield Attack("none for Django", for_django(alg="none"), "algorithm_not_allowed", "django")
    for alg in ("none", "None", "NONE", "nOnE", "none ", " none", "n\u043ene", "none\0", "", "null", "undefined"):
        for signature in ("", "AA", "none"):
            yield Attack(f"alg {alg!r}, signed {signature!r}", _with_signature(alg, signature), "algorithm_not_allowed")
    for alg in ("rs256", "Rs256", "RS256 ", "RS256\0", "SHA256withRSA", "RS512", "ES512", "ES256K", "HS256", "dir"):
        yield Attack(f"alg {alg!r}", signed(alg=alg), "algorithm_not_allowed")
    for wrong in (None, 1, True, ["RS256"], {"RS256": 1}):
        yield Attack(f"alg {wrong!r}", signed(alg=wrong), "malformed_token")
    yield Attack("no alg", headed({"kid": RSA_KID, "typ": "JWT"}), "malformed_token")


def _with_signature(alg: str, signature: str) -> Maker:
    return lambda _: f"{part({'alg': alg, 'kid': RSA_KID})}.{part(claims())}.{signature}"


PUBLIC: dict[str, Callable[[Scene], bytes]] = {
    "PEM": lambda scene: scene.honest.spki(Encoding.PEM),
    "PEM without its last newline": lambda scene: scene.honest.spki(Encoding.PEM).rstrip(),
    "DER": lambda scene: scene.honest.spki(Encoding.DER),
    "PKCS #1": lambda scene: scene.honest.pkcs1(),
    "JWK": lambda scene: json.dumps(scene.honest.jwk(RSA_KID)).encode(),
    "modulus": lambda scene: scene.honest.rsa_numbers()[0],
    "EC PEM": lambda scene: scene.honest.spki(Encoding.PEM, scene.honest.ec_key),
    "nothing": lambda _: b"",
}
"""The forms in which a public key might be taken for a secret."""


def confused() -> Iterator[Attack]:
    """RFC 8725 section 3.1: a public key taken for an HMAC secret, and the other way round."""
    for issuer in ("corp", "pem"):
        for form in PUBLIC:
            as_hmac, as_rsa = _by_public_key(form, "HS256"), _by_public_key(form, "RS256")
            yield Attack(f"{form} as secret at {issuer}", as_hmac, "algorithm_not_allowed", issuer)
            yield Attack(f"{form} as secret under RS256 at {issuer}", as_rsa, "bad_signature", issuer)
    yield Attack("PEM as secret, HS384", _by_public_key("PEM", "HS384", "sha384"), "algorithm_not_allowed")
    yield Attack("PEM as secret, HS512", _by_public_key("PEM", "HS512", "sha512"), "algorithm_not_allowed")
    yield Attack("RS256 for a secret", lambda scene: scene.forged(), "algorithm_not_allowed", "django")


def _by_public_key(form: str, alg: str, digest: str = "sha256") -> Maker:
    return by(lambda scene, message: hmac_by(PUBLIC[form](scene), digest)(message), alg=alg)


def brought_along() -> Iterator[Attack]:
    """RFC 8725 section 3.10: the token brings its own key, or says where one is."""
    yield Attack("the forger's key alone", lambda scene: scene.forged(), "bad_signature")
    yield Attack("the forger's key and kid", lambda scene: scene.forged(kid="mine"), "unknown_key")
    pointers: dict[str, Callable[[Scene], object]] = {
        "jwk": lambda scene: scene.forger.jwk("mine"),
        "x5c": lambda scene: [b64(scene.forger.spki(Encoding.DER))],
        "jku": lambda scene: scene.lure,
        "x5u": lambda scene: scene.lure,
        "x5t": lambda _: "A" * 27,
    }
    for name, value in pointers.items():
        yield Attack(f"{name} without kid", _pointing(name, value), "bad_signature")
        yield Attack(f"{name} and the issuer's kid", _pointing(name, value, kid=RSA_KID), "bad_signature")
        yield Attack(f"{name} and the forger's kid", _pointing(name, value, kid="mine"), "unknown_key")
        yield Attack(f"{name} where keys have no kid", _pointing(name, value, kid="mine"), "bad_signature", "pem")
    for scheme in ("https://", "file://", "//", "http://id.example@"):
        yield Attack(f"jku with {scheme}", _pointing("jku", _at_the_lure(scheme), kid="mine"), "unknown_key")


def _pointing(name: str, value: Callable[[Scene], object], **header: str) -> Maker:
    return lambda scene: scene.forged(**{name: value(scene)}, **header)


def _at_the_lure(scheme: str) -> Callable[[Scene], object]:
    return lambda scene: scene.lure.replace("http://", scheme)


KIDS = (
    "../../../../../../../dev/null",
    "/dev/null",
    "file:///dev/null",
    "' UNION SELECT 'secret' -- ",
    "1; DROP TABLE keys",
    "$(id)",
    "|/bin/id",
    f"{RSA_KID}\0",
    f"\0{RSA_KID}",
    f"{RSA_KID} ",
    RSA_KID.upper(),
    "",
    "__proto__",
    "%00",
    "k" * 256,
    "\U0001f701",
    "\r\nSet-Cookie: a=b",
)
"""Paths, queries, commands, and what is nearly the issuer's."""


def kids() -> Iterator[Attack]:
    """A `kid` is only ever looked up."""
    for kid in KIDS:
        yield Attack(f"kid {kid[:30]!r}", signed(kid=kid), "unknown_key")
    for wrong in (None, 1, True, [RSA_KID], {"a": RSA_KID}, "k" * 257, "k" * 4096):
        yield Attack(f"kid {str(wrong)[:12]!r} of {len(str(wrong))}", signed(kid=wrong), "malformed_token")
    for kid, secret in (("/dev/null", b""), ("' UNION SELECT 'a' -- ", b"a"), ("\0", b"\0"), ("", b"")):
        token = for_django(_with_secret(secret), kid=kid)
        yield Attack(f"kid {kid!r} and the secret it would give", token, "bad_signature", "django")
    yield Attack("the kid of a key of another type", signed(kid=EC_KID), "unknown_key")
    yield Attack("ES256 by the RSA key's kid", by(lambda s, m: s.honest.es(m), alg="ES256"), "unknown_key")


def _with_secret(secret: bytes) -> Callable[[Scene, bytes], bytes]:
    return lambda _, message: hmac_by(secret)(message)
