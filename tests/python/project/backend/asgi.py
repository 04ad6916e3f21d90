"""What Daphne and Uvicorn load: Django for requests, Channels for WebSockets."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

# Makes Django ready before the consumers, which import models.
http = get_asgi_application()

from backend.sockets.bearer import BearerUser  # noqa: E402
from backend.sockets.routing import urlpatterns  # noqa: E402

application = ProtocolTypeRouter({"http": http, "websocket": BearerUser(URLRouter(urlpatterns))})
