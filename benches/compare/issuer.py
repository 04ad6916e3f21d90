"""The token issuer and the certificate authority of the comparison."""

import base64
import datetime
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

RS256_TOKENS, ES256_TOKENS, FORGED_TOKENS = 2000, 20_000, 2000
CERTIFICATE_DAYS = 30
P256_BYTES = 32
RSA_BITS = 2048

Sign = Callable[[bytes], bytes]


def write_certificate(directory: Path) -> None:
    """A self-signed P-256 certificate for localhost: `cert.pem`, `key.pem`, and for HAProxy both in `both.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_private(directory / "key.pem", private)
    _write_private(directory / "both.pem", certificate + private)
    (directory / "cert.pem").write_bytes(certificate)


def write_keys_and_tokens(directory: Path, issuer: str, audience: str, lifetime_secs: int) -> None:
    """The issuer's key set, its public keys in PEM, and a file of tokens for each algorithm, one token a line."""
    rsa_key = rsa.generate_private_key(public_exponent=65_537, key_size=RSA_BITS)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    (directory / "jwks.json").write_text(json.dumps({"keys": [_rsa_jwk(rsa_key), _ec_jwk(ec_key)]}))
    (directory / "rsa.pem").write_bytes(_public_pem(rsa_key))
    (directory / "ec.pem").write_bytes(_public_pem(ec_key))

    def claims(user: int) -> dict[str, object]:
        now = int(time.time())
        return {
            "iss": issuer, "aud": audience, "sub": f"user-{user}", "scope": "read write", "iat": now, "nbf": now - 5,
            "exp": now + lifetime_secs, "jti": f"token-{user}", "token_type": "access",
        }  # fmt: skip

    def sign_rsa(message: bytes) -> bytes:
        return rsa_key.sign(message, padding.PKCS1v15(), hashes.SHA256())

    def sign_ec(message: bytes) -> bytes:
        r, s = decode_dss_signature(ec_key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(P256_BYTES, "big") + s.to_bytes(P256_BYTES, "big")

    rs256 = [_token("RS256", "rsa", claims(user), sign_rsa) for user in range(RS256_TOKENS)]
    es256 = (_token("ES256", "ec", claims(user), sign_ec) for user in range(ES256_TOKENS))
    message = rs256[0].rpartition(".")[0]
    forged = (f"{message}.{_base64url(os.urandom(RSA_BITS // 8))}" for _ in range(FORGED_TOKENS))
    for name, tokens in (("rs256", rs256), ("es256", es256), ("forged", forged)):
        _write_lines(directory / f"{name}.tokens", tokens)


def _token(algorithm: str, kid: str, claims: dict[str, object], sign: Sign) -> str:
    """A compact JWS (RFC 7515 section 3.1)."""
    header = {"alg": algorithm, "typ": "JWT", "kid": kid}
    message = f"{_base64url(json.dumps(header).encode())}.{_base64url(json.dumps(claims).encode())}"
    return f"{message}.{_base64url(sign(message.encode()))}"


def _rsa_jwk(key: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "kid": "rsa", "alg": "RS256", "use": "sig", "n": _number(numbers.n), "e": _number(numbers.e)}


def _ec_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    point = key.public_key().public_numbers()
    x, y = (_base64url(value.to_bytes(P256_BYTES, "big")) for value in (point.x, point.y))
    return {"kty": "EC", "kid": "ec", "alg": "ES256", "use": "sig", "crv": "P-256", "x": x, "y": y}


def _number(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
