"""A tenant's alerts and rules, read and written together.

A batch of points is written in one step with the alerts that follow from it, so after a
crash it is either done or was never begun.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from shoal import TenantContext

from . import keys
from .alert_manager import AlertManager
from .alerts import Alert
from .maintenance import MaintenanceWindow
from .messages import build_message
from .rules import Rule
from .settings import AnomalySettings
from .stored_rules import load_alerts, load_rules, load_windows

MAX_ATTEMPTS = 20  # to write while other processes do

# Write a batch, unless the alerts have changed since they were read.
#
# KEYS  1 alert state (hash), 2 outbox (hash), 3 keys of sent notices (sorted set),
#       4 anomalies (sorted set), 5 unarchived points (list), 6 series (hash),
#       7 detector states (hash), 8 alert history (sorted set), 9 readings (hash),
#       10… the recent points (strings), one per series with new points
# ARGV  1 the version that was read, 2 the new alerts or "" if unchanged,
#       then, each list preceded by its length: (notice key, message), (time, anomaly),
#       point, (series id, series), (series id, state), (time, alert),
#       (series id, readings); then the bytes to append, one per key from 10 on
# Returns 1, or 0 if the version differs.
COMMIT = """
local version = redis.call('hget', KEYS[1], 'version') or '0'
if version ~= ARGV[1] then return 0 end
local at = 3
if ARGV[2] ~= '' then redis.call('hset', KEYS[1], 'version', version + 1, 'alerts', ARGV[2]) end
local function take() at = at + 1 return ARGV[at - 1] end
for i = 1, take() do
  local notice, body = take(), take()
  if not redis.call('zscore', KEYS[3], notice) then redis.call('hsetnx', KEYS[2], notice, body) end
end
for i = 1, take() do local time = take() redis.call('zadd', KEYS[4], time, take()) end
for i = 1, take() do redis.call('rpush', KEYS[5], take()) end
for i = 1, take() do local id = take() redis.call('hset', KEYS[6], id, take()) end
for i = 1, take() do local id = take() redis.call('hset', KEYS[7], id, take()) end
for i = 1, take() do local time = take() redis.call('zadd', KEYS[8], time, take()) end
for i = 1, take() do local id = take() redis.call('hset', KEYS[9], id, take()) end
for i = 10, #KEYS do redis.call('append', KEYS[i], take()) end
return 1
"""
COMMIT_KEYS = (
    keys.ALERT_STATE,
    keys.OUTBOX,
    keys.SENT,
    keys.ANOMALIES,
    keys.UNARCHIVED,
    keys.SERIES,
    keys.STATES,
    keys.ALERT_HISTORY,
    keys.READINGS,
)


@dataclass(slots=True)
class AlertState:
    """A tenant's alerts, rules and maintenance windows as they were read.

    version: changes with every write of the alerts.
    stored: the alerts as they are stored, to tell whether they changed.
    due: when somebody may have to be told next, once the state is written; None if
        nothing is waited for.
    fitted_at: when the tenant's models were last fitted.
    """

    rules: dict[str, Rule]
    windows: dict[str, MaintenanceWindow]
    version: str
    manager: AlertManager
    stored: bytes
    due: float | None = None
    fitted_at: bytes | None = None


@dataclass(slots=True)
class BatchWrites:
    """What a batch of points writes besides the alerts.

    anomalies: (epoch seconds, JSON).
    unarchived: points for the long-term store.
    series, states, readings: what to store, by series id.
    recent_points: packed points to append, by series id.
    """

    anomalies: list[tuple[float, bytes]] = field(default_factory=list)
    unarchived: list[bytes] = field(default_factory=list)
    series: dict[str, bytes] = field(default_factory=dict)
    states: dict[str, bytes] = field(default_factory=dict)
    readings: dict[str, bytes] = field(default_factory=dict)
    recent_points: dict[str, bytes] = field(default_factory=dict)


async def read_alert_state(ctx: TenantContext) -> AlertState:
    """Read a tenant's alerts, rules and maintenance windows."""
    pipe = ctx.stores.online.pipeline()
    pipe.hgetall(keys.RULES).hgetall(keys.WINDOWS)
    pipe.hgetall(keys.ALERT_STATE).get(keys.FITTED_AT)
    rules, windows, record, fitted_at = await pipe.execute()
    alerts = record.get(b"alerts")
    return AlertState(
        rules=load_rules(rules),
        windows=load_windows(windows),
        version=record.get(b"version", b"0").decode(),
        manager=load_alerts(alerts),
        stored=alerts or b"",
        fitted_at=fitted_at,
    )


async def commit(
    ctx: TenantContext,
    state: AlertState,
    writes: BatchWrites | None = None,
    now: datetime | None = None,
) -> bool:
    """Write a batch, the alerts and the notices that are due, in one step.

    Args:
        ctx: The tenant.
        state: The alerts as they were read, changed by the batch.
        writes: The rest of the batch.
        now: The current time.

    Returns:
        False if the alerts have changed since they were read; then nothing is written.
    """
    writes, settings = writes or BatchWrites(), ctx.services.settings(AnomalySettings)
    alerts, notices, old_alerts = await asyncio.to_thread(
        _advance, ctx.tenant, state, now or datetime.now(UTC), settings.public_url
    )
    args: list[Any] = [state.version, b"" if alerts == state.stored else alerts]
    args += _counted(notices)
    args += _counted(writes.anomalies)
    args += _counted([(point,) for point in writes.unarchived])
    args += _counted(list(writes.series.items()))
    args += _counted(list(writes.states.items()))
    args += _counted([(alert.opened, orjson.dumps(asdict(alert))) for alert in old_alerts])
    args += _counted(list(writes.readings.items()))
    args += writes.recent_points.values()
    places = [*COMMIT_KEYS, *map(keys.recent_points, writes.recent_points)]
    return bool(await ctx.stores.online.eval(COMMIT, places, args))


def _advance(
    tenant: str, state: AlertState, now: datetime, url: str | None
) -> tuple[bytes, list[tuple[str, bytes]], list[Alert]]:
    """The alerts to store, the outbox's new entries, and alerts for the history."""
    manager = state.manager
    notices, state.due = manager.advance(now, state.rules, state.windows)
    entries = []
    for notice in notices:
        alert = manager.alerts[notice.alert]
        message = build_message(tenant, alert, notice, now.timestamp(), url)
        entry = {
            "channel": notice.channel,
            "alert": notice.alert,
            "number": notice.number,
            "attempts": 0,
            "due": 0,
            "message": asdict(message),
        }
        entries.append((notice.key, orjson.dumps(entry)))
    old_alerts = manager.remove_old(now)
    return orjson.dumps(manager.to_dict()), entries, old_alerts


def _counted(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The number of rows, then all their values."""
    return [len(rows), *(value for row in rows for value in row)]
