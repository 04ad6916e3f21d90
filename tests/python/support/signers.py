"""Three libraries that sign tokens, none of which the gateway is built with: PyJWT, joserfc and jose."""

import json
import secrets
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwt as joserfc_jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from support.node import Peer

ALGORITHMS = (
    *("HS256", "HS384", "HS512"),
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384"),
    "EdDSA",
)
LIBRARIES = ("PyJWT", "joserfc", "jose")
ISSUER = "https://id.example/"
AUDIENCE = "orders"


def claims(**changes: Any) -> dict[str, Any]:
    """What an access token says that passes; a claim given as `None` is left out."""
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 3600, **changes}
    return {name: value for name, value in whole.items() if value is not None}


@dataclass(frozen=True)
class Key:
    """One key in the hands of a library: what it publishes of it, and how it signs."""

    alg: str
    kid: str
    jwk: dict[str, Any]
    """As the library exports it, with `kid`, `alg` and `use` added; private only where it is a secret."""
    pem: str | None
    """As the library exports it; `None` for a secret."""
    secret: str | None
    _sign: Callable[[dict[str, Any], dict[str, Any]], str]

    def sign(self, said: dict[str, Any], **header: Any) -> str:
        """A token that says this; a header member given as `None` is left out."""
        whole = {"alg": self.alg, "kid": self.kid, **header}
        return self._sign({name: value for name, value in whole.items() if value is not None}, said)


def new_key(library: str, alg: str, kid: str, node: Peer) -> Key:
    """A fresh key of a library."""
    makers: dict[str, Callable[[], Key]] = {
        "PyJWT": lambda: _pyjwt(alg, kid),
        "joserfc": lambda: _joserfc(alg, kid),
        "jose": lambda: _jose(alg, kid, node),
    }
    return makers[library]()


def _new_secret() -> str:
    """Text, as people write secrets; long enough for HS512."""
    return secrets.token_urlsafe(64)


def _published(jwk: dict[str, Any], alg: str, kid: str) -> dict[str, Any]:
    return {**jwk, "kid": kid, "alg": alg, "use": "sig"}


def _pyjwt(alg: str, kid: str) -> Key:
    private: Any
    secret, pem = None, None
    if alg.startswith("HS"):
        secret = private = _new_secret()
        exported = HMACAlgorithm.to_jwk(private, as_dict=True)
    elif alg[:2] in {"RS", "PS"}:
        private = rsa.generate_private_key(65537, 2048)
        exported = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    elif alg.startswith("ES"):
        private = ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[alg])
        exported = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    else:
        private = ed25519.Ed25519PrivateKey.generate()
        exported = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    if secret is None:
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = private.public_key().public_bytes(serialization.Encoding.PEM, spki).decode()

    def sign(header: dict[str, Any], said: dict[str, Any]) -> str:
        return jwt.encode(said, private, algorithm=header["alg"], headers=header)

    return Key(alg, kid, _published(exported, alg, kid), pem, secret, sign)


def _joserfc(alg: str, kid: str) -> Key:
    key: Any
    secret = None
    if alg.startswith("HS"):
        secret = _new_secret()
        key = OctKey.import_key(secret)
    elif alg[:2] in {"RS", "PS"}:
        key = RSAKey.generate_key(2048)
    elif alg.startswith("ES"):
        key = ECKey.generate_key({"ES256": "P-256", "ES384": "P-384"}[alg])
    else:
        key = OKPKey.generate_key("Ed25519")
    exported = key.as_dict() if secret else key.as_dict(private=False)
    pem = None if secret else key.as_pem(private=False).decode()

    def sign(header: dict[str, Any], said: dict[str, Any]) -> str:
        with warnings.catch_warnings():
            # RFC 9864 prefers the name Ed25519 to EdDSA; the tokens are the same otherwise.
            warnings.simplefilter("ignore", SecurityWarning)
            return joserfc_jwt.encode(header, said, key, algorithms=[header["alg"]])

    return Key(alg, kid, _published(exported, alg, kid), pem, secret, sign)


def _jose(alg: str, kid: str, node: Peer) -> Key:
    secret = _new_secret() if alg.startswith("HS") else None
    handle = secrets.token_hex(8)
    made = node.ask(operation="generate", handle=handle, alg=alg, **({"secret": secret} if secret else {}))

    def sign(header: dict[str, Any], said: dict[str, Any]) -> str:
        token: str = node.ask(operation="sign", handle=handle, header=header, claims=said)
        return token

    return Key(alg, kid, _published(made["jwk"], alg, kid), made.get("pem"), secret, sign)


def key_set(*keys: Key) -> str:
    """The public keys as a JSON Web Key Set."""
    return json.dumps({"keys": [key.jwk for key in keys]})
