"""Alerts go on without new points: waiting notices, reminders and escalations."""

import asyncio
import logging
import time
from datetime import UTC, datetime

from shoal import ShoalError, TenantContext

from .alert_state import MAX_ATTEMPTS, commit, read_alert_state
from .alerts import Alert
from .notifier import Notifier

log = logging.getLogger("shoal.anomalies")

MIN_SLEEP, MAX_SLEEP = 0.2, 60.0  # seconds
RETRY_LATER = 5.0  # seconds, while storage is unavailable


class AlertClock:
    """Advances tenants' alerts when something is due.

    There is one task per tenant, which ends when nothing is waited for. Processes that
    follow the same tenant each have one; the alerts' version lets one of them write.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._due: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}

    def schedule(self, ctx: TenantContext, due: float | None) -> None:
        """Advance a tenant's alerts at `due` (epoch seconds); return at once."""
        task = self._tasks.get(ctx.tenant)
        if due is None:
            self._due.pop(ctx.tenant, None)
            return
        self._due[ctx.tenant] = due
        if task is None or task.done():
            self._wake[ctx.tenant] = asyncio.Event()
            self._tasks[ctx.tenant] = asyncio.create_task(self._run(ctx))
        else:
            self._wake[ctx.tenant].set()

    async def _run(self, ctx: TenantContext) -> None:
        wake = self._wake[ctx.tenant]
        while (due := self._due.get(ctx.tenant)) is not None:
            wake.clear()
            try:
                delay = min(max(due - time.time(), MIN_SLEEP), MAX_SLEEP)
                await asyncio.wait_for(wake.wait(), delay)
                continue  # another time was set
            except TimeoutError:
                pass
            try:
                _, due = await advance_alerts(ctx)
            except ShoalError as error:
                log.warning("alerts of %s cannot be advanced now: %s", ctx.tenant, error.detail)
                due = time.time() + RETRY_LATER
            self._notifier.schedule_delivery(ctx)
            if due is None:
                self._due.pop(ctx.tenant, None)
            else:
                self._due[ctx.tenant] = due


async def advance_alerts(
    ctx: TenantContext, now: datetime | None = None
) -> tuple[list[Alert], float | None]:
    """Put notices that are due by now into the outbox.

    Returns:
        The open alerts, and when something may be due next.
    """
    for _ in range(MAX_ATTEMPTS):
        state = await read_alert_state(ctx)
        if await commit(ctx, state, now=now or datetime.now(UTC)):
            break
    return state.manager.open_alerts(), state.due
