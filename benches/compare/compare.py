"""Runs the comparison: started by `run`, which first installs what it needs."""

import argparse
import datetime
import os
import platform
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType

import materials
import servers
import works
from clients import idle_bytes, load, probe
from processes import Failed, cpu_numbers, free_ports
from report import Sample, Samples, complaints, markdown_table, medians, plain_table
from servers import SERVERS, Bench, Server, Started
from works import WORKS, Client, Work

TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or Path(__file__).parents[2] / "target")
CHECK_SECS = 0.5
CHECK_IDLE_CONNECTIONS = 50
STARTING_SECS = 1.5
"""What starting, asking once and ending a server takes, for the estimate."""
LEAST_REFUSAL = 400
BUSY = 0.5
"""Load from which the figures are doubtful."""


def main() -> int:
    """Exit code: 0 when every measurement counts, 1 when one does not."""
    asked = arguments()
    signal.signal(signal.SIGTERM, _end)
    _raise_file_limit()
    chosen_works, chosen_servers = [WORKS[name] for name in asked.works], [SERVERS[name] for name in asked.servers]
    pairs = [(work, server) for work in chosen_works for server in chosen_servers if server.takes_part(work)]
    _say_what_comes(asked, [work for work, _ in pairs])
    os.sched_setaffinity(0, cpu_numbers(asked.cpu_client))  # clients inherit it; servers are moved to theirs
    scratch = asked.scratch.resolve()
    bench = Bench(
        scratch, materials.ensure(scratch), asked.binary.resolve(), asked.cpu_server, asked.cpu_client, *free_ports(2)
    )
    samples, failures = measure_all(asked, bench, chosen_works, chosen_servers)
    found = medians(samples)
    print(plain_table(found))
    if asked.markdown:
        print(f"\n{conditions(asked, bench, chosen_servers)}\n\n{markdown_table(found)}")
    failures += complaints(found)
    for failure in failures:
        print(f"does not count: {failure}", file=sys.stderr)
    return 1 if failures else 0


def measure_all(
    asked: argparse.Namespace, bench: Bench, chosen_works: Sequence[Work], chosen_servers: Sequence[Server]
) -> tuple[Samples, list[str]]:
    """All rounds; the servers of a work take turns, and each round another one begins."""
    samples: Samples = {}
    failures: list[str] = []
    with servers.start_upstream(bench, bench.upstream_port), servers.start_once(bench, bench.once_port):
        for turn in range(asked.rounds):
            for work in chosen_works:
                for server in _rotated([one for one in chosen_servers if one.takes_part(work)], turn):
                    try:
                        sample = measure(server, work, bench, asked)
                    except Failed as failure:
                        failures.append(str(failure))
                    else:
                        samples.setdefault((work.name, server.name), []).append(sample)
                        print(f"round {turn + 1}: {work.name} with {server.name}: {sample.cost:.1f}", file=sys.stderr)
    return samples, failures


def measure(server: Server, work: Work, bench: Bench, asked: argparse.Namespace) -> Sample:
    """One server, freshly started, at one work."""
    started = servers.start(server, bench)
    with started.daemon as daemon:
        probe(started, work, bench)
        if work.client is Client.IDLE:
            per_connection = idle_bytes(started, work, CHECK_IDLE_CONNECTIONS if asked.check else work.connections)
            return Sample(per_connection, 0, 0, 0, daemon.pss_bytes() / 1e6, 0, 0, 0)
        return _under_load(started, work, bench, asked)


def _under_load(started: Started, work: Work, bench: Bench, asked: argparse.Namespace) -> Sample:
    if not asked.check:
        load(started, work, bench, work.warm_secs)
    before = started.daemon.cpu_secs()
    seen = load(started, work, bench, asked.secs)
    spent = started.daemon.cpu_secs() - before
    return Sample(
        cost=1e6 * spent / max(1, seen.requests),
        requests_per_sec=seen.requests / seen.secs,
        p50_ms=seen.p50_us / 1e3,
        p99_ms=seen.p99_us / 1e3,
        pss_mb=started.daemon.pss_bytes() / 1e6,
        errors=seen.errors,
        not_2xx=seen.refused,
        wrong=seen.requests - seen.refused if work.expected.value >= LEAST_REFUSAL else seen.refused,
    )


def conditions(asked: argparse.Namespace, bench: Bench, chosen_servers: Sequence[Server]) -> str:
    """What a reader must know of a table: machine, date, versions."""
    told = {servers.version(server, bench) for server in chosen_servers}
    count = len(cpu_numbers(asked.cpu_server))
    measured = f"medians, rounds: {asked.rounds} of {asked.secs:g} s, server on {count} processor(s)"
    machine = f"{_processor()}, Linux {platform.release()}"
    return f"{datetime.date.today()}, {machine}; {measured}; {'; '.join(sorted(told))}."


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benches/compare/run",
        description="Measures what a request costs each server's processor, all servers in one run, in turns.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="works:\n" + "\n".join(f"  {work.name:17} {work.about} ({work.need.value})" for work in WORKS.values()),
    )
    parser.add_argument(
        "--servers", type=_names(SERVERS), help=f"of {', '.join(SERVERS)}; default: all but -guarded and -nocache"
    )
    parser.add_argument("--works", type=_names(WORKS), help="rows of the table, by name; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="times each work is measured (%(default)s)")
    parser.add_argument("--secs", type=float, default=4, help="length of one measurement (%(default)s)")
    parser.add_argument(
        "--binary",
        type=Path,
        default=TARGET / "release/portcullis",
        help="Portcullis; default: target/release/portcullis",
    )
    parser.add_argument(
        "--cpu-server", default="0", help="processors of the measured server, such as 0 or 0,2-3 (%(default)s)"
    )
    parser.add_argument("--cpu-client", default="1", help="processors of clients and upstream (%(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the README's table too, with its ratios")
    parser.add_argument("--check", action="store_true", help="a short smoke of Portcullis and Nginx: does it all work?")
    parser.add_argument("--scratch", type=Path, default=TARGET / "compare", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.check:
        asked.rounds, asked.secs = 1, CHECK_SECS
    asked.servers = asked.servers or (servers.CHECKED if asked.check else servers.DEFAULT)
    asked.works = asked.works or (works.CHECKED if asked.check else tuple(WORKS))
    if asked.rounds < 1 or asked.secs <= 0:
        parser.error("--rounds and --secs must be above zero")
    if not asked.binary.is_file() and servers.VARIANTS.intersection(asked.servers):
        parser.error(f"no Portcullis at {asked.binary}: run `cargo build --release`, or name one with --binary")
    return asked


def _names(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    def split(text: str) -> tuple[str, ...]:
        names = tuple(name for name in text.split(",") if name)
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return names

    return split


def _say_what_comes(asked: argparse.Namespace, measured: Sequence[Work]) -> None:
    secs = sum(STARTING_SECS + asked.secs + (0 if asked.check else work.warm_secs) for work in measured)
    print(f"{len(measured) * asked.rounds} measurements, about {secs * asked.rounds / 60:.0f} min", file=sys.stderr)
    if os.getloadavg()[0] > BUSY:
        print("this machine is busy: trust ratios only, and those not far", file=sys.stderr)


def _rotated(items: list[Server], by: int) -> list[Server]:
    start = by % len(items) if items else 0
    return items[start:] + items[:start]


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)  # leaves every context, which ends what was started


if __name__ == "__main__":
    sys.exit(main())
