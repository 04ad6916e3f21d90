"""Who opened a WebSocket, by the token that came with its request; REST framework does the same for views."""

from typing import Any

from channels.db import database_sync_to_async
from django.contrib.auth.models import AnonymousUser
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import InvalidToken


class BearerUser:
    """Puts the user into the scope; nobody, where there is no good token."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        header = dict(scope["headers"]).get(b"authorization", b"")
        return await self._inner({**scope, "user": await _user(header)}, receive, send)


@database_sync_to_async
def _user(header: bytes) -> Any:
    judge = JWTAuthentication()
    raw = judge.get_raw_token(header) if header else None
    try:
        return AnonymousUser() if raw is None else judge.get_user(judge.get_validated_token(raw))
    except InvalidToken:
        return AnonymousUser()
