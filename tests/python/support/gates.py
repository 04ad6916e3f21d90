"""The application's gates and notes, seen from outside (see `backend.gates`)."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from support.site import Site
from support.waiting import wait_until


@dataclass(frozen=True)
class Gate:
    """What one story and one view know each other by."""

    name: str
    directory: Path

    @classmethod
    def of(cls, site: Site) -> "Gate":
        """One that nobody else uses."""
        return cls(secrets.token_hex(8), site.directory / "gates")

    def open(self, number: int | None = None) -> None:
        """Lets the view go on."""
        (self.directory / (self.name if number is None else f"{self.name}.{number}")).touch()

    def end(self) -> None:
        """Ends a view that nobody listens to any more, if it has not noticed."""
        (self.directory / f"{self.name}.over").touch()

    def wait_gone(self, within: float) -> None:
        """Returns once the view knows that its client has gone."""
        wait_until(lambda: (self.directory / f"{self.name}.gone").exists(), "the view to notice", within)

    def close_code(self, within: float = 10) -> int:
        """With which code the consumer saw its connection end, as soon as it did."""
        note = self.directory / f"{self.name}.closed"
        return int(wait_until(lambda: note.read_text() if note.exists() else None, "the consumer to notice", within))
