"""The console's own pages: the overview, and for each capability its page, parameters,
jobs and operations.
"""

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from nicegui import ui

from shoal.client.http import AsyncClient
from shoal.contract.capability import Capability
from shoal.contract.context import Role
from shoal.contract.errors import ShoalError, Unauthenticated

from .clients import Clients
from .frame import empty, failure, frame, pill, state_of
from .jobs import jobs
from .operations import operations
from .parameters import parameters
from .session import COOKIE, Seal, Session

log = logging.getLogger("shoal.console")
TABS = {"": "Page", "parameters": "Parameters", "jobs": "Jobs", "api": "API"}
PATIENCE = 30.0
"""Seconds that a page may take to be drawn."""


@dataclass(slots=True)
class Page:
    """The `PageContext` that a capability's page is given."""

    client: AsyncClient
    tenant: str
    role: Role


class Pages:
    """All pages, registered with NiceGUI under the prefix that it is mounted at."""

    def __init__(
        self, capabilities: Mapping[str, Capability], *, seal: Seal, clients: Clients
    ) -> None:
        self._capabilities, self._seal, self._clients = capabilities, seal, clients

    def register(self) -> None:
        ui.page("/", title="Shoal", response_timeout=PATIENCE)(self._home())
        ui.page("/{name}", title="Shoal", response_timeout=PATIENCE)(self._capability())
        ui.page("/{name}/{tab}", title="Shoal", response_timeout=PATIENCE)(self._capability())

    def _home(self) -> Any:
        async def home(request: Request) -> Response | None:
            return await self._draw(request, "", None)

        return home

    def _capability(self) -> Any:
        async def capability(request: Request, name: str, tab: str = "") -> Response | None:
            return await self._draw(request, name, tab)

        return capability

    async def _draw(self, request: Request, name: str, tab: str | None) -> Response | None:
        session = self._seal.open(request.cookies.get(COOKIE))
        if session is None:
            return _to_sign_in(request)
        client = await self._clients.get(session)
        known: dict[str, Any] = {"capabilities": [], "problems": []}
        error: ShoalError | None = None
        try:
            known = await client.platform.list_capabilities()
        except Unauthenticated:
            return _to_sign_in(request)
        except ShoalError as fault:
            error = fault
        ui.context.client.on_exception(_notify)
        with frame(
            session, known["capabilities"], here=name, theme=request.cookies.get("shoal_theme")
        ):
            if error:
                failure(error)
            elif tab is None:
                home(known)
            else:
                await self._show(session, client, known, name, tab)
        return None

    async def _show(
        self, session: Session, client: AsyncClient, known: dict[str, Any], name: str, tab: str
    ) -> None:
        capability = next((c for c in known["capabilities"] if c["name"] == name), None)
        if capability is None or tab not in TABS:
            ui.page_title("Not found · Shoal")
            empty("There is no such page.")
            return
        ui.page_title(f"{name} · Shoal")
        heading(capability)
        plugin = self._capabilities.get(name)
        tabs = tabs_of(capability)
        if not tab and "" not in tabs:
            tab = tabs[0]
        tab_bar(name, tabs, tab)
        with guarded(name):
            if tab == "parameters":
                await parameters(client, capability, editable=session.role != "reader")
            elif tab == "jobs":
                await jobs(client, capability, editable=session.role != "reader")
            elif tab == "api":
                await operations(client, name)
            elif plugin is not None and plugin.page is not None:
                drawn = plugin.page(Page(client, session.tenant, session.role))
                if inspect.isawaitable(drawn):
                    await drawn

    @staticmethod
    def broken(error: Exception) -> None:
        """NiceGUI's own error page, in our words. Drawn without the frame: what failed
        may be the frame.
        """
        log.error("a page failed", exc_info=error)
        failure(error)


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Shows what went wrong in place of the rest, so that a broken plugin leaves the
    console standing.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, ShoalError):
            log.exception("the page of %s failed", what)
        failure(error)


def _to_sign_in(request: Request) -> Response:
    after = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/console/sign-in?after={quote(after)}", 303)


def _notify(error: Exception) -> None:
    """What an event handler did not catch."""
    if isinstance(error, ShoalError):
        ui.notify(error.detail, type="negative", multi_line=True)
    else:
        log.error("a handler failed", exc_info=error)
        ui.notify("Something went wrong; the cause is in the console's log.", type="negative")


def tabs_of(capability: dict[str, Any]) -> list[str]:
    """The tabs that have something to show."""
    has = {
        "": capability["page"],
        "parameters": capability["parameters"],
        "jobs": capability["jobs"],
        "api": True,
    }
    return [tab for tab in TABS if has[tab]]


def tab_bar(name: str, tabs: list[str], here: str) -> None:
    with ui.element("nav").classes("sh-tabs"):
        for tab in tabs:
            label = TABS[tab] if tab else name.capitalize()
            ui.link(label, f"/{name}/{tab}".rstrip("/")).classes(
                replace=f"sh-tab{' sh-here' if tab == here else ''}"
            )


def heading(capability: dict[str, Any]) -> None:
    with ui.row().classes("items-center no-wrap").style("gap:14px"):
        ui.label(capability["name"][0]).classes("sh-tile")
        with ui.column().style("gap:0"):
            with ui.row().classes("items-center").style("gap:10px"):
                ui.label(capability["name"].capitalize()).classes("sh-h1")
                style, words = state_of(capability["status"])
                pill(words, style)
            ui.label(capability["summary"]).classes("sh-muted")
    if capability["message"] and capability["status"] != "RUNNING":
        ui.label(capability["message"]).classes("sh-card sh-mono w-full").style(
            "white-space:pre-wrap; overflow-x:auto; max-height:240px"
        )


def home(known: dict[str, Any]) -> None:
    """Every capability with its state, and the plugins that were left out."""
    ui.page_title("Overview · Shoal")
    running = sum(c["status"] == "RUNNING" for c in known["capabilities"])
    with ui.column().style("gap:2px"):
        ui.label("Overview").classes("sh-h1")
        ui.label(f"{running} of {len(known['capabilities'])} capabilities are running.").classes(
            "sh-muted"
        )
    with ui.element("div").classes("sh-grid"):
        for capability in known["capabilities"]:
            card(capability)
    if known["problems"]:
        ui.label("Left out").classes("sh-h2").style("margin-top:12px")
        with (
            ui.element("div").classes("sh-card w-full").style("display:flex; flex-direction:column")
        ):
            for problem in known["problems"]:
                with ui.row().classes("items-center no-wrap w-full").style("gap:12px"):
                    pill(problem["plugin"], "sh-bad")
                    ui.label(problem["cause"]).classes("sh-mono sh-muted").style(
                        "overflow-wrap:anywhere"
                    )


def card(capability: dict[str, Any]) -> None:
    name = capability["name"]
    style, words = state_of(capability["status"])
    with ui.element("article").classes("sh-card").style("display:flex; flex-direction:column"):
        with ui.row().classes("items-center no-wrap w-full").style("gap:12px"):
            ui.label(name[0]).classes("sh-tile")
            with ui.column().style("gap:0"):
                ui.link(name.capitalize(), f"/{name}").classes(replace="sh-h2").style(
                    "color:inherit; text-decoration:none"
                )
                with (
                    ui.row()
                    .classes("items-center")
                    .style("gap:7px; font-size:13px; color:var(--sh-muted)")
                ):
                    ui.element("span").classes(f"sh-dot {style}")
                    ui.label(f"{words} · {capability['version']}")
        ui.label(capability["summary"]).classes("sh-muted").style("flex:1")
        with ui.row().style("gap:16px; font-size:14px"):
            for tab in tabs_of(capability):
                ui.link(TABS[tab] if tab else "Open", f"/{name}/{tab}".rstrip("/")).classes(
                    replace="sh-link"
                )
