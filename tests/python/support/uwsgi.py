"""uWSGI as it is run in production: a master, two workers of four threads, over its own protocol or over HTTP."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from support.appserver import AppServer

BINARY = Path(sys.executable).with_name("uwsgi")
BUFFER_BYTES = 32768
"""What the variables of one request may come to. The default, 4096, is too little for a token beside some cookies."""
ARGUMENTS = ("--master", "--workers=2", "--threads=4", "--need-app", "--die-on-term", "--no-orphans", "--vacuum")


@dataclass
class Uwsgi(AppServer):
    """uWSGI over its own protocol, which gives every variable that the gateway sends to the application."""

    name: ClassVar[str] = "uwsgi"
    kind: ClassVar[str] = "uwsgi"
    listen: ClassVar[str] = "--socket"
    uwsgi: ClassVar[bool] = True
    tells_client_address: ClassVar[bool] = True
    tells_user: ClassVar[bool] = True

    def _argv(self) -> list[str | Path]:
        place = str(self.socket) if self.port is None else f"127.0.0.1:{self.port}"
        return [
            BINARY,
            *ARGUMENTS,
            f"--buffer-size={BUFFER_BYTES}",
            f"--virtualenv={sys.prefix}",
            "--module=backend.wsgi",
            f"{self.listen}={place}",
        ]


@dataclass
class HttpUwsgi(Uwsgi):
    """uWSGI over HTTP, as where another proxy stood before; it closes each connection after one answer."""

    name: ClassVar[str] = "uwsgi-http"
    listen: ClassVar[str] = "--http-socket"
    uwsgi: ClassVar[bool] = False
    tells_client_address: ClassVar[bool] = False
    tells_user: ClassVar[bool] = False
