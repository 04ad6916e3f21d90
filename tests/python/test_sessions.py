"""Django's own sessions, cookies and CSRF protection work through the gateway over https."""

import re
import secrets

import httpx
import pytest

from support.gateway import Gateway
from support.site import PASSWORD

FIELD = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
STYLE = re.compile(r'href="(/static/[^"]+\.css)"')


def hidden_token(page: httpx.Response) -> str:
    """The CSRF token in a form."""
    found = FIELD.search(page.text)
    assert found is not None, page.text
    return found[1]


def submit(client: httpx.Client, path: str, referer: str | None, **fields: str) -> httpx.Response:
    """Opens the form at `path`, fills it in and sends it as a browser would."""
    page = client.get(path)
    assert page.status_code == 200, page.text
    headers = {} if referer is None else {"Referer": referer}
    return client.post(path, data={"csrfmiddlewaretoken": hidden_token(page), **fields}, headers=headers)


def admin_login(client: httpx.Client, gateway: Gateway) -> httpx.Response:
    """Logs Bob in to the admin site."""
    path = "/admin/login/?next=/admin/"
    return submit(client, path, gateway.url + path, username="bob", password=PASSWORD)


def test_the_admin_site_sends_strangers_to_its_login_page(client: httpx.Client) -> None:
    answer = client.get("/admin/")
    assert (answer.status_code, answer.headers["location"]) == (302, "/admin/login/?next=/admin/")


def test_staff_log_in_to_the_admin_site_over_https(client: httpx.Client, gateway: Gateway) -> None:
    entered = admin_login(client, gateway)
    assert (entered.status_code, entered.headers["location"]) == (302, "/admin/")
    assert all("Secure" in cookie for cookie in entered.headers.get_list("set-cookie"))
    assert "sessionid" in client.cookies
    index = client.get("/admin/")
    assert (index.status_code, "Site administration" in index.text) == (200, True)


def test_the_admin_site_s_style_sheets_come_through_the_files_route(client: httpx.Client) -> None:
    page = client.get("/admin/login/")
    sheets = STYLE.findall(page.text)
    assert sheets
    for sheet in sheets:
        assert client.get(sheet).status_code == 200, sheet


def test_staff_write_through_the_admin_site(client: httpx.Client, gateway: Gateway) -> None:
    admin_login(client, gateway)
    text, path = secrets.token_hex(8), "/admin/backend/note/add/"
    saved = submit(client, path, gateway.url + path, text=text)
    assert (saved.status_code, saved.headers["location"]) == (302, "/admin/backend/note/")
    assert text in client.get("/admin/backend/note/").text


@pytest.mark.parametrize("referer", [None, "https://elsewhere.example/form"], ids=["none", "elsewhere"])
def test_django_checks_the_referer_because_it_knows_the_scheme_is_https(
    client: httpx.Client, referer: str | None
) -> None:
    answer = submit(client, "/notes/", referer, text="never stored")
    assert answer.status_code == 403
    assert "never stored" not in client.get("/notes/").text


def test_a_form_with_csrf_is_stored_and_redirects_to_the_public_address(client: httpx.Client, gateway: Gateway) -> None:
    text = secrets.token_hex(8)
    stored = submit(client, "/notes/", f"{gateway.url}/notes/", text=text)
    assert (stored.status_code, stored.headers["location"]) == (302, f"{gateway.url}/notes/")
    assert text in client.get(stored.headers["location"]).text


def test_a_form_with_the_origin_of_the_public_address_is_accepted(client: httpx.Client, gateway: Gateway) -> None:
    text = secrets.token_hex(8)
    page = client.get("/notes/")
    fields = {"csrfmiddlewaretoken": hidden_token(page), "text": text}
    assert client.post("/notes/", data=fields, headers={"Origin": gateway.url}).status_code == 302


def test_a_form_without_its_token_is_refused(client: httpx.Client, gateway: Gateway) -> None:
    client.get("/notes/")
    answer = client.post("/notes/", data={"text": "x"}, headers={"Referer": f"{gateway.url}/notes/"})
    assert answer.status_code == 403
