"""The console's own pages: the overview, and five tabs for each capability."""

import asyncio
import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from nicegui import ui

from shoal.client.http import AsyncClient
from shoal.contract.capability import Capability
from shoal.contract.errors import Forbidden, ShoalError, Unauthenticated

from .attention import draw_attention
from .clients import ClientPool
from .elements import draw_empty, draw_error, draw_heading, draw_pill
from .events import draw_events
from .frame import describe_state, frame
from .jobs import draw_jobs
from .messages import describe_error
from .open_pages import OpenPage, OpenPages
from .operations import draw_operations
from .parameters import draw_parameters
from .reader_times import ZONE_COOKIE, reader_zone
from .session import COOKIE, Session, SessionCodec
from .sign_in import describe_session

log = logging.getLogger("shoal.console")

TABS = {"": "Page", "parameters": "Parameters", "jobs": "Jobs", "events": "Events", "api": "API"}
DRAW_TIMEOUT = 30.0
"""Seconds that drawing a page may take."""


class Pages:
    """All pages, registered with NiceGUI below the path that it is mounted at."""

    def __init__(
        self,
        capabilities: Mapping[str, Capability],
        *,
        sessions: SessionCodec,
        clients: ClientPool,
        pages: OpenPages,
    ) -> None:
        self._capabilities, self._sessions = capabilities, sessions
        self._clients, self._pages = clients, pages

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
        if session is None or self._pages.has_ended(session):
            return _redirect_to_sign_in(request)
        client = await self._clients.get(session)
        listed: dict[str, Any] = {"capabilities": [], "problems": []}
        error: ShoalError | None = None
        try:
            listed, session = await asyncio.gather(
                client.platform.list_capabilities(), refresh_session(client, session)
            )
        except (Unauthenticated, Forbidden):
            return _redirect_to_sign_in(request)
        except ShoalError as fault:
            error = fault
        browser = ui.context.client
        browser.on_exception(_notify_error)
        page = OpenPage(
            session,
            client,
            browser,
            path=_address(request),
            query=dict(request.query_params),
            timezone=reader_zone(request.cookies.get(ZONE_COOKIE)),
        )
        self._pages.add(page)
        theme = request.cookies.get("shoal_theme")
        with frame(page, listed["capabilities"], current=name, theme=theme):
            if error:
                draw_error(error)
            elif tab is None:
                await draw_overview(page, listed)
            else:
                await self._draw_tab(page, listed, name, tab)
        return None

    async def _draw_tab(self, page: OpenPage, listed: dict[str, Any], name: str, tab: str) -> None:
        capability = next((c for c in listed["capabilities"] if c["name"] == name), None)
        if capability is None or tab not in TABS:
            ui.page_title("Not found · Shoal")
            draw_heading("Not found", 1)
            draw_empty("This page does not exist.")
            return
        ui.page_title(f"{name} · Shoal")
        draw_title(capability)
        plugin = self._capabilities.get(name)
        tabs = available_tabs(capability, page)
        if not tab and "" not in tabs:
            tab = tabs[0]
        draw_tab_bar(name, tabs, tab)
        with draw_errors_of(name):
            if tab == "parameters":
                await draw_parameters(page, capability)
            elif tab == "jobs":
                await draw_jobs(page, capability)
            elif tab == "events":
                await draw_events(page, capability)
            elif tab == "api":
                await draw_operations(page.client, name)
            elif plugin is not None and plugin.page is not None:
                drawn = plugin.page(page)
                if inspect.isawaitable(drawn):
                    await drawn

    @staticmethod
    def draw_page_error(error: Exception) -> None:
        """Draw NiceGUI's error page, without the frame, which may be what failed."""
        log.error("drawing a page failed", exc_info=error)
        draw_error(error)


async def refresh_session(client: AsyncClient, session: Session) -> Session:
    """The session with the role and rights that its key has now."""
    current = await describe_session(client, session.key, session.user)
    return replace(session, name=current.name, role=current.role, rights=current.rights)


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
    return RedirectResponse(f"/console/sign-in?after={quote('/console' + _address(request))}", 303)


def _address(request: Request) -> str:
    """The page's address below `/console`, with its parameters."""
    query = f"?{request.url.query}" if request.url.query else ""
    return request.url.path.removeprefix("/console") + query


def _notify_error(error: Exception) -> None:
    """Show an exception that an event handler did not catch."""
    if isinstance(error, ShoalError):
        ui.notify(describe_error(error), type="negative", multi_line=True, timeout=8000)
    else:
        log.error("an event handler failed", exc_info=error)
        ui.notify("Something went wrong. The cause is in the console's log.", type="negative")


def available_tabs(capability: dict[str, Any], page: OpenPage) -> list[str]:
    """The tabs that have something to show to the page's reader."""
    of_tenant = page.may("read:tenant")
    content = {
        "": capability["page"],
        "parameters": capability["parameters"] and of_tenant,
        "jobs": capability["jobs"] and of_tenant,
        "events": capability["streams"] and of_tenant,
        "api": True,
    }
    return [tab for tab in TABS if content[tab]]


def draw_tab_bar(name: str, tabs: list[str], current: str) -> None:
    with ui.element("nav").classes("sh-tabs").props(f'aria-label="Parts of {name}"'):
        for tab in tabs:
            label = TABS[tab] if tab else name.capitalize()
            here = " sh-here" if tab == current else ""
            link = ui.link(label, f"/{name}/{tab}".rstrip("/")).classes(replace=f"sh-tab{here}")
            if here:
                link.props("aria-current=page")


def draw_title(capability: dict[str, Any]) -> None:
    """Draw the capability's name, state and summary."""
    style, words = describe_state(capability["status"])
    with ui.row().classes("items-center no-wrap").style("gap:14px"):
        ui.label(capability["name"][0]).classes("sh-tile").props("aria-hidden=true")
        with ui.column().style("gap:0; min-width:0"):
            with ui.row().classes("items-center").style("gap:10px"):
                draw_heading(capability["name"].capitalize(), 1)
                draw_pill(words, style)
            ui.label(capability["summary"]).classes("sh-muted")
    if capability["message"] and capability["status"] != "RUNNING":
        message = ui.label(capability["message"]).classes("sh-card sh-mono w-full")
        message.style("white-space:pre-wrap; overflow-x:auto; max-height:240px")


async def draw_overview(page: OpenPage, listed: dict[str, Any]) -> None:
    """Draw what needs someone, the capabilities, and plugins that failed to load."""
    ui.page_title("Overview · Shoal")
    capabilities, problems = listed["capabilities"], listed["problems"]
    running = sum(c["status"] == "RUNNING" for c in capabilities)
    with ui.column().style("gap:2px"):
        draw_heading("Overview", 1)
        text = f"{running} of {len(capabilities)} capabilities are running."
        ui.label(text).classes("sh-muted")
    with draw_errors_of("the overview"):
        await draw_attention(page, capabilities)
    draw_heading("Capabilities")
    with ui.element("div").classes("sh-grid"):
        for capability in capabilities:
            _draw_card(page, capability)
    if problems:
        draw_heading("Failed to load")
        card = ui.element("div").classes("sh-card w-full")
        with card.style("display:flex; flex-direction:column"):
            for problem in problems:
                with ui.row().classes("items-center no-wrap w-full").style("gap:12px"):
                    draw_pill(problem["plugin"], "sh-bad")
                    cause = ui.label(problem["cause"]).classes("sh-mono sh-muted")
                    cause.style("overflow-wrap:anywhere")


def _draw_card(page: OpenPage, capability: dict[str, Any]) -> None:
    name = capability["name"]
    style, words = describe_state(capability["status"])
    with ui.element("article").classes("sh-card").style("display:flex; flex-direction:column"):
        with ui.row().classes("items-center no-wrap w-full").style("gap:12px"):
            ui.label(name[0]).classes("sh-tile").props("aria-hidden=true")
            with ui.column().style("gap:0"):
                link = ui.link(name.capitalize(), f"/{name}").classes(replace="sh-h2")
                link.style("color:inherit; text-decoration:none")
                state = ui.row().classes("items-center")
                with state.style("gap:7px; font-size:13px; color:var(--sh-muted)"):
                    ui.element("span").classes(f"sh-dot {style}")
                    ui.label(f"{words} · {capability['version']}")
        ui.label(capability["summary"]).classes("sh-muted").style("flex:1")
        with ui.row().style("gap:16px; font-size:14px"):
            for tab in available_tabs(capability, page):
                label = TABS[tab] if tab else "Open"
                link = ui.link(label, f"/{name}/{tab}".rstrip("/")).classes(replace="sh-link")
                link.props(f'aria-label="{label} {name}"')
