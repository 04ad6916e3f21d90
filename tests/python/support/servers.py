"""Every application server that the stories are told with, by the name that a test's id shows."""

from collections.abc import Callable, Mapping
from pathlib import Path

from support.appserver import AppServer
from support.daphne import Daphne
from support.gunicorn import Gunicorn, UwsgiGunicorn
from support.site import Site
from support.uvicorn import Uvicorn
from support.uwsgi import HttpUwsgi, Uwsgi
from support.waiting import free_ports

Maker = Callable[[Site, Path], AppServer]


def _over_tcp(server: type[AppServer]) -> Maker:
    return lambda site, directory: server(site, directory, free_ports(1)[0])


SERVERS: Mapping[str, Maker] = {
    "gunicorn-tcp": _over_tcp(Gunicorn),
    "gunicorn-unix": Gunicorn,
    "gunicorn-uwsgi": _over_tcp(UwsgiGunicorn),
    "uwsgi-tcp": _over_tcp(Uwsgi),
    "uwsgi-unix": Uwsgi,
    "uwsgi-http": _over_tcp(HttpUwsgi),
    "daphne-tcp": _over_tcp(Daphne),
    "daphne-unix": Daphne,
    "uvicorn-tcp": _over_tcp(Uvicorn),
    "uvicorn-unix": Uvicorn,
}

SOCKET_SERVERS = ("daphne-tcp", "daphne-unix", "uvicorn-tcp", "uvicorn-unix")
"""Those that speak WebSocket."""
