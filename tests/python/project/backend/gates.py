"""Meeting points between requests that different Gunicorn processes may serve: files in one directory.

A view that waits at a gate gives up after a bounded time, so that a failed test cannot hold a thread for ever.
"""

import time
from pathlib import Path

from django.conf import settings

PATIENCE_SECS = 30.0
GLANCE_SECS = 0.01


class GateClosed(Exception):
    """Nobody opened the gate in time."""


def open_gate(name: str) -> None:
    """Lets whoever waits at this gate pass, now or later."""
    _path(name).touch()


def wait_at(name: str) -> None:
    """Returns as soon as the gate is open."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not _path(name).exists():
        if time.monotonic() > deadline:
            raise GateClosed(name)
        time.sleep(GLANCE_SECS)


def write_progress(name: str, size: int) -> None:
    """Tells other requests how many bytes of an upload have arrived."""
    draft = _path(f"{name}.draft")
    draft.write_text(str(size))
    draft.replace(_path(f"{name}.size"))


def read_progress(name: str) -> int:
    """How many bytes of an upload have arrived so far."""
    path = _path(f"{name}.size")
    return int(path.read_text()) if path.exists() else 0


def _path(name: str) -> Path:
    return Path(settings.GATE_DIR) / name
