"""Tokens that say whether their bearer is staff, so that the gateway can decide without asking Django."""

from typing import Any

from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.tokens import RefreshToken


class StaffAwareSerializer(TokenObtainPairSerializer):  # type: ignore[type-arg]
    """Adds the `is_staff` claim to the refresh token, from which the access token inherits it."""

    @classmethod
    def get_token(cls, user: Any) -> RefreshToken:
        token: RefreshToken = super().get_token(user)
        token["is_staff"] = user.is_staff
        return token
