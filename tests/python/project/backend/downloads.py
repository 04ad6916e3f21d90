"""Files that are for some: a view asks who may have one, and whoever stands in front sends it."""

from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class Own(APIView):
    """By its path below the internal route, to its owner alone: the name begins with the name of a user."""

    permission_classes = (IsAuthenticated,)

    def get(self, request: Request, name: str) -> HttpResponse | Response:
        if not name.startswith(f"{request.user.get_username()}-"):
            self.permission_denied(request)
        response = HttpResponse()
        response["X-Accel-Redirect"] = "/protected/" + quote(name)
        response["Content-Disposition"] = "attachment"
        response.set_cookie("downloaded", "yes")
        return response


def shared(request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG001
    """By its place in the file system, to everybody."""
    if "secret" in name:
        raise Http404
    response = HttpResponse(content_type="application/x-shared")
    response["X-Sendfile"] = str(Path(settings.MEDIA_ROOT) / name)
    return response
