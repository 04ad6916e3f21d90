"""What the application servers do with nobody in front, and so why the gateway speaks to each as it does."""

import json
from collections.abc import Iterator

import httpx
import pytest

from support.appserver import AppServer
from support.gates import Gate
from support.servers import SERVERS
from support.site import Site
from support.sockets import PATIENCE_SECS, end_of, open_around


@pytest.fixture
def app(server: AppServer) -> Iterator[httpx.Client]:
    """A client of the server itself."""
    with server.client("localhost") as opened:
        yield opened


def test_every_server_runs_the_application(app: httpx.Client) -> None:
    seen = app.get("/public/echo/?a=1").json()
    assert (seen["scheme"], seen["host"], seen["full_path"]) == ("https", "localhost", "/public/echo/?a=1")
    assert app.post("/public/answers/body/", content=b"x" * 100_000).json()["size"] == 100_000
    for shape in ("exact", "unknown"):
        assert len(app.get(f"/public/answers/{shape}/100000/").content) == 100_000


@pytest.mark.parametrize("name", ["gunicorn-tcp", "uwsgi-http", "daphne-tcp", "uvicorn-tcp"])
def test_a_body_without_a_length_is_read_under_asgi_alone(
    name: str, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = SERVERS[name](site, tmp_path_factory.mktemp("alone"))
    try:
        server.start()
        with server.client("localhost") as app:
            seen = app.post("/public/answers/body/", content=iter([b"some", b"thing"])).json()
        assert seen["size"] == (len(b"something") if server.asynchronous else 0)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def uwsgi_gunicorn(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """Gunicorn over the uwsgi protocol."""
    server = SERVERS["gunicorn-uwsgi"](site, tmp_path_factory.mktemp("alone"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_gunicorn_decodes_the_path_of_a_packet_once_more(uwsgi_gunicorn: AppServer) -> None:
    """uWSGI, and CGI before it, want PATH_INFO decoded (RFC 3875, section 4.1.5)."""
    with uwsgi_gunicorn.client("localhost") as app:
        assert app.get("/public/paths/a%2541b").json()["rest"] == "aAb"
        assert app.get("/public/%2565cho/").status_code == 200


@pytest.fixture
def gate(site: Site) -> Gate:
    """The name of this story's connection."""
    return Gate.of(site)


def test_each_socket_server_echoes_and_closes(socket_server: AppServer, gate: Gate) -> None:
    with open_around(socket_server, f"/public/ws/echo/{gate.name}/", subprotocols=["echo"]) as opened:
        for message in ("text", b"bytes"):
            opened.send(message)
            assert opened.recv(timeout=PATIENCE_SECS) == message
        assert opened.subprotocol == "echo"
        opened.close(4711)
    assert gate.close_code() == 4711
    with open_around(socket_server, f"/public/ws/closing/4000/{gate.name}/") as opened:
        assert end_of(opened)[0] == 4000


def test_each_socket_server_says_who_is_asking(socket_server: AppServer, gate: Gate, alice: dict[str, str]) -> None:
    said = {**alice, "X-Forwarded-For": "192.0.2.7"}
    with open_around(socket_server, f"/public/ws/seen/{gate.name}/", additional_headers=said) as opened:
        seen = json.loads(opened.recv(timeout=PATIENCE_SECS))
    assert (seen["user"], seen["client"][0]) == ("alice", "192.0.2.7")
