"""What all consumers share: a note of how the connection ended, for whoever asks later."""

from channels.generic.websocket import AsyncWebsocketConsumer

from backend import gates


class Watched(AsyncWebsocketConsumer):
    """Leaves the close code that the application saw as a note, under the name that the path gives."""

    @property
    def name(self) -> str:
        """What the client calls this connection."""
        return str(self.scope["url_route"]["kwargs"]["name"])

    async def disconnect(self, code: int) -> None:
        gates.leave_note(f"{self.name}.closed", str(code))
