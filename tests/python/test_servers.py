"""One application behind every server: through the gateway Gunicorn, uWSGI, Daphne and Uvicorn look the same."""

import hashlib
import re
import secrets
from collections.abc import Iterator

import httpx
import pytest

from support.appserver import AppServer
from support.gateway import CLIENT_ADDRESS, Gateway
from support.site import PASSWORD
from support.spoofing import FORGED, MARK
from support.tokens import mint

SMALL, LARGE = b"a little", secrets.token_bytes(3_000) * 700
"""What fits into what the gateway reads ahead, and what does not by far; both less than the route's bound."""
BINARY = {"Content-Type": "application/octet-stream"}


def in_pieces(body: bytes) -> Iterator[bytes]:
    """The same body, whose length nobody has said."""
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]


def digest(body: bytes) -> str:
    """What the application says of it."""
    return hashlib.sha256(body).hexdigest()


# Who is asking.


def test_a_login_opens_the_protected_view(visitor: httpx.Client) -> None:
    pair = visitor.post("/api/token/", json={"username": "alice", "password": PASSWORD})
    assert pair.status_code == 200, pair.text
    me = visitor.get("/api/me/", headers={"Authorization": f"Bearer {pair.json()['access']}"})
    assert (me.status_code, me.json()["user"]) == (200, "alice")


def test_nobody_enters_without_a_token(visitor: httpx.Client) -> None:
    assert visitor.get("/api/me/").status_code == 401
    wrong = visitor.post("/api/token/", json={"username": "alice", "password": "wrong"})
    assert (wrong.status_code, list(wrong.json())) == (401, ["detail"])


def test_a_form_is_sent_and_read_back(visitor: httpx.Client, front: Gateway) -> None:
    text = secrets.token_hex(8)
    page = visitor.get("/notes/")
    field = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert field is not None, page.text
    data = {"csrfmiddlewaretoken": field[1], "text": text}
    stored = visitor.post("/notes/", data=data, headers={"Referer": f"{front.url}/notes/"})
    assert (stored.status_code, stored.headers["location"]) == (302, f"{front.url}/notes/")
    assert text in visitor.get("/notes/").text


def test_the_application_sees_https_the_host_and_the_path_of_the_client(
    visitor: httpx.Client, front: Gateway, alice: dict[str, str]
) -> None:
    me = visitor.get("/api/me/", params={"q": "a b"}, headers=alice).json()
    assert (me["scheme"], me["secure"], me["host"]) == ("https", True, front.host)
    assert me["absolute_uri"] == f"{front.url}{me['full_path']}"
    assert (me["script_name"], me["path_info"]) == ("", "/api/me/")
    assert me["headers"]["x-forwarded-for"] == CLIENT_ADDRESS
    assert me["headers"]["x-forwarded-proto"] == "https"
    assert me["headers"]["authorization"] == alice["Authorization"]


def test_remote_addr_is_the_client_where_the_server_can_be_told(visitor: httpx.Client, server: AppServer) -> None:
    seen = visitor.get("/public/echo/").json()
    assert (seen["remote_addr"] == CLIENT_ADDRESS) is server.tells_client_address, seen


def test_remote_user_is_the_verified_subject_where_the_server_can_be_told(
    visitor: httpx.Client, server: AppServer, front: Gateway
) -> None:
    bearer = {"Authorization": f"Bearer {mint(front.secret, user_id=4711)}"}
    told = visitor.get("/guarded/echo/", headers=bearer).json()["remote_user"]
    assert told == ("4711" if server.tells_user else None)
    assert visitor.get("/public/echo/", headers=bearer).json()["remote_user"] is None


@pytest.mark.parametrize("path", ["/public/echo/", "/guarded/echo/"])
def test_forged_fields_leave_no_trace(visitor: httpx.Client, alice: dict[str, str], path: str) -> None:
    seen = visitor.get(path, headers=[*alice.items(), *FORGED])
    assert seen.status_code == 200, seen.text
    assert MARK not in seen.text
    assert (seen.json()["secure"], seen.json()["script_name"], seen.json()["path_info"]) == (True, "", path)


# What is asked for.


@pytest.mark.parametrize(
    ("sent", "rest"),
    [
        ("gr%C3%BC%C3%9Fe/%E2%82%AC", "grüße/€"),
        ("a%20b+c", "a b+c"),
        ("a%2541b", "a%41b"),
        ("%252E%252E/x", "%2E%2E/x"),
        ("%3Fx%3D1%23y", "?x=1#y"),
        ("a;b=c,d:e@f", "a;b=c,d:e@f"),
    ],
    ids=["utf-8", "space and plus", "percent", "encoded dots", "question mark", "delimiters"],
)
def test_a_path_is_decoded_exactly_once(visitor: httpx.Client, sent: str, rest: str) -> None:
    seen = visitor.get(f"/public/paths/{sent}")
    assert seen.status_code == 200, seen.text
    assert (seen.json()["rest"], seen.json()["path"]) == (rest, f"/public/paths/{rest}")


def test_a_path_that_would_be_another_one_if_it_were_decoded_twice_stays_itself(visitor: httpx.Client) -> None:
    """It is public as it stands; decoded twice it would be the way around the token."""
    answer = visitor.get("/public/%252E%252E/api/me/")
    assert answer.status_code == 404, answer.text
    assert visitor.get("/public/%2565cho/").status_code == 404


@pytest.mark.parametrize(
    ("sent", "query"),
    [
        ("x=%C3%A4&x=2&y=", {"x": ["ä", "2"], "y": [""]}),
        ("q=a+b%20c%2Bd", {"q": ["a b c+d"]}),
        ("q=%2F..%2F%3F", {"q": ["/../?"]}),
        ("", {}),
    ],
)
def test_a_query_arrives_as_it_was_sent(visitor: httpx.Client, sent: str, query: dict[str, list[str]]) -> None:
    assert visitor.get(f"/public/paths/x?{sent}").json()["query"] == query


# Bodies, there.


@pytest.mark.parametrize("body", [b"", SMALL, LARGE], ids=["none", "small", "large"])
def test_a_body_of_known_length_arrives_whole(visitor: httpx.Client, body: bytes) -> None:
    seen = visitor.post("/public/answers/body/", content=body, headers=BINARY).json()
    assert (seen["size"], seen["sha256"]) == (len(body), digest(body))
    assert (seen["content_type"], seen["transfer_encoding"]) == (BINARY["Content-Type"], None)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
def test_a_body_of_unknown_length_arrives_whole(visitor: httpx.Client, body: bytes) -> None:
    """Django under WSGI takes a body without a length for an empty one, so it must be told the length."""
    seen = visitor.post("/public/answers/body/", content=in_pieces(body), headers=BINARY).json()
    assert (seen["size"], seen["sha256"]) == (len(body), digest(body))


def test_an_upload_of_unknown_length_arrives_whole(visitor: httpx.Client, alice: dict[str, str]) -> None:
    """So does REST framework, under ASGI too."""
    path = f"/api/uploads/{secrets.token_hex(8)}/"
    body = LARGE * 4
    seen = visitor.post(path, content=in_pieces(body), headers={**alice, **BINARY})
    assert (seen.status_code, seen.json()) == (200, {"size": len(body), "sha256": digest(body)})


# Bodies, back.


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
@pytest.mark.parametrize("shape", ["exact", "unknown"])
def test_an_answer_comes_back_whole(visitor: httpx.Client, shape: str, size: int) -> None:
    answer = visitor.get(f"/public/answers/{shape}/{size}/")
    assert answer.status_code == 200, answer.text
    assert answer.content == (b"0123456789abcdef" * (size // 16 + 1))[:size]
    if shape == "exact":
        assert answer.headers["content-length"] == str(size)


def test_a_file_is_downloaded_under_its_name(visitor: httpx.Client) -> None:
    answer = visitor.get("/public/answers/download/")
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''gr%C3%B6%C3%9Fe.py"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.text.startswith("#!/usr/bin/env python3\n")


def test_a_stream_arrives_piece_by_piece(visitor: httpx.Client, front: Gateway, alice: dict[str, str]) -> None:
    """Each piece is read before the next one is allowed to exist."""
    path = f"/api/streams/{secrets.token_hex(8)}/"
    with front.client() as other, visitor.stream("GET", path, headers=alice) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "chunk 0"
        for chunk in (1, 2):
            assert other.post(f"{path}release/{chunk}/", headers=alice).status_code == 200
            assert next(lines) == f"chunk {chunk}"
        assert list(lines) == []


@pytest.mark.parametrize("shape", ["exact", "unknown"])
def test_head_has_the_fields_of_get_and_no_body(visitor: httpx.Client, shape: str) -> None:
    """uWSGI sends the body all the same; the connection must not carry it into the next answer."""
    path = f"/public/answers/{shape}/1000/"
    for _ in range(3):
        head = visitor.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert visitor.get(path).status_code == 200
    if shape == "exact":
        assert head.headers["content-length"] == "1000"


def test_what_the_client_knows_is_not_sent_again(visitor: httpx.Client) -> None:
    first = visitor.get("/public/answers/versioned/v7/")
    assert (first.status_code, first.text, first.headers["etag"]) == (200, "version v7\n", '"v7"')
    again = visitor.get("/public/answers/versioned/v7/", headers={"If-None-Match": '"v7"'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"v7"')
    assert visitor.get("/public/answers/versioned/v8/", headers={"If-None-Match": '"v7"'}).text == "version v8\n"


def test_no_content_is_no_content(visitor: httpx.Client) -> None:
    answer = visitor.get("/public/answers/nothing/")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers


def test_cookies_pass_both_ways(visitor: httpx.Client) -> None:
    answer = visitor.get("/public/answers/cookies/")
    assert [field.partition("=")[0] for field in answer.headers.get_list("set-cookie")] == ["first", "second"]
    assert visitor.get("/public/answers/cookies/").json() == {"first": "1", "second": "two words"}


def test_cookies_that_come_apart_over_http2_arrive_as_one_field(front: Gateway) -> None:
    """RFC 9113, section 8.2.3."""
    with front.client(http2=True) as client:
        apart = [("Cookie", "a=1"), ("Cookie", "b=2"), ("Cookie", "c=3")]
        assert client.get("/public/answers/cookies/", headers=apart).json() == {"a": "1", "b": "2", "c": "3"}
