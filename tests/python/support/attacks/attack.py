"""What an attack is, and the short ways of saying how its token is made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.forging import RSA_KID, Json, Scene, Sign, claims, claims_text, compact, django_claims

Maker = Callable[[Scene], str | bytes]
SceneSign = Callable[[Scene, bytes], bytes]
"""Makes a signature of a message with the keys of a scene."""


@dataclass(frozen=True)
class Attack:
    """One token and what must become of it."""

    title: str
    token: Maker
    reason: str
    issuer: str = "corp"

    @property
    def status(self) -> int:
        """400 where the request is malformed, 401 where the token is not good; DRF has 401 for both."""
        malformed = self.reason in {"malformed_header", "oversized_token"}
        return 400 if malformed and self.issuer != "django" else 401


def signed(payload: str | bytes | None = None, /, **header: Any) -> Maker:
    """Signed by the issuer: any payload, or else passing claims, and more header members."""
    return lambda scene: scene.signed(claims() if payload is None else payload, **header)


def claiming(**changes: Any) -> Maker:
    """Signed by the issuer: passing claims but for these."""
    return lambda scene: scene.signed(claims(**changes))


def claiming_text(member: str, without: str = "") -> Maker:
    """Signed by the issuer: passing claims with one more member, as it is written."""
    return lambda scene: scene.signed(claims_text(member, without))


def headed(header: Json | str | bytes) -> Maker:
    """Signed by the issuer: any header."""
    return lambda scene: scene.with_header(header)


def by(sign: SceneSign, **header: Any) -> Maker:
    """Passing claims under a header that names the issuer's RSA key, with whatever `sign` makes."""
    whole = {"alg": "RS256", "kid": RSA_KID, **header}
    return lambda scene: compact(whole, claims(), _with(scene, sign))


def es256_by(sign: SceneSign) -> Maker:
    """Passing claims under a header that names the issuer's EC key."""
    return lambda scene: scene.es256(_with(scene, sign))


def eddsa_by(sign: SceneSign) -> Maker:
    """Passing claims for the issuer that signs with Ed25519."""
    return lambda scene: compact({"alg": "EdDSA"}, claims(), _with(scene, sign))


def for_django(sign: SceneSign | None = None, alg: str = "HS256", kid: str | None = None, **changes: Any) -> Maker:
    """simplejwt's claims but for these; signed with its secret unless said otherwise."""
    header = {"alg": alg} if kid is None else {"alg": alg, "kid": kid}

    def make(scene: Scene) -> str:
        return scene.of_django(django_claims(**changes), sign and _with(scene, sign), **header)

    return make


def respelt(change: Callable[[str], str]) -> Maker:
    """A good token, written in another way."""
    return lambda scene: change(scene.signed(claims()))


def _with(scene: Scene, sign: SceneSign) -> Sign:
    return lambda message: sign(scene, message)
