"""Meeting points between requests that different processes may serve: files in one directory.

A view that waits at a gate gives up after a bounded time, so that a failed test cannot hold a thread for ever.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

PATIENCE_SECS = 30.0
GLANCE_SECS = 0.01


class GateClosed(Exception):
    """Nobody opened the gate in time."""


def open_gate(name: str) -> None:
    """Lets whoever waits at this gate pass, now or later."""
    _path(name).touch()


def is_open(name: str) -> bool:
    """Whether this gate is open."""
    return _path(name).exists()


def glances_at(*names: str) -> Iterator[float]:
    """Pauses to make until one of the gates is open."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not any(map(is_open, names)):
        if time.monotonic() > deadline:
            raise GateClosed(*names)
        yield GLANCE_SECS


async def wait_long_at(name: str) -> None:
    """Returns as soon as the gate is open. A coroutine holds no thread, so it may wait as long as its client does."""
    while not is_open(name):
        await asyncio.sleep(GLANCE_SECS)


def leave_note(name: str, text: str) -> None:
    """Leaves a text for others, in one step, in place of an earlier one."""
    draft = _path(f"{name}.draft")
    draft.write_text(text)
    draft.replace(_path(name))


def write_progress(name: str, size: int) -> None:
    """Tells other requests how many bytes of an upload have arrived."""
    leave_note(f"{name}.size", str(size))


def read_progress(name: str) -> int:
    """How many bytes of an upload have arrived so far."""
    path = _path(f"{name}.size")
    return int(path.read_text()) if path.exists() else 0


def _path(name: str) -> Path:
    return Path(settings.GATE_DIR) / name
