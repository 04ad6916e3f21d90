"""The views the gateway stands in front of. Some say what they saw, to be compared with what the client sent."""

import hashlib
from typing import Any

from django.http import HttpResponseRedirect, StreamingHttpResponse
from django.urls import reverse_lazy
from django.views.generic import CreateView
from rest_framework.parsers import BaseParser
from rest_framework.permissions import AllowAny, IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from backend import gates
from backend.identity import GatewayAuthentication
from backend.models import Note
from backend.streaming import Script, perform

CHUNK_BYTES = 64 * 1024


class Me(APIView):
    """Who Django thinks is asking, and how the request looked when it arrived."""

    def get(self, request: Request) -> Response:
        user = request.user
        return Response({"user": user.get_username(), "user_id": user.pk, "is_staff": user.is_staff, **_seen(request)})


class Staff(APIView):
    """For staff only, in Django's own judgement too."""

    permission_classes = (IsAdminUser,)

    def get(self, request: Request) -> Response:
        return Response({"user": request.user.get_username()})


class Vouched(APIView):
    """For those alone whom the gateway vouches for."""

    authentication_classes = (GatewayAuthentication,)

    def get(self, request: Request, name: str = "") -> Response:
        return Response({"user": request.user.get_username(), "name": name, "body": request.data, **_seen(request)})

    post = get


class Echo(APIView):
    """How the request looked when it arrived; Django asks for no credentials here, whoever stands in front may."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def get(self, request: Request) -> Response:
        return Response(_seen(request))

    def post(self, request: Request) -> Response:
        return Response({"body": request.data, **_seen(request)})


class RawParser(BaseParser):
    """Hands the request itself to the view, unread, whatever its media type."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:  # noqa: ARG002
        return stream


class Upload(APIView):
    """Digests a body as it arrives, and tells a second request how far it has come."""

    parser_classes = (RawParser,)

    def get(self, request: Request, name: str) -> Response:  # noqa: ARG002
        return Response({"received": gates.read_progress(name)})

    def post(self, request: Request, name: str) -> Response:
        digest, size = hashlib.sha256(), 0
        while chunk := request.data.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            gates.write_progress(name, size)
        return Response({"size": size, "sha256": digest.hexdigest()})


class Stream(APIView):
    """Sends one chunk, then each of the others only when another request asks for it."""

    def get(self, request: Request, name: str) -> StreamingHttpResponse:
        return StreamingHttpResponse(perform(request, _chunks(name)), content_type="text/plain")


class Release(APIView):
    """Lets a waiting stream send its next chunk."""

    def post(self, request: Request, name: str, chunk: int) -> Response:  # noqa: ARG002
        gates.open_gate(f"{name}.{chunk}")
        return Response({"released": chunk})


class NoteForm(CreateView):  # type: ignore[type-arg]
    """A plain HTML form under Django's CSRF protection."""

    model = Note
    fields = ("text",)
    template_name = "backend/note_form.html"
    success_url = reverse_lazy("notes")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(notes=Note.objects.order_by("pk"), **kwargs)

    def form_valid(self, form: Any) -> HttpResponseRedirect:
        form.save()
        return HttpResponseRedirect(self.request.build_absolute_uri(str(self.success_url)))


def _chunks(name: str) -> Script:
    yield b"chunk 0\n"
    for chunk in (1, 2):
        yield from gates.glances_at(f"{name}.{chunk}")
        yield f"chunk {chunk}\n".encode()


def _seen(request: Request) -> dict[str, Any]:
    meta = request.META
    return {
        "method": request.method,
        "scheme": request.scheme,
        "secure": request.is_secure(),
        "host": request.get_host(),
        "absolute_uri": request.build_absolute_uri(),
        "full_path": request.get_full_path(),
        "remote_addr": meta.get("REMOTE_ADDR"),
        "remote_user": meta.get("REMOTE_USER"),
        "server_name": meta["SERVER_NAME"],
        "script_name": meta["SCRIPT_NAME"],
        "path_info": meta["PATH_INFO"],
        "headers": {name.lower(): value for name, value in request.headers.items()},
    }
