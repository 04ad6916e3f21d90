"""What all application servers share: a place, a process, and clients that speak to it as the gateway would."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import httpx

from support.processes import Daemon
from support.site import PROJECT, Site
from support.uwsgi_wire import UwsgiTransport
from support.waiting import accepts


@dataclass
class AppServer(ABC):
    """One server of the project, which a test may stop and start again at the same place."""

    site: Site
    directory: Path
    port: int | None = None
    """Without one it listens on a unix socket."""
    _daemon: Daemon | None = field(default=None, init=False)

    name: ClassVar[str]
    kind: ClassVar[str]
    """Which kind of upstream it is in the gateway's configuration language."""
    uwsgi: ClassVar[bool] = False
    """Whether it speaks uwsgi in place of HTTP."""
    asynchronous: ClassVar[bool] = False
    """Whether it runs the ASGI application."""
    tells_client_address: ClassVar[bool] = False
    """Whether REMOTE_ADDR is the client's, and not the gateway's."""
    tells_user: ClassVar[bool] = False
    """Whether the gateway can tell it the verified subject as REMOTE_USER."""

    @abstractmethod
    def _argv(self) -> list[str | Path]:
        """What starts it."""

    @property
    def socket(self) -> Path:
        """The unix socket, when there is no port."""
        return self.directory / "app.sock"

    @property
    def place(self) -> tuple[str, int] | Path:
        """Where it listens."""
        return self.socket if self.port is None else ("127.0.0.1", self.port)

    @property
    def endpoint(self) -> str:
        """The address in the gateway's configuration language."""
        if self.port is None:
            return f"{'uwsgi+' if self.uwsgi else ''}unix:{self.socket}"
        return f"{'uwsgi' if self.uwsgi else 'http'}://127.0.0.1:{self.port}"

    @property
    def daemon(self) -> Daemon:
        """The running process."""
        assert self._daemon is not None, f"{self.name} was not started"
        return self._daemon

    def start(self) -> None:
        """Starts it and waits until it answers."""
        log = self.directory / f"{self.name}.log"
        title = f"{self.name} at {self.endpoint}"
        self._daemon = Daemon(title, self._argv(), log, self.site.environment, PROJECT)
        self._daemon.wait_ready(self._answers)

    def stop(self) -> None:
        """Stops it and waits until it is gone; harmless when it never started."""
        if self._daemon is not None:
            self._daemon.stop()

    def client(self, host: str) -> httpx.Client:
        """A client that speaks to the server itself, as the gateway would: same Host, scheme https."""
        uds = str(self.socket) if self.port is None else None
        # uWSGI closes each connection over HTTP and does not say so: kept ones would fail now and then.
        unkept = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port or 80}",
            headers={"Host": host, "X-Forwarded-Proto": "https"},
            transport=UwsgiTransport(self.place) if self.uwsgi else httpx.HTTPTransport(uds=uds, limits=unkept),
            timeout=20,
        )

    def _answers(self) -> bool:
        if self.port is not None and not accepts(self.port):
            return False
        try:
            with self.client("localhost") as client:
                return client.get("/public/echo/").status_code == 200
        except (httpx.TransportError, OSError):
            return False
