"""The console's own pages: the overview, and five tabs for each capability."""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from nicegui import ui

from shoal.client.http import AsyncClient
from shoal.contract.capability import Capability
from shoal.contract.errors import ShoalError, Unauthenticated
from shoal.contract.rights import Right

from .clients import ClientPool
from .events import draw_events
from .frame import describe_state, draw_empty, draw_error, draw_pill, frame
from .jobs import draw_jobs
from .operations import draw_operations
from .parameters import draw_parameters
from .session import COOKIE, Session, SessionCodec

log = logging.getLogger("shoal.console")

TABS = {"": "Page", "parameters": "Parameters", "jobs": "Jobs", "events": "Events", "api": "API"}
DRAW_TIMEOUT = 30.0
"""Seconds that drawing a page may take."""


@dataclass(slots=True)
class Page:
    """The `PageContext` of a capability's page."""

    client: AsyncClient
    tenant: str
    rights: Sequence[Right]

    def may(self, right: Right) -> bool:
        return right in self.rights


class Pages:
    """All pages, registered with NiceGUI below the path that it is mounted at."""

    def __init__(
        self,
        capabilities: Mapping[str, Capability],
        *,
        sessions: SessionCodec,
        clients: ClientPool,
    ) -> None:
        self._capabilities, self._sessions, self._clients = capabilities, sessions, clients

    def register(self) -> None:
        """Register the pages. Once per process."""

        # Functions, because NiceGUI reads their signature, and a method has `self`.
        async def overview(request: Request) -> Response | None:
            return await self._draw(request, "", None)

        async def capability(request: Request, name: str, tab: str = "") -> Response | None:
            return await self._draw(request, name, tab)

        for path, draw in (
            ("/", overview),
            ("/{name}", capability),
            ("/{name}/{tab}", capability),
        ):
            ui.page(path, title="Shoal", response_timeout=DRAW_TIMEOUT)(draw)

    async def _draw(self, request: Request, name: str, tab: str | None) -> Response | None:
        """Draw a tab of a capability, or the overview for a tab of None."""
        session = self._sessions.decode(request.cookies.get(COOKIE))
        if session is None:
            return _redirect_to_sign_in(request)
        client = await self._clients.get(session)
        listed: dict[str, Any] = {"capabilities": [], "problems": []}
        error: ShoalError | None = None
        try:
            listed = await client.platform.list_capabilities()
        except Unauthenticated:
            return _redirect_to_sign_in(request)
        except ShoalError as fault:
            error = fault
        ui.context.client.on_exception(_notify_error)
        theme = request.cookies.get("shoal_theme")
        with frame(session, listed["capabilities"], current=name, theme=theme):
            if error:
                draw_error(error)
            elif tab is None:
                draw_overview(listed)
            else:
                await self._draw_tab(session, client, listed, name, tab)
        return None

    async def _draw_tab(
        self, session: Session, client: AsyncClient, listed: dict[str, Any], name: str, tab: str
    ) -> None:
        capability = next((c for c in listed["capabilities"] if c["name"] == name), None)
        if capability is None or tab not in TABS:
            ui.page_title("Not found · Shoal")
            draw_empty("This page does not exist.")
            return
        ui.page_title(f"{name} · Shoal")
        draw_heading(capability)
        plugin = self._capabilities.get(name)
        tabs = available_tabs(capability)
        if not tab and "" not in tabs:
            tab = tabs[0]
        draw_tab_bar(name, tabs, tab)
        with draw_errors_of(name):
            if tab == "parameters":
                await draw_parameters(client, capability, editable=session.may("write:tenant"))
            elif tab == "jobs":
                await draw_jobs(client, capability, editable=session.may("write:tenant"))
            elif tab == "events":
                await draw_events(client, capability)
            elif tab == "api":
                await draw_operations(client, name)
            elif plugin is not None and plugin.page is not None:
                drawn = plugin.page(Page(client, session.tenant, session.rights))
                if inspect.isawaitable(drawn):
                    await drawn

    @staticmethod
    def draw_page_error(error: Exception) -> None:
        """Draw NiceGUI's error page, without the frame, which may be what failed."""
        log.error("drawing a page failed", exc_info=error)
        draw_error(error)


@contextmanager
def draw_errors_of(capability: str) -> Iterator[None]:
    """Draw an exception in place of the rest of a capability's page."""
    try:
        yield
    except Exception as error:  # a broken plugin must not break the console
        if not isinstance(error, ShoalError):
            log.exception("drawing the page of %s failed", capability)
        draw_error(error)


def _redirect_to_sign_in(request: Request) -> Response:
    after = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/console/sign-in?after={quote(after)}", 303)


def _notify_error(error: Exception) -> None:
    """Show an exception that an event handler did not catch."""
    if isinstance(error, ShoalError):
        ui.notify(error.detail, type="negative", multi_line=True)
    else:
        log.error("an event handler failed", exc_info=error)
        ui.notify("Something went wrong. The cause is in the console's log.", type="negative")


def available_tabs(capability: dict[str, Any]) -> list[str]:
    """The tabs that have something to show."""
    content = {
        "": capability["page"],
        "parameters": capability["parameters"],
        "jobs": capability["jobs"],
        "events": capability["streams"],
        "api": True,
    }
    return [tab for tab in TABS if content[tab]]


def draw_tab_bar(name: str, tabs: list[str], current: str) -> None:
    with ui.element("nav").classes("sh-tabs"):
        for tab in tabs:
            label = TABS[tab] if tab else name.capitalize()
            here = " sh-here" if tab == current else ""
            ui.link(label, f"/{name}/{tab}".rstrip("/")).classes(replace=f"sh-tab{here}")


def draw_heading(capability: dict[str, Any]) -> None:
    style, words = describe_state(capability["status"])
    with ui.row().classes("items-center no-wrap").style("gap:14px"):
        ui.label(capability["name"][0]).classes("sh-tile")
        with ui.column().style("gap:0"):
            with ui.row().classes("items-center").style("gap:10px"):
                ui.label(capability["name"].capitalize()).classes("sh-h1")
                draw_pill(words, style)
            ui.label(capability["summary"]).classes("sh-muted")
    if capability["message"] and capability["status"] != "RUNNING":
        message = ui.label(capability["message"]).classes("sh-card sh-mono w-full")
        message.style("white-space:pre-wrap; overflow-x:auto; max-height:240px")


def draw_overview(listed: dict[str, Any]) -> None:
    """Draw every capability with its state, and the plugins that failed to load."""
    ui.page_title("Overview · Shoal")
    capabilities, problems = listed["capabilities"], listed["problems"]
    running = sum(c["status"] == "RUNNING" for c in capabilities)
    with ui.column().style("gap:2px"):
        ui.label("Overview").classes("sh-h1")
        text = f"{running} of {len(capabilities)} capabilities are running."
        ui.label(text).classes("sh-muted")
    with ui.element("div").classes("sh-grid"):
        for capability in capabilities:
            _draw_card(capability)
    if problems:
        ui.label("Failed to load").classes("sh-h2").style("margin-top:12px")
        card = ui.element("div").classes("sh-card w-full")
        with card.style("display:flex; flex-direction:column"):
            for problem in problems:
                with ui.row().classes("items-center no-wrap w-full").style("gap:12px"):
                    draw_pill(problem["plugin"], "sh-bad")
                    cause = ui.label(problem["cause"]).classes("sh-mono sh-muted")
                    cause.style("overflow-wrap:anywhere")


def _draw_card(capability: dict[str, Any]) -> None:
    name = capability["name"]
    style, words = describe_state(capability["status"])
    with ui.element("article").classes("sh-card").style("display:flex; flex-direction:column"):
        with ui.row().classes("items-center no-wrap w-full").style("gap:12px"):
            ui.label(name[0]).classes("sh-tile")
            with ui.column().style("gap:0"):
                link = ui.link(name.capitalize(), f"/{name}").classes(replace="sh-h2")
                link.style("color:inherit; text-decoration:none")
                state = ui.row().classes("items-center")
                with state.style("gap:7px; font-size:13px; color:var(--sh-muted)"):
                    ui.element("span").classes(f"sh-dot {style}")
                    ui.label(f"{words} · {capability['version']}")
        ui.label(capability["summary"]).classes("sh-muted").style("flex:1")
        with ui.row().style("gap:16px; font-size:14px"):
            for tab in available_tabs(capability):
                label = TABS[tab] if tab else "Open"
                ui.link(label, f"/{name}/{tab}".rstrip("/")).classes(replace="sh-link")
