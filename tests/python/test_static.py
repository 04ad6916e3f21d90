"""What `collectstatic` left is served by the gateway alone, as a browser and its cache expect."""

import json
from functools import cache
from pathlib import Path

import httpx
import pytest

from support.gateway import Gateway
from support.gunicorn import Gunicorn


@cache
def hashed_names(static_root: Path) -> dict[str, str]:
    """Every collected file and the name its content gave it."""
    manifest = json.loads((static_root / "staticfiles.json").read_text())
    names: dict[str, str] = manifest["paths"]
    return names


@pytest.fixture
def style(gateway: Gateway) -> str:
    """The path of the application's style sheet."""
    return f"/static/{hashed_names(gateway.static_root)['backend/site.css']}"


def test_every_collected_file_is_served_byte_for_byte(client: httpx.Client, gateway: Gateway) -> None:
    names = hashed_names(gateway.static_root).values()
    assert len(names) > 100, "Django's admin site and the application bring more than that"
    for name in names:
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200, name
        assert answer.content == (gateway.static_root / name).read_bytes(), name


def test_a_style_sheet_has_its_type_and_its_validators(client: httpx.Client, style: str) -> None:
    answer = client.get(style)
    assert answer.headers["content-type"].split(";")[0] == "text/css"
    assert answer.headers["etag"]
    assert answer.headers["last-modified"]


def test_a_cached_copy_is_revalidated_without_a_body(client: httpx.Client, style: str) -> None:
    first = client.get(style)
    for condition in (
        {"If-None-Match": first.headers["etag"]},
        {"If-Modified-Since": first.headers["last-modified"]},
    ):
        again = client.get(style, headers=condition)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]


def test_a_stale_copy_is_replaced(client: httpx.Client, style: str) -> None:
    stale = client.get(style, headers={"If-None-Match": '"something else"'})
    assert (stale.status_code, len(stale.content) > 0) == (200, True)


def test_head_says_what_get_would_and_sends_nothing(client: httpx.Client, style: str) -> None:
    plain = {"Accept-Encoding": "identity"}
    get, head = client.get(style, headers=plain), client.head(style, headers=plain)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "last-modified"):
        assert head.headers[name] == get.headers[name], name


def test_a_range_is_a_part_of_the_file(client: httpx.Client, gateway: Gateway, style: str) -> None:
    whole = (gateway.static_root / style.removeprefix("/static/")).read_bytes()
    part = client.get(style, headers={"Range": "bytes=2-5", "Accept-Encoding": "identity"})
    assert (part.status_code, part.content) == (206, whole[2:6])
    assert part.headers["content-range"] == f"bytes 2-5/{len(whole)}"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../db.sqlite3",
        "/static/%2e%2e/db.sqlite3",
        "/static/..%2fdb.sqlite3",
        "/static/%2e%2e%2fdb.sqlite3",
        "/static/admin/../../db.sqlite3",
        "/static/..%5cdb.sqlite3",
        "/static//etc/passwd",
        "/static/missing.css",
    ],
)
def test_nothing_outside_the_collected_files_is_served(client: httpx.Client, gateway: Gateway, path: str) -> None:
    request = client.build_request("GET", "/static/")
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = client.send(request)
    assert answer.status_code in {400, 404}
    assert b"SQLite format" not in answer.content
    assert str(gateway.static_root).encode() not in answer.content


def test_static_files_cannot_be_written_to(client: httpx.Client, style: str) -> None:
    assert client.post(style, content=b"body { display: none }").status_code == 405


def test_static_files_need_no_gunicorn(client: httpx.Client, upstream: Gunicorn, style: str) -> None:
    assert client.get(f"{style}?asked-for-a-style-sheet").status_code == 200
    assert upstream.requests_seen()["asked-for-a-style-sheet"] == 0
