"""HTTP/3 over QUIC: the application is used from end to end by a client that never speaks TCP."""

import asyncio
import hashlib
import json
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import Authority
from support.gateway import Gateway
from support.gunicorn import Gunicorn
from support.http3 import Client, http3
from support.refusals import NO_CREDENTIALS
from support.site import PASSWORD

MIB = 1024 * 1024
JSON = {"Content-Type": "application/json"}
NO_ERROR = 0x100


@pytest.fixture
def quic_gateway(upstream: Gunicorn, authority: Authority, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway for this story alone that speaks HTTP/3 as well."""
    gateway = Gateway(
        directory=tmp_path,
        authority=authority,
        endpoint=upstream.endpoint,
        static_root=upstream.site.static_root,
        secret=upstream.site.secret,
        listener_keys="http3 = true",
    )
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()


async def log_in(client: Client) -> dict[str, str]:
    """The header by which Alice is known, by way of her password."""
    answer = await client.ask(
        "POST", "/api/token/", JSON, json.dumps({"username": "alice", "password": PASSWORD}).encode()
    )
    assert answer.status == 200, answer
    return {"Authorization": f"Bearer {json.loads(answer.body)['access']}"}


def test_a_client_is_led_to_http3_and_works_there(quic_gateway: Gateway) -> None:
    with quic_gateway.client() as old:
        assert old.get("/public/echo/").headers["alt-svc"] == f'h3=":{quic_gateway.port}"; ma=86400'

    async def story() -> None:
        async with http3(quic_gateway) as client:
            refused = await client.ask("GET", "/api/me/")
            assert (refused.status, refused.body) == (401, NO_CREDENTIALS)
            alice = await log_in(client)
            me = await client.ask("GET", "/api/me/", alice)
            assert (me.status, json.loads(me.body)["user"]) == (200, "alice")
            echo = json.loads((await client.ask("GET", "/public/echo/?a=b", {"X-User-Id": "1"})).body)
            assert echo["full_path"] == "/public/echo/?a=b"
            assert (echo["scheme"], echo["headers"].get("x-user-id")) == ("https", None)

    asyncio.run(story())
    assert "HTTP/3" in quic_gateway.access_log.read_text()


def test_an_upload_reaches_django_whole(quic_gateway: Gateway) -> None:
    upload = secrets.token_bytes(3 * MIB)

    async def story() -> None:
        async with http3(quic_gateway) as client:
            alice = await log_in(client)
            fields = {**alice, "Content-Type": "application/octet-stream", "Content-Length": str(len(upload))}
            answer = await client.ask("POST", f"/api/uploads/{secrets.token_hex(8)}/", fields, upload)
            assert answer.status == 200, answer
            assert json.loads(answer.body) == {"size": len(upload), "sha256": hashlib.sha256(upload).hexdigest()}

            too_large = {**alice, "Content-Length": str(11 * MIB)}
            refused = await client.ask("POST", "/api/small-uploads/x/", too_large, b"\0" * 11 * MIB)
            assert refused.status == 413

    asyncio.run(story())


def test_static_files_come_beside_one_another(quic_gateway: Gateway) -> None:
    names = sorted(path for path in quic_gateway.static_root.rglob("*.css") if path.is_file())[:20]

    async def story() -> None:
        async with http3(quic_gateway) as client:
            paths = [f"/static/{name.relative_to(quic_gateway.static_root)}" for name in names]
            answers = await asyncio.gather(*(client.ask("GET", path) for path in paths))
            for name, answer in zip(names, answers, strict=True):
                assert (answer.status, answer.body) == (200, name.read_bytes()), name

    asyncio.run(story())


def test_a_response_in_flight_is_finished_before_the_clean_exit(
    quic_gateway: Gateway, upstream: Gunicorn, alice: dict[str, str]
) -> None:
    path = f"/api/streams/{secrets.token_hex(8)}/"

    def release(chunk: int) -> None:
        with upstream.client("localhost") as direct:
            assert direct.post(f"{path}release/{chunk}/", headers=alice).status_code == 200

    async def story() -> None:
        async with http3(quic_gateway) as client:
            answer = client.send("GET", path, alice)
            await client.connection.until(answer, len(b"chunk 0\n"))
            quic_gateway.daemon.signal(signal.SIGTERM)
            while quic_gateway.readiness() == 200:
                await asyncio.sleep(0.01)
            for chunk in (1, 2):
                await asyncio.to_thread(release, chunk)
            await client.connection.until(answer)
            assert answer.body.decode().split("\n")[:3] == ["chunk 0", "chunk 1", "chunk 2"]
            await client.connection.wait_closed()
            assert client.connection.terminated == NO_ERROR

    asyncio.run(story())
    assert quic_gateway.daemon.wait_exit() == 0
