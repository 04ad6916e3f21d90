"""A view says who may have a file, and the gateway sends it: by X-Accel-Redirect, and by X-Sendfile."""

from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest

from support.gateway import Gateway

NAMES = ["alice-plain.txt", "alice-a b.txt", "alice-100%.txt", "alice-why?.txt", "alice-\u00fcber.txt", "alice-a+b&c;d.txt"]
CONTENT = b"0123456789"


@pytest.fixture
def upload(gateway: Gateway) -> Callable[[str], str]:
    """Puts a file where uploads are; gives its name as it stands in a URL."""

    def put(name: str) -> str:
        path = gateway.media_root / name
        if not path.exists():
            path.write_bytes(CONTENT)
        return quote(name)

    return put


@pytest.mark.parametrize("name", NAMES)
def test_the_owner_gets_the_file_and_what_the_view_said_of_it(
    client: httpx.Client, alice: dict[str, str], upload: Callable[[str], str], name: str
) -> None:
    answer = client.get(f"/guarded/downloads/{upload(name)}", headers=alice)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"].startswith("text/plain"), "Django's own default is not what the file is"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["cache-control"] == "private"
    assert answer.cookies["downloaded"] == "yes"
    assert not [header for header in answer.headers if header.startswith("x-accel") or header == "x-sendfile"]


def test_whoever_the_view_refuses_gets_its_refusal(
    client: httpx.Client, alice: dict[str, str], bob: dict[str, str], upload: Callable[[str], str]
) -> None:
    path = f"/guarded/downloads/{upload('alice-plain.txt')}"
    assert client.get(path).status_code == 401
    assert client.get(path, headers=bob).status_code == 403
    assert client.get(f"/protected/{upload('alice-plain.txt')}", headers=alice).status_code == 404


def test_parts_and_copies_are_the_file_s(
    client: httpx.Client, alice: dict[str, str], upload: Callable[[str], str]
) -> None:
    path = f"/guarded/downloads/{upload('alice-plain.txt')}"
    part = client.get(path, headers={**alice, "Range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    copy = client.get(path, headers={**alice, "If-None-Match": part.headers["etag"]})
    assert (copy.status_code, copy.content) == (304, b"")
    head = client.head(path, headers=alice)
    assert (head.status_code, head.headers["content-length"]) == (200, "10")


def test_a_file_by_its_place_has_the_type_that_the_view_chose(
    client: httpx.Client, upload: Callable[[str], str]
) -> None:
    answer = client.get(f"/public/downloads/{upload('alice-a b.txt')}")
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "application/x-shared"


def test_nothing_outside_of_the_uploads_is_sent(
    client: httpx.Client, gateway: Gateway, alice: dict[str, str]
) -> None:
    (gateway.media_root / "alice-out").symlink_to(gateway.media_root.parent / "db.sqlite3")
    assert client.get("/guarded/downloads/alice-out", headers=alice).status_code == 404
    (gateway.media_root / "alice-out").unlink()
    assert client.get("/guarded/downloads/alice-missing", headers=alice).status_code == 404


def test_django_itself_only_says_which_file(
    direct: httpx.Client, alice: dict[str, str], upload: Callable[[str], str]
) -> None:
    answer = direct.get(f"/guarded/downloads/{upload('alice-a b.txt')}", headers=alice)
    assert (answer.content, answer.headers["x-accel-redirect"]) == (b"", "/protected/alice-a%20b.txt")
