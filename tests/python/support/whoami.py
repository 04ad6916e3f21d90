"""A gateway that is asked nothing but whose tokens pass: its own `builtin:whoami` stands behind every route."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from support.gateway import GatewayProcess
from support.metrics import DECISIONS, Metrics
from support.waiting import wait_until

PERMITTED = "permitted"
CHALLENGES = {
    400: 'Bearer realm="portcullis", error="invalid_request"',
    401: 'Bearer realm="portcullis", error="invalid_token"',
}
"""What RFC 6750 section 3 wants said with a refusal, by its status."""


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


@dataclass(kw_only=True)
class WhoamiGateway(GatewayProcess):
    """One route an issuer: the tokens of NAME pass at /NAME/."""

    issuers: dict[str, str] = field(default_factory=dict)
    """The lines of each issuer's table, by its name."""
    limits: str = ""
    """The lines of the table `[limits]`."""

    def _tables(self) -> str:
        parts = [super()._tables(), f"[limits]\n{self.limits}\n", WHOAMI]
        parts += [f"[issuer.{name}]\n{lines}\n{_route(name)}" for name, lines in self.issuers.items()]
        return "\n".join(parts)

    def decisions(self, route: str) -> Counter[str]:
        """How often each decision was taken on a route so far; what never was is left out."""
        marks = (DECISIONS, f'route="{route}"')
        lines = [line for line in self.admin("/metrics").text.splitlines() if all(mark in line for mark in marks)]
        samples = Metrics.parse("".join(f"{line}\n" for line in lines)).samples
        return +Counter({sample.labels["reason"]: int(sample.value) for sample in samples})

    @contextmanager
    def deciding(self, route: str, **expected: int) -> Iterator[None]:
        """The block makes the gateway take exactly these decisions on that route."""
        before = self.decisions(route)
        yield
        assert self.decisions(route) - before == Counter(expected)

    def lines(self, ids: Collection[str]) -> list[dict[str, Any]]:
        """What the access log says of the requests with these ids, as soon as all are in it."""

        def look() -> list[dict[str, Any]]:
            whole = self.access_log.read_text().split("\n")[:-1] if self.access_log.exists() else []
            found = [line for line in map(json.loads, whole) if line["request_id"] in ids]
            return found if len(found) == len(ids) else []

        return wait_until(look, f"{len(ids)} lines in the access log")

    def outcomes(self, ids: Collection[str]) -> dict[str, str]:
        """What became of the requests with these ids."""
        return {line["request_id"]: line["outcome"] for line in self.lines(ids)}


def assert_unavailable(answer: httpx.Response) -> None:
    """Nobody can judge a token now: try again, and keep the token."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert "www-authenticate" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


def assert_refused(answer: httpx.Response, status: int) -> None:
    """A refusal in the words of RFC 6750 and RFC 9457, which tells nothing of the reason."""
    assert (answer.status_code, answer.headers.get("www-authenticate")) == (status, CHALLENGES[status]), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["status"] == status


WHOAMI = """
    [upstream.whoami]
    endpoints = ["builtin:whoami"]
"""


def _route(name: str) -> str:
    return f"""
[[route]]
name = "{name}"
path = "/{name}/"
auth = {{ issuer = "{name}" }}
upstream = "whoami"
"""
