"""Answers of every shape that HTTP knows, for whoever passes them on."""

import hashlib
from typing import Any

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import condition

from backend.streaming import Script, perform

PATTERN = b"0123456789abcdef"
PIECE_BYTES = 32 * 1024


def exact(request: HttpRequest, size: int) -> HttpResponse:  # noqa: ARG001
    """That many bytes, and their number in the head."""
    return HttpResponse(_bytes(size), content_type="application/octet-stream")


def unknown(request: HttpRequest, size: int) -> StreamingHttpResponse:
    """That many bytes, without saying so."""
    return StreamingHttpResponse(perform(request, _pieces(size)), content_type="application/octet-stream")


def download(request: HttpRequest) -> FileResponse:  # noqa: ARG001
    """A file, which WSGI servers may send by themselves (`wsgi.file_wrapper`)."""
    return FileResponse((settings.BASE_DIR / "manage.py").open("rb"), as_attachment=True, filename="größe.py")


def _etag(request: HttpRequest, version: str) -> str:  # noqa: ARG001
    return f'"{version}"'


@condition(etag_func=_etag)
def versioned(request: HttpRequest, version: str) -> HttpResponse:  # noqa: ARG001
    """An answer with a validator, by which a client may find that it knows it already."""
    return HttpResponse(f"version {version}\n", content_type="text/plain")


def cookies(request: HttpRequest) -> JsonResponse:
    """The cookies that came, and two new ones."""
    answer = JsonResponse(dict(request.COOKIES))
    answer.set_cookie("first", "1", secure=True, httponly=True, samesite="Lax")
    answer.set_cookie("second", "two words", max_age=60)
    return answer


def path_seen(request: HttpRequest, rest: str) -> JsonResponse:
    """The path and the query, as Django understood them."""
    seen: dict[str, Any] = {"rest": rest, "path": request.path, "query": dict(request.GET.lists())}
    return JsonResponse(seen)


@csrf_exempt
def body(request: HttpRequest) -> JsonResponse:
    """What came as the body, however it was framed."""
    whole = request.body
    return JsonResponse(
        {
            "size": len(whole),
            "sha256": hashlib.sha256(whole).hexdigest(),
            "content_type": request.headers.get("Content-Type"),
            "content_length": request.headers.get("Content-Length"),
            "transfer_encoding": request.headers.get("Transfer-Encoding"),
        }
    )


def nothing(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """No content."""
    return HttpResponse(status=204)


def _bytes(size: int) -> bytes:
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


def _pieces(size: int) -> Script:
    for start in range(0, size, PIECE_BYTES):
        yield _bytes(size)[start : start + PIECE_BYTES]
