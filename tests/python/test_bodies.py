"""Bodies pass through whole, both ways, within the bounds of their route."""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from support.curl import Curl
from support.gateway import Gateway
from support.gunicorn import Gunicorn
from support.refusals import NO_CREDENTIALS
from support.waiting import wait_until

MIB = 1024 * 1024
PIECE = secrets.token_bytes(MIB)
UPLOAD_PIECES = 20
HELD_AFTER_PIECES = 10
BINARY = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def name() -> str:
    """A meeting point that no other story uses."""
    return secrets.token_hex(8)


@pytest.fixture
def second(gateway: Gateway, alice: dict[str, str]) -> Iterator[httpx.Client]:
    """Another client of the same gateway, who watches or releases."""
    with gateway.client() as opened:
        opened.headers.update(alice)
        yield opened


def test_an_upload_that_is_not_buffered_reaches_django_while_the_client_still_sends(
    make_front: Callable[..., Gateway], upstream: Gunicorn, alice: dict[str, str], name: str
) -> None:
    path = f"/api/uploads/{name}/"
    gateway = make_front(upstream, "buffer_requests = false")

    def received(second: httpx.Client) -> int:
        size: int = second.get(path, headers=alice).json()["received"]
        return size

    def pieces(second: httpx.Client) -> Iterator[bytes]:
        for number in range(UPLOAD_PIECES):
            if number == HELD_AFTER_PIECES:
                wait_until(lambda: received(second) > MIB, "Django to read the first half before the second is sent")
            yield PIECE

    with gateway.client() as client, gateway.client() as second:
        answer = client.post(path, content=pieces(second), headers=upload_headers(alice))
    assert_digested(answer)


def test_an_upload_reaches_django_when_it_is_whole(
    client: httpx.Client, second: httpx.Client, alice: dict[str, str], name: str
) -> None:
    path = f"/api/uploads/{name}/"

    def pieces() -> Iterator[bytes]:
        for number in range(UPLOAD_PIECES):
            if number == UPLOAD_PIECES - 1:
                assert second.get(path).json()["received"] == 0, "nineteen of twenty have been sent"
            yield PIECE

    assert_digested(client.post(path, content=pieces(), headers=upload_headers(alice)))


def upload_headers(alice: dict[str, str]) -> dict[str, str]:
    """Of an upload whose length is known."""
    return {**alice, **BINARY, "Content-Length": str(UPLOAD_PIECES * MIB)}


def assert_digested(answer: httpx.Response) -> None:
    """All of it came, and in order."""
    assert answer.status_code == 200, answer.text
    digest = hashlib.sha256(PIECE * UPLOAD_PIECES).hexdigest()
    assert answer.json() == {"size": UPLOAD_PIECES * MIB, "sha256": digest}


def test_a_body_over_the_route_s_bound_is_refused_and_never_reaches_django(
    gateway: Gateway, upstream: Gunicorn, alice: dict[str, str], name: str
) -> None:
    """The default bound is 10 MiB; a client that sends on all the same still reads the 413."""
    path = f"/api/small-uploads/{name}/?{name}"
    with gateway.client() as client:
        assert client.post(path, content=PIECE * 11, headers={**alice, **BINARY}).status_code == 413
        assert client.get("/api/me/", headers=alice).status_code == 200
    assert upstream.requests_seen()[name] == 0


def test_a_body_just_within_the_default_bound_passes(client: httpx.Client, alice: dict[str, str], name: str) -> None:
    answer = client.post(f"/api/small-uploads/{name}/", content=PIECE * 10, headers={**alice, **BINARY})
    assert answer.json()["size"] == 10 * MIB


def test_a_raised_bound_is_still_a_bound(gateway: Gateway, alice: dict[str, str], name: str) -> None:
    with gateway.client() as client:
        answer = client.post(f"/api/uploads/{name}/", content=PIECE * 33, headers={**alice, **BINARY})
    assert answer.status_code == 413


def test_a_refused_upload_is_answered_however_much_the_client_sends(gateway: Gateway, name: str) -> None:
    with gateway.client() as client:
        answer = client.post(f"/api/uploads/{name}/", content=PIECE * 20, headers=BINARY)
    assert (answer.status_code, answer.content) == (401, NO_CREDENTIALS)


@pytest.mark.parametrize(("option", "version"), [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2")])
@pytest.mark.parametrize(("with_token", "status"), [(True, 413), (False, 401)])
def test_an_early_refusal_reaches_curl_whole(
    gateway: Gateway,
    alice: dict[str, str],
    name: str,
    tmp_path: Path,
    option: str,
    version: str,
    with_token: bool,
    status: int,
) -> None:
    """curl expects 100 (Continue) over HTTP/1.1, and stops in the middle of the body over HTTP/2."""
    body = tmp_path / "body"
    body.write_bytes(PIECE * 11)
    headers = BINARY | (alice if with_token else {})
    with Curl(gateway, f"/api/small-uploads/{name}/", headers, option, "--data-binary", f"@{body}") as answer:
        assert answer.verdict() == (f"{version} {status}", 0)


def test_a_streamed_response_arrives_chunk_by_chunk(
    client: httpx.Client, second: httpx.Client, alice: dict[str, str], name: str
) -> None:
    """Each chunk is read before the next one is allowed to exist."""
    with client.stream("GET", f"/api/streams/{name}/", headers=alice) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert next(lines) == "chunk 0"
        for chunk in (1, 2):
            assert second.post(f"/api/streams/{name}/release/{chunk}/").status_code == 200
            assert next(lines) == f"chunk {chunk}"
        assert list(lines) == []


def test_a_client_that_leaves_a_stream_leaves_the_gateway_whole(
    gateway: Gateway, second: httpx.Client, alice: dict[str, str], name: str
) -> None:
    with gateway.client() as leaving:
        answer = leaving.send(leaving.build_request("GET", f"/api/streams/{name}/", headers=alice), stream=True)
        assert next(answer.iter_raw()).startswith(b"chunk 0")
    for chunk in (1, 2):
        second.post(f"/api/streams/{name}/release/{chunk}/")
    assert second.get("/api/me/").json()["user"] == "alice"
