"""Fast requests beside slow clients: Gunicorn alone, behind Nginx, and behind Portcullis. `--help` says more."""

import argparse
import http.client
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(REPOSITORY / "benches/compare"), str(REPOSITORY / "tests/python")]

from processes import Daemon, Failed, free_ports  # noqa: E402
from support.slow_clients import Place, SlowClients  # noqa: E402

LARGE_BYTES = 5_000_000
WORKERS = 4
CPUS = f"0-{(os.cpu_count() or 1) - 1}"
PORTCULLIS = """
[server]
workers = 1
drain_secs = 1
[log]
access = false
[listen.http]
address = "127.0.0.1:{port}"
[upstream.app]
kind = "gunicorn"
endpoints = ["http://127.0.0.1:{upstream}"]
max_connections = {workers}
spool_dir = "{directory}"
[[route]]
name = "app"
path = "/"
auth = "public"
upstream = "app"
"""
NGINX = """
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
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
      proxy_set_header Host $host;
      proxy_pass http://127.0.0.1:{upstream};
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Fast:
    """What became of the fast requests."""

    millis: list[float]
    failed: int

    def __str__(self) -> str:
        if len(self.millis) < 2:
            return f"{'-':>10} {'-':>10} {self.failed:8}"
        p99 = statistics.quantiles(self.millis, n=100, method="inclusive")[98]
        return f"{statistics.median(self.millis):10.1f} {p99:10.1f} {self.failed:8}"


def main() -> int:
    """Exit code: 0 when every server was measured."""
    asked = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if soft < hard else (soft, hard))
    fronts: dict[str, Callable[[argparse.Namespace, Path, int], tuple[Daemon, int]] | None] = {"gunicorn alone": None}
    if nginx_binary() is None:
        print("nginx is not installed: left out", file=sys.stderr)
    else:
        fronts["behind nginx"] = nginx
    fronts["behind portcullis"] = portcullis
    print(f"{'':20} {'slow':>5} {'p50 ms':>10} {'p99 ms':>10} {'failed':>8}")
    for name, front in fronts.items():
        with TemporaryDirectory() as scratch, served(front, asked, Path(scratch)) as port:
            print(f"{name:20} {0:5} {fast(port, asked)}", flush=True)
            slow = SlowClients(Place(port, "localhost"), asked.slow, "/", "/large", LARGE_BYTES)
            try:
                slow.start()
                time.sleep(asked.settle_secs)
                figures = fast(port, asked)
                under_way = slow.under_way()
            finally:
                slow.stop()
            print(f"{name:20} {under_way:5} {figures}", flush=True)
    return 0


def fast(port: int, asked: argparse.Namespace) -> Fast:
    """One after the other, each on a connection of its own; three failures are enough to know."""
    took, failed = [], 0
    for _ in range(asked.requests):
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=asked.patience_secs)
        try:
            connection.request("GET", "/fast")
            good = connection.getresponse().read() == b"hello"
        except OSError:
            good = False
        finally:
            connection.close()
        if good:
            took.append(1000 * (time.monotonic() - begun))
        else:
            failed += 1
            if failed == 3:
                break
    return Fast(took, failed)


@contextmanager
def served(
    front: Callable[[argparse.Namespace, Path, int], tuple[Daemon, int]] | None, asked: argparse.Namespace, home: Path
) -> Iterator[int]:
    """Gunicorn, and what is before it; where clients connect to."""
    with ExitStack() as running:
        (port,) = free_ports(1)
        argv = [sys.executable, "-m", "gunicorn", f"--workers={WORKERS}", "--timeout=100", f"--bind=127.0.0.1:{port}"]
        argv += [f"--chdir={HERE}", "--no-control-socket", "application:application"]
        gunicorn = running.enter_context(Daemon("gunicorn", argv, home / "gunicorn.log", CPUS, {}))
        gunicorn.wait_listening([port])
        if front is not None:
            daemon, port = front(asked, home, port)
            running.enter_context(daemon)
            daemon.wait_listening([port])
        yield port


def portcullis(asked: argparse.Namespace, directory: Path, upstream: int) -> tuple[Daemon, int]:
    """One worker, and as many connections as Gunicorn has workers."""
    (port,) = free_ports(1)
    config = directory / "gateway.toml"
    config.write_text(PORTCULLIS.format(port=port, upstream=upstream, workers=WORKERS, directory=directory))
    argv = [asked.binary.resolve(), "run", "--config", config]
    return Daemon("portcullis", argv, directory / "portcullis.log", CPUS, {}), port


def nginx(asked: argparse.Namespace, directory: Path, upstream: int) -> tuple[Daemon, int]:  # noqa: ARG001
    """With its own defaults for what is buffered."""
    (port,) = free_ports(1)
    config = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(port=port, upstream=upstream, directory=directory, user=user))
    argv = [nginx_binary() or "nginx", "-e", "stderr", "-p", directory, "-c", config]
    return Daemon("nginx", argv, directory / "nginx.log", CPUS, {}), port


def nginx_binary() -> str | None:
    """Where it is installed, if it is."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target/release/portcullis")
    parser.add_argument("--requests", type=int, default=500, help="fast ones, each time; default: 500")
    parser.add_argument("--slow", type=int, default=200, help="slow clients, half of which upload; default: 200")
    parser.add_argument("--settle-secs", type=float, default=5.0, help="until the fast ones begin; default: 5")
    parser.add_argument("--patience-secs", type=float, default=5.0, help="for a fast request; default: 5")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(str(failed))
