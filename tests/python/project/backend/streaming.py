"""Streaming that runs under WSGI and ASGI alike: a script of pieces to send and of seconds to pause."""

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing
from typing import Any

Script = Generator[bytes | float, None, None]


def perform(request: Any, script: Script) -> Iterator[bytes] | AsyncIterator[bytes]:
    """The pieces, each as soon as it is there. Django would collect an iterator of the wrong kind before it sends."""
    return _perform_async(script) if hasattr(request, "scope") else _perform(script)


def _perform(script: Script) -> Iterator[bytes]:
    with closing(script):
        for step in script:
            if isinstance(step, bytes):
                yield step
            else:
                time.sleep(step)


async def _perform_async(script: Script) -> AsyncIterator[bytes]:
    with closing(script):
        for step in script:
            if isinstance(step, bytes):
                yield step
            else:
                await asyncio.sleep(step)
