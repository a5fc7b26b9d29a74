"""The site over HTTP: what is public, who gets in, and what is refused."""

import re
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

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


FOREIGN_ORIGINS = ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"]
SOCKET = "/console/_nicegui_ws/socket.io/?EIO=4&transport="


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/console/sign-in"),
        ("POST", "/console/sign-out"),
        ("GET", SOCKET + "polling"),
        ("POST", SOCKET + "polling"),
        ("GET", "/console/"),
    ],
)
@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_a_foreign_origin_is_refused_and_never_reflected(
    http: httpx.Client, served: Any, method: str, path: str, origin: str
) -> None:
    enter(http, served.keys["acme"]["editor"])
    answer = http.request(
        method, path, headers={"Origin": origin}, data={"key": served.keys["acme"]["editor"]}
    )
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"]
    assert "access-control-allow-origin" not in answer.headers
    assert COOKIE not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/console/sign-in", "/console/sign-out"])
def test_a_form_from_another_site_is_refused(http: httpx.Client, path: str, site: str) -> None:
    answer = http.post(path, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403


@pytest.mark.parametrize("origin", [None, *FOREIGN_ORIGINS])
def test_only_the_consoles_own_pages_open_the_socket(served: Any, origin: str | None) -> None:
    url = served.address.replace("http", "ws") + SOCKET + "websocket"
    own = origin or served.address
    if origin is None:
        with connect(url, origin=own) as socket:
            assert str(socket.recv(timeout=20)).startswith("0{")
    else:
        with pytest.raises(InvalidStatus) as refused, connect(url, origin=own):
            pass
        assert refused.value.response.status_code == 403


def test_a_proxy_may_rewrite_the_host(http: httpx.Client, served: Any) -> None:
    headers = {"Origin": "https://shoal.example", "X-Forwarded-Host": "shoal.example"}
    answer = http.post(
        "/console/sign-in", data={"key": served.keys["acme"]["editor"]}, headers=headers
    )
    assert answer.status_code == 303


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


def test_pages_cannot_be_framed_cached_or_guessed(http: httpx.Client, served: Any) -> None:
    enter(http, served.keys["acme"]["editor"])
    for path in ("/", "/console/sign-in", "/console/", "/console/absent"):
        headers = http.get(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


def test_a_policy_permits_only_scripts_with_its_nonce(http: httpx.Client, served: Any) -> None:
    enter(http, served.keys["acme"]["editor"])
    seen = set()
    for path in ("/", "/console/sign-in", "/console/", "/console/greeting"):
        page = http.get(path)
        policy = page.headers["content-security-policy"]
        scripts = re.search(r"script-src ([^;]*)", policy)
        assert scripts and "'unsafe-inline'" not in scripts[1] and "http" not in scripts[1]
        nonce = re.search(r"'nonce-([^']{20,})'", scripts[1])
        assert nonce and nonce[1] not in seen
        seen.add(nonce[1])
        tags = re.findall(r"<script[^>]*>", page.text)
        assert all(f'nonce="{nonce[1]}"' in tag for tag in tags)
