"""Uvicorn as it is run in production: it believes the fields of a proxy on this machine."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from support.appserver import AppServer


@dataclass
class Uvicorn(AppServer):
    """One Uvicorn of one process, so that its consumers share the channel layer in memory."""

    name: ClassVar[str] = "uvicorn"
    kind: ClassVar[str] = "uvicorn"
    asynchronous: ClassVar[bool] = True
    tells_client_address: ClassVar[bool] = True

    def _argv(self) -> list[str | Path]:
        place = [f"--uds={self.socket}"] if self.port is None else ["--host=127.0.0.1", f"--port={self.port}"]
        trusted = ["--proxy-headers", f"--forwarded-allow-ips={'*' if self.port is None else '127.0.0.1'}"]
        server = [sys.executable, "-m", "uvicorn", *place, *trusted]
        return [*server, "--no-access-log", "backend.asgi:application"]
