"""Consumers with one habit each, for what a front must get right."""

import asyncio
import json
from typing import Any

from backend import gates
from backend.sockets.watched import Watched

PATTERN = b"0123456789abcdef"


class Seen(Watched):
    """Says what it sees of the request that opened the connection."""

    async def connect(self) -> None:
        await self.accept()
        await self.send(text_data=json.dumps(self._seen()))

    def _seen(self) -> dict[str, Any]:
        scope = self.scope
        return {
            "scheme": scope.get("scheme"),
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "client": scope.get("client"),
            "subprotocols": scope["subprotocols"],
            "user": scope["user"].get_username(),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        }


class Refusing(Watched):
    """Closes before it accepts, which the servers answer with 403 (Forbidden)."""

    async def connect(self) -> None:
        await self.close()


class Closing(Watched):
    """Accepts, and closes with the code that the path names."""

    async def connect(self) -> None:
        await self.accept()
        await self.close(code=self.scope["url_route"]["kwargs"]["code"], reason="as you wished")


class Large(Watched):
    """Sends one message of as many bytes as the path says."""

    async def connect(self) -> None:
        await self.accept()
        size: int = self.scope["url_route"]["kwargs"]["size"]
        await self.send(bytes_data=(PATTERN * (size // len(PATTERN) + 1))[:size])


class Slow(Watched):
    """Sends a message whenever a gate opens, and nothing in between."""

    async def connect(self) -> None:
        await self.accept()
        self._task = asyncio.create_task(self._serve())

    async def disconnect(self, code: int) -> None:
        self._task.cancel()
        await super().disconnect(code)

    async def _serve(self) -> None:
        for number in (1, 2):
            await gates.wait_long_at(f"{self.name}.{number}")
            await self.send(text_data=f"message {number}")
