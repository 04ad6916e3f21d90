"""Tokens as simplejwt signs them, and tokens that nobody should accept."""

import base64
import json
import secrets
import time
from typing import Any

import jwt


def mint(secret: str, algorithm: str = "HS256", **claims: Any) -> str:
    """A token shaped like simplejwt's access token; a claim given as `None` is left out."""
    now = int(time.time())
    whole: dict[str, Any] = {
        "token_type": "access",
        "exp": now + 3600,
        "iat": now,
        "jti": secrets.token_hex(16),
        "user_id": "1",
        "is_staff": False,
        **claims,
    }
    return jwt.encode({name: value for name, value in whole.items() if value is not None}, secret, algorithm=algorithm)


def unsigned(**claims: Any) -> str:
    """The same claims with `alg: none` and an empty signature."""
    header = _segment({"alg": "none", "typ": "JWT"})
    payload = jwt.decode(mint("k" * 32, **claims), options={"verify_signature": False})
    return f"{header}.{_segment(payload)}."


def with_claims_changed(token: str, **claims: Any) -> str:
    """The token with other claims under its old signature."""
    header, _, signature = token.split(".")
    payload = jwt.decode(token, options={"verify_signature": False})
    return f"{header}.{_segment(payload | claims)}.{signature}"


def with_header_changed(token: str, **members: Any) -> str:
    """The token with other members in its header under its old signature."""
    _, _, rest = token.partition(".")
    return f"{_segment(jwt.get_unverified_header(token) | members)}.{rest}"


def with_signature_changed(token: str) -> str:
    """The token with one bit of its signature turned over."""
    head, _, signature = token.rpartition(".")
    turned = "B" if signature[0] == "A" else "A"
    return f"{head}.{turned}{signature[1:]}"


def _segment(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
