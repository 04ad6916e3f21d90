"""Gunicorn as it is run in production: gthread, two workers of four threads, over TCP or a unix socket."""

import secrets
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from support.processes import Daemon
from support.site import PROJECT, Site
from support.waiting import wait_until

KEEP_ALIVE_SECS = 2
ARGUMENTS = ("--worker-class=gthread", "--workers=2", "--threads=4", f"--keep-alive={KEEP_ALIVE_SECS}")
ACCESS_FORMAT = "%(m)s %(U)s %(q)s %(s)s"


@dataclass
class Gunicorn:
    """One Gunicorn, which a test may stop and start again at the same place."""

    site: Site
    directory: Path
    port: int | None = None
    _daemon: Daemon | None = field(default=None, init=False)

    @property
    def socket(self) -> Path:
        """The unix socket, when there is no port."""
        return self.directory / "app.sock"

    @property
    def endpoint(self) -> str:
        """The address in the gateway's configuration language."""
        return f"unix:{self.socket}" if self.port is None else f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        bind = f"unix:{self.socket}" if self.port is None else f"127.0.0.1:{self.port}"
        argv = [
            sys.executable,
            "-m",
            "gunicorn",
            *ARGUMENTS,
            f"--bind={bind}",
            f"--access-logfile={self._access_log}",
            f"--access-logformat={ACCESS_FORMAT}",
            "--no-control-socket",
            "backend.wsgi",
        ]
        log = self.directory / "gunicorn.log"
        self._daemon = Daemon(f"gunicorn at {bind}", argv, log, self.site.environment, PROJECT)
        self._daemon.wait_ready(self._answers)

    def stop(self) -> None:
        """Stops it and waits until it is gone; harmless when it never started."""
        if self._daemon is not None:
            self._daemon.stop()

    def client(self, host: str) -> httpx.Client:
        """A client that speaks to Gunicorn itself, as the gateway would: same Host, scheme https."""
        transport = httpx.HTTPTransport(uds=str(self.socket) if self.port is None else None)
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port or 80}",
            headers={"Host": host, "X-Forwarded-Proto": "https"},
            transport=transport,
            timeout=20,
        )

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

    def _answers(self) -> bool:
        try:
            with self.client("localhost") as client:
                return client.get("/public/echo/").status_code == 200
        except httpx.TransportError:
            return False
