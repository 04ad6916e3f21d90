"""Takes the gateway's word, and nobody else's, on who sent a request: the token of X-Portcullis-Identity."""

from typing import Any
from urllib.parse import unquote

import jwt
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import cache
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

LONGEST_LIFETIME_SECS = 300
REQUIRED = ["iss", "aud", "sub", "iat", "exp", "jti", "htm", "htp"]


class GatewayAuthentication(BaseAuthentication):
    """Refuses whatever has not just come through the gateway; it never leaves the question to another class."""

    def authenticate(self, request: Request) -> tuple[Any, dict[str, Any]]:
        claims = _claims(request)
        if not _is_for(request, claims) or not _is_first(claims):
            raise AuthenticationFailed("The gateway did not send this request.")
        users = get_user_model()
        try:
            return users.objects.get(pk=claims["sub"], is_active=True), claims
        except (users.DoesNotExist, ValueError) as error:
            raise AuthenticationFailed("There is no such user.") from error


def _claims(request: Request) -> dict[str, Any]:
    """What the gateway signed, for this application, within the last seconds."""
    try:
        token = jwt.decode_complete(
            request.headers.get("X-Portcullis-Identity", ""),
            settings.GATEWAY_KEY,
            algorithms=["EdDSA"],
            issuer=settings.GATEWAY_ISSUER,
            audience=settings.GATEWAY_AUDIENCE,
            leeway=0,
            options={"require": REQUIRED},
        )
    except jwt.InvalidTokenError as error:
        raise AuthenticationFailed("The gateway did not sign this request.") from error
    if token["header"].get("typ") != "portcullis-identity+jwt":
        raise AuthenticationFailed("The gateway did not sign this request.")
    claims: dict[str, Any] = token["payload"]
    return claims


def _is_for(request: Request, claims: dict[str, Any]) -> bool:
    """Whether the token is for this method, path and query, as Django itself understood them."""
    path, _, query = str(claims["htp"]).partition("?")
    seen = (request.method, request.path_info, request.META["QUERY_STRING"])
    return seen == (claims["htm"], unquote(path), query)


def _is_first(claims: dict[str, Any]) -> bool:
    """Whether the token was never seen before; the cache is one for all processes."""
    return bool(cache.add(f"gateway-identity:{claims['jti']}", True, timeout=LONGEST_LIFETIME_SECS))
