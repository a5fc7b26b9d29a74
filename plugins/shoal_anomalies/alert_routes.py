"""Operations on alerts, and on the deliveries of their notices."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal

import orjson
from fastapi import APIRouter, Depends

from shoal import (
    Conflict,
    Cursor,
    Identifier,
    NotFound,
    TenantContext,
    read_cursor,
    requires,
    write_cursor,
)

from . import bodies, keys
from .alert_manager import AlertManager
from .alert_state import MAX_ATTEMPTS, commit, read_alert_state
from .alerts import Alert
from .notifier import Notifier
from .route_arguments import Limit
from .timestamps import to_rfc3339

MAX_HISTORY = 10_000
"""Alerts of the history that are listed."""

router = APIRouter()


@cache
def _notifier() -> Notifier:
    return Notifier()


@router.get("/alerts", responses={200: {"model": bodies.Alerts}})
async def list_alerts(
    state: Literal["open", "acknowledged", "resolved"] | None = None,
    priority: Literal["P1", "P2", "P3"] | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """List alerts, newest first.

    Those resolved more than two hours ago come from the history (90 days, and the
    latest 10,000).
    """
    skip = read_cursor("anomalies.alerts", cursor, int) or 0
    alerts = list((await read_alert_state(ctx)).manager.alerts.values())
    if state in (None, "resolved"):
        history = await ctx.stores.online.zrevrange(keys.ALERT_HISTORY, 0, MAX_HISTORY - 1)
        alerts += [Alert.from_dict(orjson.loads(alert)) for alert in history]
    matching = [
        alert
        for alert in alerts
        if state in (None, alert.state) and priority in (None, alert.priority)
    ]
    matching.sort(key=lambda alert: (alert.opened, alert.id), reverse=True)
    return {
        "alerts": [alert.to_response() for alert in matching[skip : skip + limit]],
        "cursor": write_cursor("anomalies.alerts", skip + limit)
        if len(matching) > skip + limit
        else None,
    }


@router.post("/alerts/{id}/acknowledge", responses={200: {"model": bodies.Alert}, 409: {}})
async def acknowledge_alert(
    id: Identifier, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Acknowledge an alert: reminders and escalation stop.

    Conflict if it is already resolved.
    """

    def acknowledge(manager: AlertManager) -> None:
        if not manager.acknowledge(id, ctx.user, datetime.now(UTC)):
            raise Conflict("the alert is already resolved")

    return await _change_alert(ctx, id, acknowledge)


@router.post("/alerts/{id}/resolve", responses={200: {"model": bodies.Alert}, 409: {}})
async def resolve_alert(
    id: Identifier, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Resolve an alert by hand; it opens again if its rule is still met."""
    return await _change_alert(ctx, id, lambda manager: manager.resolve(id, datetime.now(UTC)))


async def _change_alert(
    ctx: TenantContext, id: str, change: Callable[[AlertManager], None]
) -> dict[str, Any]:
    """Change an alert, again if other processes changed the alerts meanwhile."""
    for _ in range(MAX_ATTEMPTS):
        state = await read_alert_state(ctx)
        alert = state.manager.alerts.get(id)
        if alert is None:
            raise NotFound(f"no alert {id!r}, or it was resolved hours ago")
        change(state.manager)
        if await commit(ctx, state):
            _notifier().schedule_delivery(ctx)
            return alert.to_response()
    raise Conflict("the alerts keep changing; try again")


@router.get("/deliveries", responses={200: {"model": bodies.Deliveries}})
async def list_deliveries(
    limit: Limit = 100, ctx: TenantContext = Depends(requires("read:tenant"))
) -> dict[str, Any]:
    """List the latest delivery attempts, newest first, and count pending notices."""
    pipe = ctx.stores.online.pipeline()
    pipe.lrange(keys.DELIVERIES, 0, limit - 1).hlen(keys.OUTBOX)
    stored, waiting = await pipe.execute()
    deliveries = [orjson.loads(text) for text in stored]
    return {
        "deliveries": [{**d, "time": to_rfc3339(d["time"])} for d in deliveries],
        "waiting": waiting,
    }
