"""The frame of every console page, and the elements that several pages share."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from html import escape
from typing import Any

from nicegui import ui

from .elements import draw_pill
from .open_pages import OpenPage
from .reader_times import describe_zone, format_time
from .session import Session
from .theme import ACCENT, ACCENT_DARK, CONSOLE, LOGO

STATES = {
    "RUNNING": ("sh-good", "running"),
    "DEPLOYING": ("sh-warn", "deploying"),
    "UNHEALTHY": ("sh-bad", "unhealthy"),
    "DEPLOY_FAILED": ("sh-bad", "failed to deploy"),
    "DELETING": ("sh-warn", "being deleted"),
    "NOT_STARTED": ("sh-off", "not started"),
    "NOT_DEPLOYED": ("sh-off", "not deployed"),
}
"""CSS class and words for the states of a Serve application."""


def describe_state(status: str) -> tuple[str, str]:
    """CSS class and words for a Serve application's state."""
    return STATES.get(status, ("sh-warn", status.lower().replace("_", " ")))


@contextmanager
def frame(
    page: OpenPage, capabilities: Sequence[dict[str, Any]], *, current: str, theme: str | None
) -> Iterator[None]:
    """Draw the bar on top and the navigation, around the page's content.

    Args:
        page: What is drawn, and for whom.
        capabilities: The capabilities, as the platform lists them.
        current: The name of the current capability; empty on the overview.
        theme: "light", "dark", or None for the system's.
    """
    ui.add_head_html(f"<style>{CONSOLE}</style>")  # add_css would write a script
    zone = escape(str(page.timezone))
    ui.add_head_html(f'<meta name="shoal-zone" content="{zone}">')
    nonce = page.browser.request.scope["shoal.nonce"]
    ui.add_body_html(f'<script nonce="{nonce}" defer src="/console/browser.js"></script>')
    _set_colours()
    dark = ui.dark_mode({"dark": True, "light": False}.get(theme or ""))
    menu = _draw_header(page.session, dark)
    navigation = _draw_navigation(capabilities, current)
    menu.on_click(lambda: navigation.run_method("toggle"))
    _draw_status(page)
    with ui.element("main").classes("sh-main"):
        yield


def _draw_status(page: OpenPage) -> None:
    """Draw how old the page is, and in which zone its times are.

    The browser's script writes the age, and says when the connection is lost.
    """
    now = datetime.now(UTC)
    drawn = f"As of {format_time(now, page.timezone)}"
    with ui.element("p").classes("sh-status"):
        page.status = ui.element("span").props(f"data-shoal-stamp={time.time_ns()}")
        page.status.props["data-shoal-drawn"] = drawn
        ui.label(f"Times in {describe_zone(page.timezone)}")


def _set_colours() -> None:
    ui.colors(
        primary=ACCENT,
        secondary="#566570",
        accent=ACCENT_DARK,
        dark="#162026",
        dark_page="#0e1519",
        positive="#237032",
        negative="#c92a2a",
        warning="#a85a00",
        info=ACCENT,
    )


def _draw_header(session: Session, dark: ui.dark_mode) -> ui.button:
    """Draw the bar on top; returns the button of the menu on narrow screens."""
    header = ui.header(fixed=True).classes("items-center q-py-none")
    with header.style("height:56px; padding:0 16px; gap:10px; flex-wrap:nowrap"):
        menu = ui.button(icon="menu").classes("lt-md")
        menu.props('flat round dense color=none aria-label="Show or hide the capabilities"')
        home = ui.link(target="/").classes("no-underline")
        with home.style("color:inherit; display:flex; align-items:center; gap:10px"):
            ui.html(LOGO, sanitize=False)
            ui.label("Shoal").style("font-size:17px; font-weight:680; letter-spacing:-.01em")
        ui.space()
        tenant = f'<span class="sh-tenant">{escape(session.name)}</span>'
        ui.html(tenant, sanitize=False).style("min-width:0")
        identity = session.role if session.user is None else f"{session.role} · {session.user}"
        draw_pill(identity).classes("gt-xs")
        ui.button(icon="contrast", on_click=lambda: _toggle_theme(dark)).props(
            'flat round dense color=none aria-label="Light or dark"'
        ).tooltip("Light or dark")
        ui.html(
            '<form method="post" action="/console/sign-out" style="margin:0">'
            '<button class="sh-signout" type="submit">Sign out</button></form>',
            sanitize=False,
        )
    return menu


def _draw_navigation(capabilities: Sequence[dict[str, Any]], current: str) -> ui.element:
    """Draw the list of capabilities.

    A drawer of Quasar's, which opens on wide screens and closes on narrow ones by
    itself. NiceGUI's own keeps its state on the server, whose late answer would open it
    again over a page that has become narrow.
    """
    client = ui.context.client
    client.layout.props('view="hHh Lpr fff"')  # Both stay in place; the bar is above the drawer.
    with client.layout:
        drawer = ui.element("q-drawer").classes("nicegui-drawer")
    drawer.move(target_index=client.layout.default_slot.children.index(client.page_container))
    drawer.props("show-if-above side=left width=232 breakpoint=900")
    drawer.style("padding:14px 12px; gap:2px")
    with drawer:
        _draw_link("/", "Overview", current == "", icon="grid_view")
        ui.html('<div class="sh-navhead">Capabilities</div>', sanitize=False)
        for capability in capabilities:
            name = capability["name"]
            style, words = describe_state(capability["status"])
            _draw_link(f"/{name}", name, current == name, dot=style, title=words)
    return drawer


def _draw_link(
    target: str, text: str, is_current: bool, *, icon: str = "", dot: str = "", title: str = ""
) -> None:
    with ui.link(target=target).classes(replace=f"sh-nav{' sh-here' if is_current else ''}"):
        if icon:
            ui.icon(icon, size="18px")
        ui.label(text)
        if dot:
            ui.html(
                f'<span class="sh-dot {dot}" title="{escape(title)}"></span>', sanitize=False
            ).style("margin-left:auto")


async def _toggle_theme(dark: ui.dark_mode) -> None:
    """Switch between light and dark, and remember it for a year."""
    dark.value = await ui.run_javascript("""(() => {
      const dark = !document.body.classList.contains("body--dark");
      const theme = dark ? "dark" : "light";
      document.cookie = `shoal_theme=${theme}; path=/; max-age=31536000; samesite=lax`;
      return dark;
    })()""")
