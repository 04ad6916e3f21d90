"""Consumers that talk: with one client, or with a room of them."""

from typing import Any

from backend.sockets.watched import Watched

PROTOCOLS = ("echo.v2", "echo")
"""What `Echo` speaks, the best first."""


class Echo(Watched):
    """Sends back each message as it came, text as text and bytes as bytes."""

    async def connect(self) -> None:
        offered = self.scope["subprotocols"]
        await self.accept(next((name for name in PROTOCOLS if name in offered), None))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


class Chat(Watched):
    """Sends each message to everybody in the room, by the channel layer."""

    async def connect(self) -> None:
        await self.channel_layer.group_add(self.name, self.channel_name)
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        said = {"type": "said", "text": f"{self.scope['user'].get_username() or 'somebody'}: {text_data}"}
        await self.channel_layer.group_send(self.name, said)

    async def said(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.name, self.channel_name)
        await super().disconnect(code)
