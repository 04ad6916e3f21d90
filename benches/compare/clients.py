"""The clients: wrk, h2load, and connections that stay open; all on loopback, all bounded in time."""

import http.client
import json
import re
import socket
import ssl
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from materials import STATIC_FILES, token
from processes import Failed
from servers import Bench, Started
from works import STREAMS, Client, Need, Work

LOAD_SCRIPT = Path(__file__).with_name("load.lua")
SLACK_SECS = 30
"""How much longer than its measured time a client may run before it is ended."""
IDLE_TIMEOUT_SECS = 10
PROBE_TIMEOUT_SECS = 10


@dataclass(frozen=True)
class Load:
    """What a client saw."""

    requests: int
    secs: float
    p50_us: float
    p99_us: float
    refused: int
    """Answers of 400 and above."""
    errors: int
    """Connections that could not be made or broke, and time-outs."""


def probe(started: Started, work: Work, bench: Bench) -> None:
    """Asks once, and fails unless the answer is the one this work is about."""
    headers = {"Host": "localhost"}
    if work.tokens:
        headers["Authorization"] = f"Bearer {token(bench.materials, work.tokens)}"
    connection = _connection(started, work)
    try:
        connection.request(work.method, work.path, body=b"x" * work.body_bytes, headers=headers)
        answer = connection.getresponse()
        length = len(answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise Failed(
            f"{started.daemon.name} gave no answer to {work.name}: {error!r}\n{started.daemon.tail()}"
        ) from error
    finally:
        connection.close()
    if answer.status != work.expected:
        raise Failed(f"{started.daemon.name} answered {work.name} with {answer.status}, not {work.expected.value}")
    wanted = STATIC_FILES.get(work.path.rpartition("/")[2], length)
    if length != wanted:
        raise Failed(f"{started.daemon.name} answered {work.name} with {length} bytes, not {wanted}")


def load(started: Started, work: Work, bench: Bench, secs: float) -> Load:
    """Makes the requests of one work for so many seconds."""
    make = _h2load if work.client is Client.H2LOAD else _wrk
    return make(started, work, bench, secs)


def idle_bytes(started: Started, work: Work, connections: int) -> float:
    """Bytes of memory the server's tree grows by for each TLS connection that stays open after one request."""
    context = _trust()
    context.set_alpn_protocols(["http/1.1"])
    ask = f"GET {work.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def open_one() -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", started.port(work)), timeout=IDLE_TIMEOUT_SECS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each request waits for an acknowledgement
        secured = context.wrap_socket(plain, server_hostname="localhost")
        secured.sendall(ask)
        answer = http.client.HTTPResponse(secured, method="GET")
        answer.begin()
        answer.read()
        return secured

    with ExitStack() as opened:
        opened.enter_context(open_one())  # what a first connection sets up is not a connection's cost
        before = started.daemon.pss_bytes()
        for _ in range(connections):
            opened.enter_context(open_one())
        return (started.daemon.pss_bytes() - before) / connections


def _wrk(started: Started, work: Work, bench: Bench, secs: float) -> Load:
    whole_secs = max(1, round(secs))  # wrk counts in seconds
    tokens = bench.materials / f"{work.tokens}.tokens" if work.tokens else "-"
    told = _run(
        work,
        secs,
        [
            "wrk",
            "--threads",
            "1",
            "--connections",
            work.connections,
            "--duration",
            f"{whole_secs}s",
            "--timeout",
            "10s",
        ],
        ["--script", LOAD_SCRIPT, _url(started, work).removesuffix(work.path), "--"],
        [tokens, work.token_count, work.method, work.path, work.body_bytes, "close" if work.close else "keep"],
    )
    found = re.search(r"\{.*\}", told)
    if not found:
        raise Failed(f"wrk did not finish {work.name} with {started.daemon.name}:\n{told}")
    seen = json.loads(found[0])
    return Load(seen["requests"], seen["micros"] / 1e6, seen["p50"], seen["p99"], seen["refused"], seen["errors"])


def _h2load(started: Started, work: Work, bench: Bench, secs: float) -> Load:
    log = bench.scratch / "run" / "h2load.log"
    log.unlink(missing_ok=True)
    header = ["--header", f"authorization: Bearer {token(bench.materials, work.tokens)}"] if work.tokens else []
    told = _run(
        work,
        secs,
        ["h2load", "--threads", 1, "--clients", work.connections, "--max-concurrent-streams", STREAMS],
        ["--duration", f"{round(secs * 1000)}ms", "--log-file", log, *header, _url(started, work)],
    )
    counts = re.search(r"(\d+) done, \d+ succeeded, (\d+) failed", told)
    statuses = re.search(r"status codes: \d+ 2xx, \d+ 3xx, (\d+) 4xx, (\d+) 5xx", told)
    if not (counts and statuses):
        raise Failed(f"h2load did not finish {work.name} with {started.daemon.name}:\n{told}")
    p50, p99 = _percentiles(log)
    refused = int(statuses[1]) + int(statuses[2])
    return Load(int(counts[1]), secs, p50, p99, refused, int(counts[2]) - refused)


def _percentiles(log: Path) -> tuple[float, float]:
    """p50 and p99 in microseconds, from h2load's line for each request: start, status, latency."""
    with log.open() as lines:
        latencies = sorted(int(line.split()[2]) for line in lines)
    log.unlink()
    if not latencies:
        return 0, 0
    return latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]


def _run(work: Work, secs: float, *arguments: list[object]) -> str:
    """Everything the client wrote; it inherits this process's processors."""
    argv = [str(argument) for part in arguments for argument in part]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=secs + SLACK_SECS, check=False)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{argv[0]} did not end {work.name} in time") from late
    return done.stdout + done.stderr


def _url(started: Started, work: Work) -> str:
    scheme = "http" if work.need is Need.FILES_HTTP else "https"
    return f"{scheme}://localhost:{started.port(work)}{work.path}"


def _connection(started: Started, work: Work) -> http.client.HTTPConnection:
    port = started.port(work)
    if work.need is Need.FILES_HTTP:
        return http.client.HTTPConnection("localhost", port, timeout=PROBE_TIMEOUT_SECS)
    return http.client.HTTPSConnection("localhost", port, timeout=PROBE_TIMEOUT_SECS, context=_trust())


def _trust() -> ssl.SSLContext:
    """Trusts anyone: wrk and h2load do too, and this is loopback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
