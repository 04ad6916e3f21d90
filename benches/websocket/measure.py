"""Messages through a WebSocket: Portcullis and Nginx in turns, by processor time for each. `--help` says more."""

import argparse
import os
import resource
import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "compare"))

import client  # noqa: E402
from processes import Daemon, Failed, cpu_numbers, free_ports  # noqa: E402

WARM_SECS = 1.0
PORTCULLIS = """
[server]
workers = 1
drain_secs = 1
[log]
access = false
[limits]
connections = 100000
[listen.http]
address = "127.0.0.1:{port}"
[upstream.echo]
endpoints = ["http://127.0.0.1:{upstream}"]
[[route]]
name = "echo"
path = "/"
auth = "public"
upstream = "echo"
max_tunnels = 100000
"""
NGINX = """
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 100000; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_set_header Host $host;
      proxy_read_timeout 300s;
      proxy_pass http://127.0.0.1:{upstream};
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Figures:
    """Of one server in one round."""

    cpu_us: float
    messages_per_sec: float
    idle_bytes: float


def main() -> int:
    """Exit code: 0 when every round was measured."""
    asked = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if soft < hard else (soft, hard))
    os.sched_setaffinity(0, cpu_numbers(asked.cpu_client))
    servers = {"portcullis": portcullis, "nginx": nginx}
    found: dict[str, list[Figures]] = {name: [] for name in servers}
    with TemporaryDirectory() as scratch, upstream(asked, Path(scratch)) as port:
        for turn in range(asked.rounds):
            for name in list(servers)[turn % 2 :] + list(servers)[: turn % 2]:
                directory = Path(scratch) / f"{name}-{turn}"
                directory.mkdir()
                figures = measure(servers[name](asked, directory, port), asked)
                found[name].append(figures)
                print(f"round {turn + 1}: {name}: {figures.cpu_us:.2f} us", file=sys.stderr)
    print(f"{'server':12} {'us/message':>10} {'messages/s':>11} {'bytes/idle tunnel':>18}")
    for name, rounds in found.items():
        cpu, rate, idle = (statistics.median(getattr(one, key) for one in rounds) for key in Figures.__annotations__)
        print(f"{name:12} {cpu:10.2f} {rate:11.0f} {idle:18.0f}")
    return 0


def measure(started: tuple[Daemon, int], asked: argparse.Namespace) -> Figures:
    """A message there and its echo back are two."""
    daemon, port = started
    with daemon:
        daemon.wait_listening([port])
        sockets = client.open_all(port, asked.connections)
        client.echo(sockets, WARM_SECS)
        before = daemon.cpu_secs()
        messages = 2 * client.echo(sockets, asked.secs)
        spent = daemon.cpu_secs() - before
        used = daemon.pss_bytes()
        idle = client.open_all(port, asked.idle)
        client.echo_once(idle)
        grown = daemon.pss_bytes() - used
        for socket in sockets + idle:
            socket.close()
    return Figures(1e6 * spent / messages, messages / asked.secs, grown / max(1, asked.idle))


def portcullis(asked: argparse.Namespace, directory: Path, upstream: int) -> tuple[Daemon, int]:
    """One worker, no access log."""
    (port,) = free_ports(1)
    config = directory / "gateway.toml"
    config.write_text(PORTCULLIS.format(port=port, upstream=upstream))
    argv = [asked.binary.resolve(), "run", "--config", config]
    return Daemon("portcullis", argv, directory / "log", asked.cpu_server, {}), port


def nginx(asked: argparse.Namespace, directory: Path, upstream: int) -> tuple[Daemon, int]:
    """The same."""
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        raise Failed("nginx is not installed")
    (port,) = free_ports(1)
    config = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(port=port, upstream=upstream, directory=directory, user=user))
    argv = [binary, "-e", "stderr", "-p", directory, "-c", config]
    return Daemon("nginx", argv, directory / "log", asked.cpu_server, {}), port


@contextmanager
def upstream(asked: argparse.Namespace, directory: Path) -> Iterator[int]:
    """An application that sends back what it hears."""
    (port,) = free_ports(1)
    argv = [sys.executable, HERE / "echo.py", str(port)]
    with Daemon("echo", argv, directory / "echo.log", asked.cpu_client, {}) as daemon:
        daemon.wait_listening([port])
        yield port


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=HERE.parents[1] / "target/release/portcullis")
    parser.add_argument("--secs", type=float, default=4.0, help="of load that counts, in each round; default: 4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64, help="that speak all at once; default: 64")
    parser.add_argument("--idle", type=int, default=2000, help="tunnels whose memory is measured; default: 2000")
    parser.add_argument("--cpu-server", default="0")
    parser.add_argument("--cpu-client", default="1")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
