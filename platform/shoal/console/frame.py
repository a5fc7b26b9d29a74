"""What surrounds every console page: the bar on top, the list of capabilities on the
side, and how errors are shown.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from nicegui import ui

from shoal.contract.errors import ShoalError

from .session import Session
from .theme import ACCENT, ACCENT_DARK, CONSOLE, LOGO

STATES = {
    "RUNNING": ("sh-good", "running"),
    "DEPLOYING": ("sh-warn", "deploying"),
    "UNHEALTHY": ("sh-bad", "unhealthy"),
    "DEPLOY_FAILED": ("sh-bad", "failed to deploy"),
    "DELETING": ("sh-warn", "going away"),
    "NOT_STARTED": ("sh-off", "not started"),
    "NOT_DEPLOYED": ("sh-off", "not deployed"),
}
"""Serve's application states: CSS class and words."""


def state_of(status: str) -> tuple[str, str]:
    return STATES.get(status, ("sh-warn", status.lower().replace("_", " ")))


def pill(text: str, style: str = "") -> ui.html:
    """A small label with a dot of its state."""
    dot = f'<span class="sh-dot {style}"></span>' if style else ""
    return ui.html(f'<span class="sh-pill {style}">{dot}{escape(text)}</span>', sanitize=False)


@contextmanager
def frame(
    session: Session, capabilities: Sequence[dict[str, Any]], *, here: str, theme: str | None
) -> Iterator[None]:
    """The page around its content. `capabilities` as the platform lists them; `here` is
    the name of the current one.
    """
    ui.add_css(CONSOLE)
    ui.colors(
        primary=ACCENT,
        secondary="#566570",
        accent=ACCENT_DARK,
        dark="#162026",
        dark_page="#0e1519",
        positive="#2b8a3e",
        negative="#c92a2a",
        warning="#a85a00",
        info=ACCENT,
    )
    dark = ui.dark_mode({"dark": True, "light": False}.get(theme or ""))
    with (
        ui.header(fixed=True)
        .classes("items-center q-py-none")
        .style("height:56px; padding:0 16px; gap:10px; flex-wrap:nowrap")
    ):
        menu = (
            ui.button(icon="menu")
            .props('flat round dense color=none aria-label="Show or hide the capabilities"')
            .classes("lt-md")
        )
        with (
            ui.link(target="/")
            .classes("no-underline")
            .style("color:inherit; display:flex; align-items:center; gap:10px")
        ):
            ui.html(LOGO, sanitize=False)
            ui.label("Shoal").style("font-size:17px; font-weight:680; letter-spacing:-.01em")
        ui.space()
        who = session.role if session.user is None else f"{session.role} · {session.user}"
        ui.html(f'<span class="sh-tenant">{escape(session.name)}</span>', sanitize=False).style(
            "min-width:0"
        )
        pill(who).classes("gt-xs")
        ui.button(icon="contrast", on_click=lambda: _toggle(dark)).props(
            'flat round dense color=none aria-label="Light or dark"'
        ).tooltip("Light or dark")
        ui.html(
            '<form method="post" action="/console/sign-out" style="margin:0"><button class="sh-signout" type="submit">Sign out</button></form>',
            sanitize=False,
        )
    # open on wide screens by Quasar's own property: for value=None NiceGUI would ask
    # each page, and log who left before answering
    with (
        ui.left_drawer(value=False, fixed=True)
        .props("show-if-above width=232 breakpoint=900")
        .style("padding:14px 12px; gap:2px") as drawer
    ):
        _nav("/", "Overview", here == "", icon="grid_view")
        ui.html('<div class="sh-navhead">Capabilities</div>', sanitize=False)
        for capability in capabilities:
            name = capability["name"]
            style, words = state_of(capability["status"])
            _nav(f"/{name}", name, here == name, dot=style, title=words)
    menu.on_click(drawer.toggle)
    yield


def _nav(
    target: str, text: str, here: bool, *, icon: str = "", dot: str = "", title: str = ""
) -> None:
    with ui.link(target=target).classes(replace=f"sh-nav{' sh-here' if here else ''}"):
        if icon:
            ui.icon(icon, size="18px")
        ui.label(text)
        if dot:
            ui.html(
                f'<span class="sh-dot {dot}" title="{escape(title)}"></span>', sanitize=False
            ).style("margin-left:auto")


async def _toggle(dark: ui.dark_mode) -> None:
    """Turn the theme over and remember it for a year."""
    dark.value = await ui.run_javascript("""(() => { const dark = !document.body.classList.contains("body--dark");
      document.cookie = `shoal_theme=${dark ? "dark" : "light"}; path=/; max-age=31536000; samesite=lax`; return dark; })()""")


def failure(error: Exception) -> None:
    """Shown in place of what could not be drawn."""
    title, detail, request_id = (
        "Something went wrong on this page",
        "The cause is in the console's log.",
        None,
    )
    if isinstance(error, ShoalError):
        title, detail, request_id = error.title, error.detail, error.request_id
    with (
        ui.element("div")
        .classes("sh-card w-full")
        .props("role=alert")
        .style("border-color:color-mix(in srgb, var(--sh-bad) 45%, transparent)")
    ):
        with ui.row().classes("items-center no-wrap").style("gap:10px"):
            ui.icon("error_outline", size="22px").style("color:var(--sh-bad)")
            ui.label(title).classes("sh-h2")
        ui.label(detail[:1].upper() + detail[1:]).classes("sh-muted").style(
            "white-space:pre-line; overflow-wrap:anywhere"
        )
        if request_id:
            ui.label(f"Request {request_id}").classes("sh-mono sh-muted")


def empty(text: str) -> None:
    """Shown where there is nothing yet."""
    ui.label(text).classes("sh-empty")
