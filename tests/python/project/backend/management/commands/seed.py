"""Makes the people the tests log in as."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Alice is an ordinary user, Bob is staff and may use the admin site."""

    help = "create alice and bob; their password is an argument"

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("password")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        users = get_user_model().objects
        users.create_user("alice", password=options["password"])
        users.create_superuser("bob", password=options["password"])
