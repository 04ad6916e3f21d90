"""The gateway as an operator runs it: one binary, one configuration file, watched from outside."""

import json
import os
import socket
import ssl
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509

from support.certificates import Authority
from support.metrics import GENERATION, Metrics
from support.processes import Daemon
from support.waiting import accepts, free_ports, wait_until

REPOSITORY = Path(__file__).resolve().parents[3]
CLIENT_ADDRESS = "127.0.0.7"
"""Where clients come from: loopback, but not the address the gateway itself connects from."""
UPLOAD_BYTES = 32 * 1024 * 1024

ROUTES = f"""
    [[route]]
    name = "static"
    path = "/static/"
    auth = "public"
    files = {{ root = "@STATIC@" }}

    [[route]]
    name = "protected"
    path = "/protected/"
    auth = "internal"
    files = {{ root = "@MEDIA@" }}

    [[route]]
    name = "admin-site"
    path = "/admin/"
    auth = "public"
    upstream = "web"

    [[route]]
    name = "notes"
    path = "/notes/"
    auth = "public"
    upstream = "web"

    [[route]]
    name = "public"
    path = "/public/"
    auth = "public"
    upstream = "web"

    [[route]]
    name = "login"
    path = "/api/token/"
    methods = ["POST"]
    auth = "public"
    upstream = "web"

    [[route]]
    name = "guarded"
    path = "/guarded/"
    auth = {{ issuer = "django" }}
    forward_claims = {{ "X-User-Id" = "user_id" }}
    upstream = "web"

    [[route]]
    name = "api"
    path = "/api/"
    auth = {{ issuer = "django" }}
    forward_claims = {{ "X-User-Id" = "user_id" }}
    upstream = "web"

    [[route]]
    name = "staff"
    path = "/api/staff/"
    auth = {{ issuer = "django", require = {{ is_staff = true }} }}
    upstream = "web"

    [[route]]
    name = "live"
    path = "/live/"
    auth = {{ issuer = "django", token = {{ websocket_protocol = true }} }}
    upstream = "web"

    [[route]]
    name = "uploads"
    path = "/api/uploads/"
    auth = {{ issuer = "django" }}
    body_bytes = {UPLOAD_BYTES}
    upstream = "web"
"""


def binary() -> Path:
    """The gateway under test: `PORTCULLIS_BIN`, or what `cargo build` made."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    named = os.environ.get("PORTCULLIS_BIN")
    path = Path(named) if named else REPOSITORY / target / "debug" / "portcullis"
    assert path.is_file(), f"no gateway at {path}: run `cargo build` first, or name one in PORTCULLIS_BIN"
    return path.resolve()


@dataclass(kw_only=True)
class GatewayProcess:
    """One gateway process and the files it reads, whatever stands behind it."""

    directory: Path
    authority: Authority
    drain_secs: int = 30
    listener_keys: str = ""
    """More lines of the listener's table."""
    environment: dict[str, str] = field(default_factory=dict)
    """What the process finds in its environment, read at its start."""
    port: int = field(init=False)
    admin_port: int = field(init=False)
    serial: int = field(init=False)
    _daemon: Daemon | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.port, self.admin_port = free_ports(2)
        self.serial = self.install_certificate()
        self.configure()

    # Files an operator edits.

    @property
    def config_file(self) -> Path:
        """The one configuration file."""
        return self.directory / "gateway.toml"

    @property
    def access_log(self) -> Path:
        """One line a request."""
        return self.directory / "access.log"

    @property
    def process_log(self) -> Path:
        """What the process writes to its standard output and error."""
        return self.directory / "gateway.log"

    def configure(self, extra: str = "") -> None:
        """Writes the configuration, with more tables at its end, in one step as an editor would."""
        draft = self.directory / "gateway.toml.new"
        draft.write_text(textwrap.dedent(self._tables()) + textwrap.dedent(extra))
        draft.replace(self.config_file)

    def install_certificate(self) -> int:
        """Puts a fresh certificate in place of the current one and returns its serial number."""
        certificate = self.authority.issue()
        certificate.write(self.directory / "tls.crt", self.directory / "tls.key")
        return certificate.serial

    # The process.

    def start(self) -> None:
        """Starts the process and waits until it says that it is ready."""
        argv: list[str | Path] = [binary(), "run", "--config", self.config_file]
        environment = {"RUST_BACKTRACE": "1", **self.environment}
        self._daemon = Daemon(f"gateway at {self.host}", argv, self.process_log, environment, self.directory)
        self._daemon.wait_ready(lambda: self.readiness() == httpx.codes.OK)

    def stop(self) -> None:
        """Ends the process whatever its state."""
        if self._daemon is not None:
            self._daemon.stop()

    @property
    def daemon(self) -> Daemon:
        """The running process."""
        assert self._daemon is not None, "the gateway was not started"
        return self._daemon

    # Seen from the clients' side.

    @property
    def host(self) -> str:
        """What clients send in Host."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"https://{self.host}"

    @property
    def listening(self) -> bool:
        """Whether the TLS port still accepts connections."""
        return accepts(self.port)

    def client(self, http2: bool = False, timeout: float = 30) -> httpx.Client:
        """A client that trusts the tests' authority alone and connects from `CLIENT_ADDRESS`."""
        transport = httpx.HTTPTransport(
            verify=self.authority.trust(), http2=http2, local_address=CLIENT_ADDRESS, trust_env=False
        )
        return httpx.Client(base_url=self.url, transport=transport, timeout=timeout)

    def logged(self, path: str) -> dict[str, Any]:
        """The line of the access log about the request for this path, as soon as it is there."""

        def look() -> dict[str, Any] | None:
            whole = self.access_log.read_text().split("\n")[:-1] if self.access_log.exists() else []
            return next((line for line in map(json.loads, whole) if line["path"] == path), None)

        return wait_until(look, f"the access log to tell of {path}")

    def serial_served(self) -> int:
        """The serial number of the certificate that a new connection is shown."""
        trust = self.authority.trust()
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain,
            trust.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            return _serial(secured)

    # Seen from the operator's side.

    def admin(self, path: str) -> httpx.Response:
        """One GET to the admin listener."""
        # Plain HTTP; `verify` only spares httpx the reading of the system's certificates each time.
        return httpx.get(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10, trust_env=False, verify=False)

    def order(self, path: str) -> httpx.Response:
        """One POST to the admin listener."""
        return httpx.post(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10, trust_env=False, verify=False)

    def readiness(self) -> int | None:
        """The status of /readyz; `None` when nobody listens there."""
        try:
            return self.admin("/readyz").status_code
        except httpx.TransportError:
            return None

    def reload_complaint(self) -> str | None:
        """Why the last edit was refused, as /readyz tells it."""
        complaint: str | None = self.admin("/readyz").json()["last_reload_error"]
        return complaint

    def metrics(self) -> Metrics:
        """One scrape."""
        return Metrics.parse(self.admin("/metrics").text)

    def generation(self) -> float:
        """The number of the live configuration."""
        return self.metrics().total(GENERATION)

    def wait_generation_after(self, before: float) -> float:
        """The new generation's number, as soon as there is one."""
        return wait_until(
            lambda: generation if (generation := self.generation()) > before else 0,
            f"a generation after {before:g}",
        )

    def _tables(self) -> str:
        return f"""
    [server]
    workers = 2
    drain_secs = {self.drain_secs}

    [log]
    access = true
    access_file = "{self.access_log}"

    [listen.https]
    address = "127.0.0.1:{self.port}"
    certificates = [{{ cert = "{self.directory}/tls.crt", key = "{self.directory}/tls.key" }}]
    {self.listener_keys}

    [admin]
    address = "127.0.0.1:{self.admin_port}"
"""


@dataclass(kw_only=True)
class Gateway(GatewayProcess):
    """A gateway before the Django project, which trusts the tokens that Django signs."""

    endpoint: str
    static_root: Path
    secret: str
    more_endpoints: tuple[str, ...] = ()
    """Equal servers beside that one."""
    kind: str = "gunicorn"
    """What stands at the endpoint."""
    issuer_keys: str = ""
    """Whose tokens pass, if it is not whoever has `secret`: lines of the issuer's table."""
    upstream_keys: str = ""
    """More lines of the upstream's table."""

    def __post_init__(self) -> None:
        self.secret_file.write_text(self.secret)
        super().__post_init__()

    @property
    def media_root(self) -> Path:
        """Where people's uploads are: beside what was collected."""
        return self.static_root.parent / "media"

    @property
    def secret_file(self) -> Path:
        """Django's SECRET_KEY."""
        return self.directory / "django.secret"

    def _tables(self) -> str:
        issuer_keys = self.issuer_keys or f'secret = {{ file = "{self.secret_file}" }}'
        endpoints = json.dumps([self.endpoint, *self.more_endpoints])
        tables = f"""
    [issuer.django]
    preset = "simplejwt"
    {issuer_keys}

    [upstream.web]
    kind = "{self.kind}"
    endpoints = {endpoints}
    max_connections = 32
    connect_timeout_secs = 2
    {self.upstream_keys}
"""
        return super()._tables() + tables + ROUTES.replace("@STATIC@", str(self.static_root)).replace("@MEDIA@", str(self.media_root))


def _serial(secured: ssl.SSLSocket) -> int:
    der = secured.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number
