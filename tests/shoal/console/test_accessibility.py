"""No page has a serious fault that axe-core finds, in either theme, at any width.

A theme changes nothing but colours, and a width nothing but what is shown: so most
pages are looked at wide in both themes, and at the least width in one.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api")
axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")

LIGHT, DARK = "light", "dark"
WIDTHS = (1440, 390, 320)
EVERY_LOOK = tuple((width, theme) for width in WIDTHS for theme in (LIGHT, DARK))
LOOKS = ((1440, LIGHT), (1440, DARK), (320, DARK))
OPTIONS = {
    "resultTypes": ["violations"],
    "rules": {"label-content-name-mismatch": {"enabled": True}},
}
CAPABILITIES = ("anomalies", "experiments", "features", "optimizer", "search")
PATHS = (
    "/",
    "/greeting",
    "/greeting/parameters",
    "/greeting/jobs",
    "/greeting/api",
    "/cracked",
    "/absent",
    *(f"/{name}" for name in CAPABILITIES),
    *(f"/{name}/parameters" for name in ("anomalies", "search")),
    "/anomalies/jobs",
    "/anomalies/events",
    "/experiments?id=green-button",
    "/experiments?new=yes",
    "/optimizer?show=plan",
    "/features?entity=user&id=123",
)
ROLES = {"editor": PATHS, "reader": ("/", "/anomalies", "/optimizer", "/greeting/parameters")}
VIEWS = [(role, path) for role, paths in ROLES.items() for path in paths]
LOOKED_AT_FULLY = (("editor", "/"), ("editor", "/anomalies"))


@pytest.fixture(scope="module")
def window(shoal_console: Callable[[Path], Any], browser: Any) -> Iterator[Callable[[str], Any]]:
    """A page of a browser that is signed in as a role of acme."""
    served = shoal_console(Path(__file__).with_name("serve_all.py"))
    pages: dict[str, Any] = {}

    def open_page(role: str) -> Any:
        if role not in pages:
            context = browser.new_context(base_url=served.address, reduced_motion="reduce")
            pages[role] = page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto("/console/sign-in")
            if role in served.keys["acme"]:
                page.get_by_label("API key").fill(served.keys["acme"][role])
                page.get_by_role("button", name="Sign in").click()
                page.wait_for_url("**/console/")
        return pages[role]

    yield open_page
    for page in pages.values():
        page.context.close()


def faults(page: Any) -> list[str]:
    """The serious and critical faults of a page, and whether it is too wide."""
    found = axe_playwright.Axe().run(page, options=OPTIONS).response["violations"]
    described = [
        f"{fault['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
    width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return described + ([f"scrolls sideways: {width} of {room} pixels"] if width > room else [])


@pytest.mark.parametrize(("role", "path"), VIEWS, ids=lambda value: str(value))
def test_a_page_has_no_serious_fault(window: Callable[[str], Any], role: str, path: str) -> None:
    page = window(role)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"/console{path}")
    page.wait_for_function("window.did_handshake")
    found = {}
    for width, theme in EVERY_LOOK if (role, path) in LOOKED_AT_FULLY else LOOKS:
        dark = "true" if theme == DARK else "false"
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate(f"Quasar.Dark.set({dark})")
        page.wait_for_function(f"document.body.classList.contains('body--dark') === {dark}")
        if here := faults(page):
            found[f"{width} {theme}"] = here
    assert not found, json.dumps(found, indent=1)


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
@pytest.mark.parametrize("path", ["/", "/console/sign-in"])
def test_a_public_page_has_no_serious_fault(
    window: Callable[[str], Any], path: str, scheme: str
) -> None:
    page = window("nobody")
    page.emulate_media(color_scheme=scheme)
    page.goto(path)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert not faults(page)
