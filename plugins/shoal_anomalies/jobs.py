"""Scheduled jobs: `fit` models, `keep` points for the long term, `learn` parameters."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from shoal import JobContext, TenantContext

from . import feedback, keys, model_fitting, recent_points, study
from .alert_clock import advance_alerts
from .alerts import Alert
from .archive import Row
from .multivariate import CombinationForest
from .notifier import Notifier
from .parameters import AnomalyParameters
from .points import RETENTION
from .recent_points import SeriesPoints
from .storage import open_archive
from .stored_series import load_all_series

log = logging.getLogger("shoal.anomalies")

ARCHIVE_BATCH = 50_000  # points
SERIES_BATCH = 500  # series
DAY = 86_400.0
MIN_VERDICTS = 5  # for a suggestion
MIN_GAIN = 1.0  # of the objective, for a suggestion

# Trim the recent points of a series, while points may be appended.
# KEYS  1 recent points (string)
# ARGV  1 bytes to keep at the end
TRIM = """
local packed = redis.call('get', KEYS[1])
if packed and #packed > tonumber(ARGV[1]) then
  redis.call('set', KEYS[1], string.sub(packed, -ARGV[1]))
end
return 1
"""


async def fit(job: JobContext) -> Mapping[str, Any]:
    """Fit every tenant's seasons and forests to up to 90 days.

    Arguments of the job: `method` (`stl` or `prophet`), `holidays` (a country's code,
    for Prophet).

    Returns:
        Counts of tenants, series, fitted, too_short, failed and forests.
    """
    method = job.arguments.get("method", "stl")
    holidays = job.arguments.get("holidays")
    if method not in ("stl", "prophet"):
        raise ValueError("method must be stl or prophet")
    result = {"tenants": 0, "series": 0, "fitted": 0, "too_short": 0, "failed": 0, "forests": 0}
    for number, ctx in enumerate(job.tenants):
        job.progress(number, len(job.tenants), ctx.tenant)
        await archive_new_points(ctx)
        history = await read_history(ctx)
        stored = await ctx.stores.online.hgetall(keys.SERIES)
        infos = load_all_series(stored)
        names = [name for name in history if name in infos]
        for first in range(0, len(names), SERIES_BATCH):
            done = number + first / max(len(names), 1)
            message = f"{ctx.tenant}: {first} of {len(names)} series"
            job.progress(done, len(job.tenants), message)
            rows = [
                {"series": n, "times": history[n].times, "values": history[n].values}
                for n in names[first : first + SERIES_BATCH]
            ]
            fitted = await asyncio.to_thread(model_fitting.fit_seasons, rows, method, holidays)
            models = {row["series"]: row["model"] for row in fitted if row["model"]}
            if models:
                await ctx.stores.online.hset(keys.SEASONS, mapping=models)
            result["fitted"] += len(models)
            for fault in ("too_short", "failed"):
                result[fault] += sum(row["fault"] == fault for row in fitted)
        forests = await asyncio.to_thread(model_fitting.fit_forests, history, infos)
        await store_forests(ctx, forests)
        await ctx.stores.online.set(keys.FITTED_AT, str(time.time()))
        result["tenants"] += 1
        result["series"] += len(names)
        result["forests"] += len(forests)
    job.progress(len(job.tenants), len(job.tenants), "done")
    return result


async def store_forests(ctx: TenantContext, forests: Mapping[str, CombinationForest]) -> None:
    """Replace all of a tenant's forests, including any that cannot be read."""
    pipe = ctx.stores.online.pipeline()
    pipe.unlink(keys.FORESTS)
    if forests:
        pipe.hset(keys.FORESTS, mapping={g: forest.to_bytes() for g, forest in forests.items()})
    await pipe.execute()


async def read_history(ctx: TenantContext) -> Mapping[str, SeriesPoints]:
    """90 days of all of a tenant's series, by id."""
    now = time.time()
    return await open_archive(ctx).read_all(now - RETENTION.total_seconds(), now + DAY)


async def keep(job: JobContext) -> Mapping[str, Any]:
    """Archive new points, delete old ones, and advance alerts.

    Also delivers notices that a dead worker left, or that no new point will trigger.

    Returns:
        The number of points archived, and each tenant's open alerts by priority.
    """
    tenants, archived, notifier = {}, 0, Notifier()
    deliveries: list[asyncio.Task[float | None]] = []  # a slow channel delays no other tenant
    for number, ctx in enumerate(job.tenants):
        job.progress(number, len(job.tenants), ctx.tenant)
        archived += await archive_new_points(ctx)
        await delete_expired(ctx)
        open_alerts, _ = await advance_alerts(ctx)
        tenants[ctx.tenant] = count_open_alerts(open_alerts)
        deliveries.append(asyncio.create_task(notifier.deliver(ctx)))
    for error in await asyncio.gather(*deliveries, return_exceptions=True):
        if isinstance(error, BaseException):
            log.warning("some notices could not be sent, will be retried: %s", error)
    job.progress(len(job.tenants), len(job.tenants), "done")
    return {"points": archived, "tenants": tenants}


async def learn(job: JobContext) -> Mapping[str, Any]:
    """Search the parameters that fit each tenant's feedback best.

    What is found is stored as a suggestion until the next run. `PUT
    /platform/parameters/anomalies` or an experiment can apply it.

    Returns:
        The suggestion for each tenant with enough feedback.
    """
    suggestions: dict[str, Any] = {}
    for number, ctx in enumerate(job.tenants):
        job.progress(number, len(job.tenants), ctx.tenant)
        records = await feedback.read_labelled_series(ctx, open_archive(ctx))
        windows = sum(len(record["windows"]) for record in records)
        denied = sum(len(record["denied"]) for record in records)
        if not windows or windows + denied < MIN_VERDICTS:
            await ctx.stores.online.unlink(keys.SUGGESTION)
            continue
        parameters, score, current = await asyncio.to_thread(
            _suggest, records, ctx.parameters(AnomalyParameters)
        )
        suggestion = {
            "parameters": parameters.model_dump() if score > current + MIN_GAIN else None,
            "score": round(score, 2),
            "current": round(current, 2),
            "windows": windows,
            "denied": denied,
            "time": datetime.now(UTC).isoformat(),
        }
        await ctx.stores.online.set(keys.SUGGESTION, orjson.dumps(suggestion))
        suggestions[ctx.tenant] = suggestion
    job.progress(len(job.tenants), len(job.tenants), "done")
    return {"tenants": suggestions}


def _suggest(
    records: Sequence[Mapping[str, Any]], current: AnomalyParameters
) -> tuple[AnomalyParameters, float, float]:
    data = [study.to_labelled_series(record) for record in records]
    return study.suggest_parameters(data, current)


async def archive_new_points(ctx: TenantContext) -> int:
    """Move new points to the long-term store, and return how many there were.

    A crash between writing and removing them writes them twice; they are read once.
    """
    online, archive, moved = ctx.stores.online, open_archive(ctx), 0
    while waiting := await online.lrange(keys.UNARCHIVED, 0, ARCHIVE_BATCH - 1):
        rows = _archive_rows(waiting, await online.hgetall(keys.SERIES))
        if rows:
            await archive.write(rows)
        await online.ltrim(keys.UNARCHIVED, len(waiting), -1)
        moved += len(rows)
    return moved


def _archive_rows(waiting: Sequence[bytes], series: Mapping[bytes, bytes]) -> list[Row]:
    """Unarchived points as rows, without those of series that no longer exist."""
    infos = load_all_series(series)
    rows = []
    for item in waiting:
        name, record = item[:8].hex(), np.frombuffer(item[8:], recent_points.RECORD)[0]
        if name in infos:
            rows.append(
                Row(
                    series=name,
                    metric=infos[name].metric,
                    labels=infos[name].labels,
                    time=float(record["time"]),
                    value=float(record["value"]),
                    score=float(record["score"]),
                )
            )
    return rows


async def delete_expired(ctx: TenantContext) -> None:
    """Delete what is older than 90 days, and series without newer points.

    Recent points that have grown too long are trimmed.
    """
    limit = datetime.now(UTC) - RETENTION
    await open_archive(ctx).drop(limit.date())
    pipe = ctx.stores.online.pipeline()
    pipe.zremrangebyscore(keys.ANOMALIES, "-inf", limit.timestamp())
    pipe.zremrangebyscore(keys.ALERT_HISTORY, "-inf", limit.timestamp())
    pipe.hkeys(keys.SERIES)
    names = [name.decode() for name in (await pipe.execute())[2]]
    await feedback.delete_expired_feedback(ctx, limit.timestamp())
    for first in range(0, len(names), SERIES_BATCH):
        part = names[first : first + SERIES_BATCH]
        for name in part:
            pipe.get(keys.recent_points(name))
        for name, packed in zip(part, await pipe.execute(), strict=True):
            records = recent_points.unpack(packed)
            if len(records) and records["time"].max() < limit.timestamp():
                for place in (keys.SERIES, keys.READINGS, keys.STATES, keys.SEASONS):
                    pipe.hdel(place, name)
                pipe.unlink(keys.recent_points(name))
            elif len(records) > recent_points.MAX_LENGTH:
                await _trim(ctx, name)
        await pipe.execute()


async def _trim(ctx: TenantContext, series: str) -> None:
    size = recent_points.TRIMMED_LENGTH * recent_points.RECORD.itemsize
    await ctx.stores.online.eval(TRIM, [keys.recent_points(series)], [size])


def count_open_alerts(alerts: Sequence[Alert]) -> dict[str, int]:
    """Open alerts by priority, without those suppressed by maintenance."""
    return {
        priority: sum(a.priority == priority and not a.suppressed_by for a in alerts)
        for priority in ("P1", "P2", "P3")
    }
