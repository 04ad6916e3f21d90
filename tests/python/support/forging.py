"""What a forger works with: raw parts, raw signatures, the issuer's public keys and keys of his own.

Made with the `cryptography` package and by hand, because libraries that sign refuse most of what is wanted here. The
honest issuer's keys are here too: a parser is attacked with tokens whose signature is good.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from support.node import Peer

RSA_KID, EC_KID = "rsa-1", "ec-1"
ISSUER = "https://id.example/"
AUDIENCE = "orders"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493

Json = dict[str, Any]
Sign = Callable[[bytes], bytes]


def b64(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def part(content: Json | str | bytes) -> str:
    """One part of a token: JSON of an object, or a text or bytes as they are."""
    if isinstance(content, dict):
        content = json.dumps(content)
    return b64(content.encode() if isinstance(content, str) else content)


def compact(header: Json | str | bytes, payload: Json | str | bytes, sign: Sign) -> str:
    """A token of any content with whatever `sign` makes of its first two parts."""
    head = f"{part(header)}.{part(payload)}"
    return f"{head}.{b64(sign(head.encode()))}"


def claims(**changes: Any) -> Json:
    """Claims that pass at the honest issuer; one given as `None` is left out."""
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 3600, **changes}
    return {name: value for name, value in whole.items() if value is not None}


def claims_text(member: str, without: str = "") -> str:
    """Passing claims as JSON text with one more member, written as it should stand there."""
    return json.dumps(claims(**({without: None} if without else {}))).replace("{", "{" + member + ",", 1)


def django_claims(**changes: Any) -> Json:
    """Claims of simplejwt's access token."""
    now = int(time.time())
    whole = {"token_type": "access", "exp": now + 3600, "iat": now, "jti": "0" * 32, "user_id": "1", **changes}
    return {name: value for name, value in whole.items() if value is not None}


def hmac_by(secret: bytes, digest: str = "sha256") -> Sign:
    """Signs with a shared secret."""
    return lambda message: hmac.new(secret, message, digest).digest()


@dataclass
class Pair:
    """An RSA key, a P-256 key and an Ed25519 key in one hand."""

    rsa_key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    ec_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    ed_key: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)

    def rs(self, digest: hashes.HashAlgorithm | None = None) -> Sign:
        """PKCS #1 v1.5, with SHA-256 unless said otherwise."""
        return lambda message: self.rsa_key.sign(message, padding.PKCS1v15(), digest or hashes.SHA256())

    def ps(self, message: bytes) -> bytes:
        """PSS with SHA-256."""
        return self.rsa_key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())

    def es(self, message: bytes) -> bytes:
        """ECDSA with SHA-256, as the two numbers that JWS wants."""
        r, s = self.es_numbers(message)
        return r.to_bytes(32) + s.to_bytes(32)

    def es_numbers(self, message: bytes, digest: hashes.HashAlgorithm | None = None) -> tuple[int, int]:
        """The two numbers of an ECDSA signature."""
        return decode_dss_signature(self.es_der(message, digest))

    def es_der(self, message: bytes, digest: hashes.HashAlgorithm | None = None) -> bytes:
        """ECDSA as X.509 writes it."""
        return self.ec_key.sign(message, ec.ECDSA(digest or hashes.SHA256()))

    def rsa_numbers(self) -> tuple[bytes, bytes]:
        """Modulus and exponent."""
        numbers = self.rsa_key.public_key().public_numbers()
        return numbers.n.to_bytes(256), numbers.e.to_bytes(3)

    def jwk(self, kid: str) -> Json:
        """The public RSA key."""
        n, e = self.rsa_numbers()
        return {"kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig", "n": b64(n), "e": b64(e)}

    def ec_jwk(self, kid: str) -> Json:
        """The public P-256 key."""
        point = self.ec_key.public_key().public_numbers()
        x, y = b64(point.x.to_bytes(32)), b64(point.y.to_bytes(32))
        return {"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig", "x": x, "y": y}

    def spki(self, encoding: serialization.Encoding, key: Any = None) -> bytes:
        """A public key, RSA unless said otherwise, as SubjectPublicKeyInfo."""
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        public: bytes = (key or self.rsa_key).public_key().public_bytes(encoding, spki)
        return public

    def pkcs1(self) -> bytes:
        """The public RSA key in its own PEM form."""
        return self.rsa_key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)


@dataclass(frozen=True)
class Scene:
    """What an attack is made from."""

    honest: Pair
    """The issuer's keys."""
    forger: Pair
    secret: str
    """Django's secret, with which honest tokens of that issuer are signed."""
    lure: str
    """A URL at which connections are counted."""
    node: Peer

    def signed(self, payload: Json | str | bytes, **header: Any) -> str:
        """A token of the honest issuer with any payload and more header members."""
        return compact({"alg": "RS256", "kid": RSA_KID, **header}, payload, self.honest.rs())

    def with_header(self, header: Json | str | bytes) -> str:
        """A token of the honest issuer with any header."""
        return compact(header, claims(), self.honest.rs())

    def forged(self, **header: Any) -> str:
        """A token of the forger with good claims and more header members."""
        return compact({"alg": "RS256", **header}, claims(), self.forger.rs())

    def es256(self, sign: Sign) -> str:
        """Good claims under an ES256 header that names the honest key, with whatever `sign` makes."""
        return compact({"alg": "ES256", "kid": EC_KID}, claims(), sign)

    def of_django(self, said: Json, sign: Sign | None = None, **header: Any) -> str:
        """A token for the Django issuer; honestly signed unless said otherwise."""
        return compact({"alg": "HS256", "typ": "JWT", **header}, said, sign or hmac_by(self.secret.encode()))


def sha256(message: bytes) -> bytes:
    """A digest, where a signature should be."""
    return hashlib.sha256(message).digest()
