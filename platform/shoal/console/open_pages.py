"""The pages that are open: each ends with its session, and shows what changed."""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from urllib.parse import quote

from nicegui import Client, ui

from shoal.client.http import AsyncClient
from shoal.contract.errors import Forbidden, ShoalError, Unauthenticated
from shoal.contract.rights import MEANINGS, Right

from .changes import ChangeMarks, Marks
from .dialogs import ask
from .elements import draw_heading
from .messages import describe_error
from .reader_times import format_time
from .session import Session

log = logging.getLogger("shoal.console")

LOOK_SECONDS = 0.5
"""How often the marks of the tenants with open pages are read."""
RECHECK_SECONDS = 1.0
"""After which a session is checked again: a replica may have learned of it later."""
REPEAT_SECONDS = 3.0
"""After a change, a page is refreshed at once and again after this time, since streams
handle an event some time after it is appended."""
IDLE_SECONDS = 30.0
"""How often a page is refreshed when nothing changes but time."""
HEAD_START_SECONDS = 1
"""How long the page that signed out has before all pages are sent away."""
CLOSE_SECONDS = 0.3
"""How long the browser has to learn where a page goes that ends."""

Refresh = Callable[[], Awaitable[None] | None]


class OpenPage:
    """The `PageContext` of a page, for as long as it is open.

    Args:
        session: Who it is drawn for.
        client: Acts for the session.
        browser: NiceGUI's client.
        path: The page's address, below `/console`.
        query: The parameters of its address.
        timezone: The reader's.
    """

    def __init__(
        self,
        session: Session,
        client: AsyncClient,
        browser: Client,
        *,
        path: str,
        query: Mapping[str, str],
        timezone: tzinfo,
    ) -> None:
        self.session, self.client, self.browser = session, client, browser
        self.path, self.query, self.timezone = path, query, timezone
        self.status: ui.element | None = None
        self.changed = asyncio.Event()
        self._refreshes: list[Refresh] = []
        self._follower: asyncio.Task[None] | None = None

    @property
    def tenant(self) -> str:
        return self.session.tenant

    @property
    def rights(self) -> Sequence[Right]:
        return self.session.rights

    def may(self, right: Right) -> bool:
        return self.session.may(right)

    def format_time(self, time: str | datetime | None) -> str:
        return format_time(time, self.timezone)

    def require(self, right: Right) -> None:
        if not self.may(right):
            raise Forbidden(
                f"This page needs a key that may {MEANINGS[right]} ({right}); yours may not. "
                "An admin of your tenant can give you one."
            )

    def notify_error(self, error: ShoalError) -> None:
        ui.notify(describe_error(error), type="negative", multi_line=True, timeout=8000)

    def heading(self, text: str, level: int = 2) -> ui.label:
        return draw_heading(text, level)

    async def ask(self, question: str, explanation: str, action: str) -> bool:
        return await ask(question, explanation, action)

    def on_change(self, refresh: Refresh) -> None:
        self._refreshes.append(refresh)
        if self.status is not None:
            self.status.props("data-shoal-follows=yes")
        if self._follower is None:
            self._follower = asyncio.create_task(self._follow())

    def close(self) -> None:
        """Stop refreshing."""
        if self._follower is not None:
            self._follower.cancel()

    async def _follow(self) -> None:
        repeats = False
        while True:
            try:
                await asyncio.wait_for(
                    self.changed.wait(), REPEAT_SECONDS if repeats else IDLE_SECONDS
                )
            except TimeoutError:
                repeats = False
            else:
                repeats = True
            self.changed.clear()
            await self._refresh()
            if repeats:
                await asyncio.sleep(RECHECK_SECONDS)

    async def _refresh(self) -> None:
        fault = ""
        with self.browser:
            for refresh in self._refreshes:
                try:
                    done = refresh()
                    if inspect.isawaitable(done):
                        await done
                except ShoalError as error:
                    fault = f"This page cannot be updated: {describe_error(error)}"
                except Exception:  # of a plugin: the page must go on telling its age
                    log.exception("refreshing %s failed", self.path)
                    fault = "This page cannot be updated."
            if self.status is not None:
                if not fault:
                    self.status.props(f"data-shoal-stamp={time.time_ns()}")
                self.status.props["data-shoal-fault"] = fault
                self.status.update()


class OpenPages:
    """All open pages of this process.

    Args:
        marks: Tells what changed.
        identify: Asks the platform who a session is now; raises `Unauthenticated` or
            `Forbidden` where it ended.
    """

    def __init__(
        self, marks: ChangeMarks, identify: Callable[[Session], Awaitable[Session]]
    ) -> None:
        self._marks, self._identify = marks, identify
        self._pages: dict[str, OpenPage] = {}
        self._ended: dict[str, float] = {}
        self._seen: dict[str, Marks] = {}
        self._rechecks: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, page: OpenPage) -> None:
        """Follow a page until its browser leaves it."""
        id = page.browser.id
        self._pages[id] = page

        def remove() -> None:
            page.close()
            self._pages.pop(id, None)

        page.browser.on_delete(remove)

    def has_ended(self, session: Session) -> bool:
        """Whether the session was signed out of, although its cookie is still good."""
        return session.id in self._ended

    def end(self, session: Session, reason: str) -> None:
        """End a session: its cookie and all its pages, which go to the sign-in form."""
        now = time.time()
        self._ended = {id: until for id, until in self._ended.items() if until > now}
        self._ended[session.id] = session.expires
        for page in [p for p in self._pages.values() if p.session.id == session.id]:
            self._start(self._close(page, reason))

    async def _close(self, page: OpenPage, reason: str) -> None:
        page.close()
        if reason == "signed-out":  # the page that asked is on its way to the form already
            await asyncio.sleep(HEAD_START_SECONDS)
        after = quote(f"/console{page.path}")
        page.browser.open(f"/sign-in?because={reason}&after={after}")
        await asyncio.sleep(CLOSE_SECONDS)
        if not page.browser.is_deleted:
            page.browser.delete()  # with all its handlers: nothing can be done with it

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Look for changes until cancelled; then no page is refreshed any more."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                if self._pages:
                    await self._look_safely()
        finally:
            for page in self._pages.values():
                page.close()

    async def _look_safely(self) -> None:
        try:
            await self._look()
        except ShoalError as error:
            log.warning("looking for changes: %s", error)
        except Exception:  # it must not end the loop
            log.exception("looking for changes failed")

    async def _look(self) -> None:
        now = time.time()
        for session in {p.session.id: p.session for p in self._pages.values()}.values():
            if session.expires <= now:
                self.end(session, "expired")
        tenants = {page.tenant for page in self._pages.values()}
        marks = await self._marks.read(tenants)
        due = {tenant for tenant, at in self._rechecks.items() if at <= now}
        for tenant, found in marks.items():
            before = self._seen.get(tenant, found)
            if before.access != found.access:
                due.add(tenant)
                self._rechecks[tenant] = now + RECHECK_SECONDS
            elif tenant in due:
                del self._rechecks[tenant]
            if before != found:
                for page in self._pages.values():
                    if page.tenant == tenant:
                        page.changed.set()
        self._seen = marks
        self._rechecks = {t: at for t, at in self._rechecks.items() if t in tenants}
        for session in {p.session.id: p.session for p in self._pages.values()}.values():
            if session.tenant in due:
                self._start(self._check(session))

    async def _check(self, session: Session) -> None:
        """End a session that the platform refuses; redraw it with other rights."""
        try:
            current = await self._identify(session)
        except (Unauthenticated, Forbidden):
            self.end(session, "revoked")
            return
        except ShoalError as error:
            log.warning("checking a session: %s", error)
            return
        if set(current.rights) != set(session.rights):
            for page in self._pages.values():
                if page.session.id == session.id:
                    page.browser.open(page.path)
