"""Signing in with a real identity provider, `oidc-provider`, in a real browser."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit, urlunsplit

import pytest
import trustme

from shoal.testing.servers import free_port

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=20_000)  # a loaded machine may take its time
pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
SCRIPTS = HERE / "oidc_provider"
INSTALL_SECONDS = 300
ANA = "ana|acme|editor"


def installed_provider() -> Path:
    """A folder outside the repository with the npm package, installed once per lock."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    lock = (SCRIPTS / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "shoal-tests"
    folder = cache / f"oidc-provider-{hashlib.sha256(lock).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "server.js"):
        shutil.copy(SCRIPTS / name, folder)
    if not (folder / "installed").exists():
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
        if done.returncode:
            pytest.skip(f"npm cannot install oidc-provider: {done.stderr[-500:]}")
        (folder / "installed").touch()
    return folder


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The identity provider, and where the console must run."""
    package, folder = installed_provider(), tmp_path_factory.mktemp("provider")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    port, console = free_port(), free_port()
    public_url = f"http://127.0.0.1:{console}"
    options = {
        "port": port,
        "folder": str(folder),
        "redirectUris": [f"{public_url}/console/oidc/callback"],
        "postLogoutRedirectUris": [f"{public_url}/console/sign-in"],
    }
    process = subprocess.Popen(
        ["node", "server.js", json.dumps(options)],
        cwd=package,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    try:
        while (line := process.stdout.readline()).strip() != "ready":
            assert line, "the identity provider did not start"
        yield SimpleNamespace(
            issuer=f"https://localhost:{port}",
            console=console,
            public_url=public_url,
            authority=str(folder / "authority.pem"),
        )
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def served(provider: SimpleNamespace, shoal_console: Callable[..., Any]) -> Any:
    sign_in = {
        "issuer": provider.issuer,
        "client_id": "shoal",
        "client_secret": "the secret / of the client",
        "public_url": provider.public_url,
        "label": "Sign in with Acme",
    }
    given = {"port": provider.console, "sign_in": sign_in, "authority": provider.authority}
    return shoal_console(HERE / "serve_sign_in.py", json.dumps(given))


@pytest.fixture
def page(served: Any, browser: Any) -> Iterator[Any]:
    """A page of a new browser profile."""
    context = browser.new_context(base_url=served.address, ignore_https_errors=True)
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


def enter_name(page: Any, name: str) -> None:
    """Sign in to the identity provider, and agree."""
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("any")
    page.locator("button[type=submit]").click()
    page.get_by_role("button", name="Continue").click()


def sign_in(page: Any, name: str = ANA, start: str = "/console/") -> None:
    page.goto(start)
    page.get_by_role("link", name="Sign in with Acme").click()
    enter_name(page, name)


def stopped_at_callback(page: Any, name: str = ANA, **changes: str) -> str:
    """Sign in with the browser's cookies, up to the way back; the address of that.

    Args:
        page: The browser's page.
        name: Who signs in.
        changes: Parameters of the request to the provider.
    """
    http = page.request
    answer = http.get("/console/oidc/start", max_redirects=0)
    address = changed(answer.headers["location"], **changes)
    for _ in range(20):
        if urlsplit(address).path == "/console/oidc/callback":
            return address
        answer = http.get(address, max_redirects=0)
        if "location" not in answer.headers:  # a form of the provider's
            (prompt,) = re.findall(r'name="prompt" value="(\w+)"', answer.text())
            form = {"prompt": prompt, "login": name, "password": "any"}
            answer = http.post(address, form=form, max_redirects=0)
        address = urljoin(address, answer.headers["location"])
    raise AssertionError(f"the provider does not send the browser back, but to {address}")


def changed(address: str, **changes: str) -> str:
    """An address with other parameters."""
    parts = urlsplit(address)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()} | changes
    return urlunsplit(parts._replace(query=urlencode(query)))


def refused(page: Any, address: str, message: str, status: int = 401) -> None:
    """The callback at this address signs nobody in, and says why."""
    answer = page.goto(address)
    assert answer.status == status
    expect(page.get_by_role("alert")).to_contain_text(message)
    page.goto("/console/")
    assert urlsplit(page.url).path == "/console/sign-in"


def cookies(page: Any) -> dict[str, Any]:
    return {cookie["name"]: cookie for cookie in page.context.cookies()}


def test_a_person_signs_in_and_out(page: Any, served: Any) -> None:
    sign_in(page, start="/console/greeting")
    page.wait_for_url("**/console/greeting")
    expect(page.get_by_text("Acme", exact=True)).to_be_visible()
    expect(page.get_by_text("editor · ana")).to_be_visible()
    session = cookies(page)["shoal_session"]
    assert session["httpOnly"] and session["sameSite"] == "Lax"
    assert "shoal_sign_in" not in cookies(page)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Yes, sign me out").click()  # of oidc-provider
    page.wait_for_url("**/console/sign-in*")
    assert "shoal_session" not in cookies(page)
    page.get_by_role("link", name="Sign in with Acme").click()
    expect(page.locator("input[name=login]")).to_be_visible()  # signed out there as well


def test_api_keys_still_sign_in(page: Any, served: Any) -> None:
    page.goto("/console/")
    page.get_by_label("API key").fill(served.keys["globex"]["editor"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/")
    expect(page.get_by_text("Globex", exact=True)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/console/sign-in")


def test_another_state_is_refused(page: Any) -> None:
    address = stopped_at_callback(page)
    refused(page, changed(address, state="another"), ["Not the answer", "not the answer"][1])


def test_an_answer_in_another_browser_is_refused(page: Any, browser: Any, served: Any) -> None:
    address = stopped_at_callback(page)
    other = browser.new_context(base_url=served.address, ignore_https_errors=True)
    try:
        refused(other.new_page(), address, "was not begun in this browser")
    finally:
        other.close()


def test_a_replayed_answer_is_refused(page: Any) -> None:
    address = stopped_at_callback(page)
    page.goto(address)
    page.wait_for_url("**/console/")
    page.context.clear_cookies(name="shoal_session")
    refused(page, address, "was not begun in this browser")


def test_a_replayed_code_is_refused(page: Any) -> None:
    first = stopped_at_callback(page)
    page.goto(first)
    page.wait_for_url("**/console/")
    page.context.clear_cookies(name="shoal_session")
    started = page.request.get("/console/oidc/start", max_redirects=0)
    (state,) = parse_qs(urlsplit(started.headers["location"]).query)["state"]
    refused(page, changed(first, state=state), "does not accept this sign-in")


def test_another_nonce_is_refused(page: Any) -> None:
    address = stopped_at_callback(page, nonce="another")
    refused(page, address, "claim nonce is missing or wrong")


def test_another_issuer_is_refused(page: Any) -> None:
    address = stopped_at_callback(page)
    refused(page, changed(address, iss="https://evil.example.com"), "another identity provider")


def test_another_verifier_is_refused(page: Any) -> None:
    address = stopped_at_callback(
        page, code_challenge="E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )
    refused(page, address, "does not accept this sign-in")


def test_a_redirect_to_elsewhere_is_refused_by_the_provider(page: Any) -> None:
    started = page.request.get("/console/oidc/start", max_redirects=0)
    evil = changed(started.headers["location"], redirect_uri="https://evil.example.com/")
    assert page.goto(evil).status == 400


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eve", "claim tenant must be the id of a tenant"),
        ("eve|initech|editor", "No tenant 'initech', which the token names"),
        ("eve|platform|admin", "not trusted for the tenant"),
        ("eve|acme|../admin", "claim role must be the name of a role"),
    ],
)
def test_a_person_without_access_is_told_so(page: Any, name: str, message: str) -> None:
    refused(page, stopped_at_callback(page, name), message)


def test_a_person_with_an_undefined_role_is_told_so(page: Any) -> None:
    refused(page, stopped_at_callback(page, "eve|acme|root"), "'root'", 403)


def test_a_person_who_declines_is_told_so(page: Any) -> None:
    page.goto("/console/")
    page.get_by_role("link", name="Sign in with Acme").click()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("refused: access_denied")


def test_a_sign_in_replaces_the_session_before(page: Any, served: Any) -> None:
    page.goto("/console/")
    page.get_by_label("API key").fill(served.keys["globex"]["editor"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/")
    planted = cookies(page)["shoal_session"]["value"]
    sign_in(page, start="/console/sign-in")
    page.wait_for_url("**/console/")
    assert cookies(page)["shoal_session"]["value"] != planted
    expect(page.get_by_text("Acme", exact=True)).to_be_visible()


@pytest.mark.parametrize("after", ["https://evil.example.com/", "//evil.example.com", "/\\evil"])
def test_after_signing_in_the_browser_stays_here(page: Any, served: Any, after: str) -> None:
    page.goto(f"/console/sign-in?{urlencode({'after': after})}")
    page.get_by_role("link", name="Sign in with Acme").click()
    enter_name(page, ANA)
    page.wait_for_url(f"{served.address}/console/")
