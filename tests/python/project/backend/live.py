"""Answers that take their time: server-sent events and long polls. Both tell when their client has gone."""

import asyncio
import itertools

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

from backend import gates
from backend.streaming import Script, perform

LONGEST_POLL_SECS = 20.0


def events(request: HttpRequest, name: str) -> StreamingHttpResponse:
    """One event at once, each other when its gate opens, until it is over; `?comments=SECS` fills the waiting."""
    first = int(request.headers.get("Last-Event-ID", -1)) + 1
    script = _events(name, first, float(request.GET.get("comments", 0)))
    headers = {"Cache-Control": "no-cache"}
    return StreamingHttpResponse(perform(request, script), content_type="text/event-stream", headers=headers)


async def poll(request: HttpRequest, name: str) -> HttpResponse:
    """Answers as soon as the gate is open, or that there is nothing new after `?wait=SECS`."""
    try:
        async with asyncio.timeout(float(request.GET.get("wait", LONGEST_POLL_SECS))):
            await gates.wait_long_at(name)
    except TimeoutError:
        return HttpResponse(status=204)
    except asyncio.CancelledError:
        gates.open_gate(f"{name}.gone")
        raise
    return JsonResponse({"news": name})


def _events(name: str, first: int, comment_secs: float) -> Script:
    try:
        for number in itertools.count(first):
            yield f"id: {number}\ndata: event {number}\n\n".encode()
            for glance_secs in gates.glances_at(f"{name}.{number + 1}", f"{name}.over"):
                if comment_secs:
                    yield b": still here\n\n"
                yield comment_secs or glance_secs
            if gates.is_open(f"{name}.over"):
                return
    finally:
        gates.open_gate(f"{name}.gone")
