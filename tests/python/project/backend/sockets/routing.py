"""Where the WebSockets are: for everybody, for those with a token, and for those who send it as a protocol."""

from channels.routing import URLRouter
from django.urls import path

from backend.sockets import conduct, talk

_consumers = URLRouter(
    [
        path("echo/<slug:name>/", talk.Echo.as_asgi()),
        path("chat/<slug:name>/", talk.Chat.as_asgi()),
        path("seen/<slug:name>/", conduct.Seen.as_asgi()),
        path("refusing/<slug:name>/", conduct.Refusing.as_asgi()),
        path("closing/<int:code>/<slug:name>/", conduct.Closing.as_asgi()),
        path("large/<int:size>/<slug:name>/", conduct.Large.as_asgi()),
        path("slow/<slug:name>/", conduct.Slow.as_asgi()),
    ]
)

urlpatterns = [path(prefix, _consumers) for prefix in ("public/ws/", "guarded/ws/", "live/")]
