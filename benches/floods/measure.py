"""Honest clients beside floods: how long their requests take while one address does its worst. `--help` says more."""

import argparse
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "benches/compare"))

import issuer  # noqa: E402
from processes import Daemon, Failed, free_ports  # noqa: E402

HONEST, HOSTILE = "127.0.0.7", "127.0.0.9"
"""Where clients come from."""
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SERVER_CPU, CLIENT_CPU = "0", str((os.cpu_count() or 1) - 1)
CONFIG = """
[server]
workers = 1
drain_secs = 1
[log]
access = false
[limits]
{limits}
[listen.https]
address = "127.0.0.1:{port}"
certificates = [{{ cert = "{directory}/cert.pem", key = "{directory}/key.pem" }}]
[[route]]
name = "all"
path = "/"
auth = "public"
files = {{ root = "{directory}/files" }}
"""
CAREFUL = "handshakes_per_address_sec = 100\nconnections_per_address = 256"


def main() -> int:
    """Exit code: 0 when everything was measured and every honest request was served."""
    asked = arguments()
    os.sched_setaffinity(0, {int(CLIENT_CPU)})
    floods: dict[str, Callable[[int, Path], list[list[str | Path]]]] = {
        "nobody": lambda port, home: [],  # noqa: ARG005
        "connections": lambda port, home: [[sys.executable, __file__, "--connect-to", str(port)]],  # noqa: ARG005
        "handshakes": lambda port, home: 4 * [handshakes(port)],  # noqa: ARG005
        "slow heads": slow_heads,
    }
    served = True
    print(f"{'limits':10} {'flood':12} {'kept p50':>9} {'kept p99':>9} {'new p50':>9} {'new p99':>9} {'failed':>7}   ms")
    for name, limits in {"default": "", "careful": CAREFUL}.items():
        for flood, attackers in floods.items():
            with TemporaryDirectory() as scratch, gateway(asked, Path(scratch), limits) as port:
                with attacked(attackers(port, Path(scratch))):
                    time.sleep(1.5)
                    kept, new, failed = honest(port, asked)
            served &= failed == 0
            row = " ".join(f"{p50:9.2f} {p99:9.2f}" for p50, p99 in (kept, new))
            print(f"{name:10} {flood:12} {row} {failed:7}", flush=True)
    return 0 if served else 1


def handshakes(port: int) -> list[str | Path]:
    """Full handshakes, one after the other, for longer than anybody looks."""
    return ["openssl", "s_time", "-new", "-connect", f"127.0.0.1:{port}", "-time", "300"]


def slow_heads(port: int, home: Path) -> list[list[str | Path]]:
    """A thousand heads that never end."""
    aim = ["-H", "-c", "1000", "-r", "500", "-i", "3", "-l", "240", "-p", "5", "-u", f"https://127.0.0.1:{port}/"]
    return [["slowhttptest", *aim, "-o", home / "report"]]


@contextmanager
def attacked(commands: list[list[str | Path]]) -> Iterator[None]:
    """Attackers have the clients' processor when no honest client wants it."""
    with ExitStack() as running:
        for command in commands:
            process = subprocess.Popen(
                ["nice", "-n", "19", *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            running.callback(process.wait)
            running.callback(process.kill)
        yield


def honest(port: int, asked: argparse.Namespace) -> tuple[tuple[float, float], tuple[float, float], int]:
    """Requests in turn on a kept connection, and on a new one with a handshake of its own. Milliseconds, and failures."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    kept, new, failed = [], [], 0
    lasting = connect(port, trust)
    for _ in range(asked.requests):
        begun = time.monotonic()
        try:
            ask(lasting)
            kept.append(1000 * (time.monotonic() - begun))
        except OSError:
            failed += 1
            lasting = connect(port, trust)
        begun = time.monotonic()
        try:
            with connect(port, trust) as once:
                ask(once)
            new.append(1000 * (time.monotonic() - begun))
        except OSError:
            failed += 1
        time.sleep(asked.pause_secs)
    lasting.close()
    return percentiles(kept), percentiles(new), failed


def connect(port: int, trust: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), 10, (HONEST, 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return trust.wrap_socket(plain)


def ask(connection: ssl.SSLSocket) -> None:
    connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"hello"):
        part = connection.recv(4096)
        if not part:
            raise ConnectionError("closed in the middle of an answer")
        answer += part


def percentiles(millis: list[float]) -> tuple[float, float]:
    """The median, and what one in a hundred exceeds."""
    return statistics.median(millis), statistics.quantiles(millis, n=100, method="inclusive")[98]


def flood_connections(port: int) -> None:
    """Opens connections as fast as it can, and holds the last three thousand."""
    held: list[socket.socket] = []
    while True:
        opened = socket.socket()
        opened.setblocking(False)
        opened.bind((HOSTILE, 0))
        opened.connect_ex(("127.0.0.1", port))
        held.append(opened)
        if len(held) > 3000:
            held.pop(0).close()


@contextmanager
def gateway(asked: argparse.Namespace, home: Path, limits: str) -> Iterator[int]:
    """One worker on a processor of its own, and one small file."""
    (port,) = free_ports(1)
    issuer.write_certificate(home)
    (home / "files").mkdir()
    (home / "files/index.html").write_text("hello")
    config = home / "gateway.toml"
    config.write_text(CONFIG.format(limits=limits, port=port, directory=home))
    argv = [asked.binary.resolve(), "run", "--config", config]
    with Daemon("portcullis", argv, home / "portcullis.log", SERVER_CPU, {}) as daemon:
        daemon.wait_listening([port])
        yield port


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target/release/portcullis")
    parser.add_argument("--requests", type=int, default=500, help="of each kind, in each row; default: 500")
    parser.add_argument("--pause-secs", type=float, default=0.015, help="between two of them; default: 0.015")
    parser.add_argument("--connect-to", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.connect_to:
        flood_connections(asked.connect_to)
    missing = [tool for tool in ("openssl", "slowhttptest") if shutil.which(tool) is None]
    if missing:
        parser.error(f"install {' and '.join(missing)}")
    return asked


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(str(failed))
