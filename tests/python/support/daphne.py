"""Daphne, the server of Django Channels, as it is run in production: told to believe the proxy's fields."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from support.appserver import AppServer

MESSAGE_BYTES = 16 * 1024 * 1024
"""What Uvicorn takes by default. Daphne's own default is a mebibyte."""


@dataclass
class Daphne(AppServer):
    """One Daphne, which is one process with one loop."""

    name: ClassVar[str] = "daphne"
    kind: ClassVar[str] = "daphne"
    asynchronous: ClassVar[bool] = True
    tells_client_address: ClassVar[bool] = True

    def _argv(self) -> list[str | Path]:
        place = ["-u", str(self.socket)] if self.port is None else ["-b", "127.0.0.1", "-p", str(self.port)]
        sizes = [f"--websocket-max-{what}-size={MESSAGE_BYTES}" for what in ("message", "frame")]
        return [sys.executable, "-m", "daphne", *place, "--proxy-headers", *sizes, "backend.asgi:application"]
