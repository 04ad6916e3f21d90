"""Gunicorn as it is run in production: gthread, two workers of four threads, over TCP or a unix socket; or with sync workers."""

import secrets
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from support.appserver import AppServer
from support.waiting import wait_until

KEEP_ALIVE_SECS = 2
ARGUMENTS = ("--worker-class=gthread", "--workers=2", "--threads=4", f"--keep-alive={KEEP_ALIVE_SECS}")
ACCESS_FORMAT = "%(m)s %(U)s %(q)s %(s)s"


@dataclass
class Gunicorn(AppServer):
    """Gunicorn over HTTP/1.1."""

    name: ClassVar[str] = "gunicorn"
    kind: ClassVar[str] = "gunicorn"
    protocol: ClassVar[str] = "http"
    arguments: ClassVar[tuple[str, ...]] = ARGUMENTS

    def _argv(self) -> list[str | Path]:
        bind = f"unix:{self.socket}" if self.port is None else f"127.0.0.1:{self.port}"
        return [
            sys.executable,
            "-m",
            "gunicorn",
            *self.arguments,
            f"--protocol={self.protocol}",
            f"--bind={bind}",
            f"--access-logfile={self._access_log}",
            f"--access-logformat={ACCESS_FORMAT}",
            "--no-control-socket",
            "backend.wsgi",
        ]

    def requests_seen(self) -> Counter[str]:
        """How often each query string has been answered, from Gunicorn's own access log.

        Gunicorn writes a line after the response, so a marker is sent last and its line waited for.
        """
        marker = secrets.token_hex(8)
        with self.client("localhost") as client:
            client.get(f"/public/echo/?{marker}")
        return wait_until(lambda: seen if marker in (seen := self._logged()) else None, "Gunicorn's access log")

    def _logged(self) -> Counter[str]:
        return Counter(line.split(" ")[2] for line in self._access_log.read_text().splitlines())

    @property
    def _access_log(self) -> Path:
        return self.directory / "access.log"


@dataclass
class UwsgiGunicorn(Gunicorn):
    """Gunicorn over the uwsgi protocol. Of the variables it takes method, path, query, fields and HTTPS alone."""

    name: ClassVar[str] = "gunicorn-uwsgi"
    protocol: ClassVar[str] = "uwsgi"
    uwsgi: ClassVar[bool] = True


@dataclass
class SyncGunicorn(Gunicorn):
    """Gunicorn as it comes: each of four workers serves one request at a time."""

    name: ClassVar[str] = "gunicorn-sync"
    arguments: ClassVar[tuple[str, ...]] = ("--worker-class=sync", "--workers=4", "--timeout=100")
