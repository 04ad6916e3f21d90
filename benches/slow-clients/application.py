"""What Gunicorn runs here: a small answer, a large one, and a body that is read."""

from collections.abc import Callable, Iterable
from typing import Any

LARGE = b"x" * 5_000_000


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI."""
    environ["wsgi.input"].read()
    body = LARGE if environ["PATH_INFO"] == "/large" else b"hello"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
