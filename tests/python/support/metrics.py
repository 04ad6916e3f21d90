"""Reading the gateway's /metrics with Prometheus' own parser. The names the stories rely on stand here alone."""

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

DECISIONS = "portcullis_auth_decisions_total"
KEY_SET_AGE = "portcullis_jwks_age_seconds"
REQUESTS = "portcullis_requests_total"
IN_FLIGHT = "portcullis_requests_in_flight"
GENERATION = "portcullis_config_generation"
TUNNELS_OPEN = "portcullis_tunnels_open"
RELOADS = "portcullis_config_reloads_total"
LEASES = "portcullis_upstream_leases"
SPOOLED = "portcullis_spooled_requests_total"
BUFFERED = "portcullis_buffered_responses_total"
BUFFERED_BYTES = "portcullis_buffered_response_bytes"


@dataclass(frozen=True)
class Metrics:
    """One scrape."""

    samples: tuple[Sample, ...]
    families: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> "Metrics":
        """Reads the text format; anything malformed raises."""
        families = list(text_string_to_metric_families(text))
        samples = tuple(sample for family in families for sample in family.samples)
        return cls(samples, frozenset(family.name for family in families))

    def total(self, name: str, **labels: str) -> float:
        """The sum of every series of that name with these labels, whatever its others are; 0 when there is none."""
        return sum(sample.value for sample in self._matching(name, labels))

    def _matching(self, name: str, labels: dict[str, str]) -> Iterable[Sample]:
        return (sample for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items())
