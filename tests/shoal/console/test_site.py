"""The site over HTTP: what is public, who gets in, and what is refused."""

from typing import Any

import httpx
import pytest

from shoal.console.session import COOKIE


@pytest.fixture
def http(served: Any) -> Any:
    with httpx.Client(base_url=served.address, timeout=30) as client:
        yield client


def enter(http: httpx.Client, key: str, **fields: str) -> httpx.Response:
    return http.post("/console/sign-in", data={"key": key, **fields})


def test_the_landing_page_lists_the_capabilities_without_a_key(http: httpx.Client) -> None:
    page = http.get("/")
    assert page.status_code == 200
    assert "/console/greeting" in page.text and "/greeting/openapi.json" in page.text
    assert "&lt;b&gt;hello" in page.text and "<b>hello" not in page.text


def test_nothing_is_loaded_from_other_hosts(http: httpx.Client, served: Any) -> None:
    enter(http, served.keys["acme"]["editor"])
    for path in ("/", "/console/sign-in", "/console/"):
        text = http.get(path).text
        assert not [
            part
            for part in ('src="http', 'href="http', "url(http", "//cdn", "googleapis")
            if part in text
        ]


def test_an_unknown_path_is_a_problem_document(http: httpx.Client) -> None:
    answer = http.get("/nothing/here")
    assert (
        answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"
    )
    assert answer.json()["status"] == 404


@pytest.mark.parametrize(
    "path", ["/console/", "/console/greeting", "/console/greeting/parameters?x=1"]
)
def test_every_page_needs_a_session(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 303 and answer.headers["location"].startswith(
        "/console/sign-in?after=/console/"
    )


def test_signing_in_sets_a_protected_cookie(http: httpx.Client, served: Any) -> None:
    answer = enter(http, served.keys["acme"]["editor"], after="/console/greeting")
    assert answer.status_code == 303 and answer.headers["location"] == "/console/greeting"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/console" in cookie
    assert served.keys["acme"]["editor"].split("_")[2] not in cookie
    assert "Acme" in http.get("/console/").text


def test_over_https_the_cookie_stays_on_https(http: httpx.Client, served: Any) -> None:
    answer = http.post(
        "/console/sign-in",
        data={"key": served.keys["acme"]["editor"]},
        headers={"X-Forwarded-Proto": "https"},
    )
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "key", ["", "shoal_x_y", "nonsense", "shoal_" + "a" * 5000, "key\r\nX-Evil: 1", "ключ"]
)
def test_an_invalid_key_is_refused_without_a_cookie(http: httpx.Client, key: str) -> None:
    answer = enter(http, key)
    assert 400 <= answer.status_code < 500 and 'role="alert"' in answer.text
    assert COOKIE not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize(
    "after",
    [
        "https://evil.example",
        "//evil.example",
        "/console/../../x\\",
        "javascript:alert(1)",
        "/search",
        '/console/"><script>',
    ],
)
def test_signing_in_never_redirects_out_of_the_console(
    http: httpx.Client, served: Any, after: str
) -> None:
    location = enter(http, served.keys["acme"]["editor"], after=after).headers["location"]
    assert location.startswith("/console/") and "<" not in location and "\\" not in location
    assert "<script>alert" not in http.get("/console/sign-in", params={"after": after}).text


def test_form_input_is_escaped(http: httpx.Client) -> None:
    text = enter(http, "wrong", user='"><script>alert(1)</script>').text
    assert "<script>alert(1)" not in text


def test_a_form_from_another_site_is_refused(http: httpx.Client, served: Any) -> None:
    answer = http.post(
        "/console/sign-in",
        data={"key": served.keys["acme"]["editor"]},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403


def test_a_large_form_is_refused(http: httpx.Client) -> None:
    assert enter(http, "x" * 100_000).status_code == 413


def test_a_forged_cookie_is_refused(http: httpx.Client) -> None:
    http.cookies.set(COOKIE, "gAAAAAforged", path="/console")
    assert http.get("/console/").status_code == 303


def test_signing_out_ends_the_session(http: httpx.Client, served: Any) -> None:
    enter(http, served.keys["acme"]["editor"])
    assert http.get("/console/").status_code == 200
    assert http.post("/console/sign-out").headers["location"] == "/console/sign-in"
    assert http.get("/console/").status_code == 303


def test_a_revoked_key_leads_to_the_sign_in_form(http: httpx.Client, served: Any) -> None:
    admin = {"Authorization": f"Bearer {served.keys['acme']['admin']}"}
    made = http.post("/platform/tenants/acme/keys", json={"role": "reader"}, headers=admin).json()
    assert enter(http, made["key"]).status_code == 303
    assert http.get("/console/").status_code == 200
    http.delete(f"/platform/keys/{made['id']}", headers=admin).raise_for_status()
    for _ in range(30):
        if http.get("/console/").status_code == 303:
            return
    pytest.fail("the revoked key still opens the console")


def test_pages_cannot_be_framed_or_cached(http: httpx.Client, served: Any) -> None:
    enter(http, served.keys["acme"]["editor"])
    for path in ("/", "/console/sign-in", "/console/"):
        headers = http.get(path).headers
        assert (
            headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"
        )
        assert headers["cache-control"] == "no-store"
