"""Medians over rounds, as a plain table and as the Markdown of a README."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from servers import OURS, SERVERS, VARIANTS, Server
from works import WORKS, Client, Work


@dataclass(frozen=True)
class Sample:
    """One measurement of one server at one work, or the median of several."""

    cost: float
    """Microseconds of processor time for a request; for `idle`, bytes for a connection."""
    requests_per_sec: float
    p50_ms: float
    p99_ms: float
    pss_mb: float
    errors: float
    not_2xx: float
    wrong: float
    """Answers other than this work's: refusals, or for forged tokens anything else."""


Samples = dict[tuple[str, str], list[Sample]]
"""By the names of work and server."""
Medians = dict[tuple[str, str], Sample]


def medians(samples: Samples) -> Medians:
    """Each figure's own median."""
    return {key: _median(of) for key, of in samples.items()}


def plain_table(found: Medians) -> str:
    """Every figure, one line a measurement, in the order of works and servers."""
    lines = [
        f"{'work':17} {'server':19} {'cost':>9} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8}"
        f" {'PSS MB':>7} {'errors':>6} {'not 2xx':>8}"
    ]
    for work, server in sorted(found, key=_place):
        one = found[work, server]
        lines.append(
            f"{work:17} {server:19} {_figure(one.cost):>9} {one.requests_per_sec:8.0f}"
            f" {one.p50_ms:8.2f} {one.p99_ms:8.2f} {one.pss_mb:7.1f} {one.errors:6.0f} {one.not_2xx:8.0f}"
        )
    return "\n".join(
        [*lines, "", "cost: microseconds of the server's CPU for a request; for idle, bytes for a connection"]
    )


def markdown_table(found: Medians) -> str:
    """Cost by work and product, and Portcullis' beside the lowest in the row and the lowest that checks no token."""
    measured = [server for name, server in SERVERS.items() if any(name == column for _, column in found)]
    products = list(dict.fromkeys(server.product for server in measured))
    rows = [["work", *products, "to the best peer", "to the best without a token"]]
    for work in WORKS.values():
        if any(work.name == row for row, _ in found):
            costs = [_cell(found, work, measured, product) for product in products]
            rows.append([f"`{work.name}`", *costs, _ratio(found, work, work.name), _ratio(found, work, work.unguarded)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
    return "\n".join(lines)


def complaints(found: Medians) -> list[str]:
    """Measurements that count for nothing: something failed, or an answer was not the expected one."""
    return [
        f"{work} with {server}: {problem}" for (work, server), one in found.items() if (problem := _problem(work, one))
    ]


def _problem(work: str, one: Sample) -> str | None:
    if WORKS[work].client is Client.IDLE:
        return None
    if one.requests_per_sec == 0:
        return "no request was answered"
    if one.errors:
        return f"{one.errors:.0f} errors"
    return f"{one.wrong:.0f} answers were not {WORKS[work].expected.value}" if one.wrong else None


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(*(statistics.median(getattr(one, each.name) for one in samples) for each in fields(Sample)))


def _place(key: tuple[str, str]) -> tuple[int, int]:
    work, server = key
    return list(WORKS).index(work), list(SERVERS).index(server)


def _cell(found: Medians, work: Work, servers: Iterable[Server], product: str) -> str:
    costs = (found.get((work.name, server.name)) for server in servers if server.product == product)
    return next((_figure(one.cost) for one in costs if one), "-")


def _ratio(found: Medians, work: Work, beside: str | None) -> str:
    """Portcullis' cost at `work` divided by the lowest of the others at the work `beside`."""
    ours = found.get((work.name, OURS))
    peers = [one.cost for (row, server), one in found.items() if row == beside and server not in VARIANTS]
    return f"{ours.cost / min(peers):.2f}" if ours and peers else "-"


def _figure(cost: float) -> str:
    """Three significant figures are all that such a measurement has."""
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.1f}"
