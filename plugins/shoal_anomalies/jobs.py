"""The scheduled work: fitting at night, and keeping what came in."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from shoal import JobContext, TenantContext

from . import feedback, keys, recent_points, seasonal, study
from .alert_state import TRIES, commit, read_settings, rows_of
from .alerts import Alert
from .archive import Archive
from .multivariate import CombinationForest
from .notifier import Courier
from .parameters import AnomalyParameters
from .points import KEPT, series_id
from .recent_points import Readings
from .storage import StoreSettings, archive_of

log = logging.getLogger("shoal.anomalies")

FRESH_AT_ONCE = 50_000
AT_ONCE = 500  # series in one round of fitting
MOST_TOGETHER = 20  # metrics in one forest
DAY = 86_400.0
FEWEST = 5  # verdicts from which a suggestion is made
MARGIN = 1.0  # by which it must be better, of the objective's 100


async def fit(job: JobContext) -> Mapping[str, Any]:
    """Fit every tenant's seasons (Ray Data, all cores) and forests from up to 90 days.
    Arguments: `method` (`stl` or `prophet`), `holidays` (a country's code, for
    Prophet).
    """
    method = job.arguments.get("method", "stl")
    holidays = job.arguments.get("holidays")
    if method not in ("stl", "prophet"):
        raise ValueError("method is stl or prophet")
    result = {"tenants": 0, "series": 0, "fitted": 0, "too_short": 0, "failed": 0, "forests": 0}
    for number, ctx in enumerate(job.tenants):
        job.progress(number, len(job.tenants), ctx.tenant)
        await keep_fresh(ctx)
        readings = await history(ctx)
        about = {
            k.decode(): orjson.loads(v)
            for k, v in (await ctx.stores.online.hgetall(keys.SERIES)).items()
        }
        names = [name for name in readings if name in about]
        for first in range(0, len(names), AT_ONCE):
            part = names[first : first + AT_ONCE]
            job.progress(
                number + first / max(len(names), 1),
                len(job.tenants),
                f"{ctx.tenant}: {first} of {len(names)} series",
            )
            rows = [
                {"series": n, "times": readings[n].times, "values": readings[n].values}
                for n in part
            ]
            fitted = await asyncio.to_thread(_fit_rows, rows, method, holidays)
            models = {row["series"]: row["model"] for row in fitted if row["model"]}
            if models:
                await ctx.stores.online.hset(keys.MODELS, mapping=models)
            result["fitted"] += len(models)
            for fault in ("too_short", "failed"):
                result[fault] += sum(row["fault"] == fault for row in fitted)
        forests = await asyncio.to_thread(fit_forests, readings, about)
        await store_forests(ctx, forests)
        await ctx.stores.online.set(keys.FITTED, str(time.time()))
        result["tenants"] += 1
        result["series"] += len(names)
        result["forests"] += len(forests)
    job.progress(len(job.tenants), len(job.tenants), "done")
    return result


def _fit_rows(
    rows: list[dict[str, Any]], method: str, holidays: str | None
) -> list[dict[str, Any]]:
    import ray.data

    blocks = min(max(len(rows) // 8, 1), 64)
    data = ray.data.from_items(rows, override_num_blocks=blocks)
    work: Any = fit_batch
    return data.map_batches(
        work, fn_kwargs={"method": method, "holidays": holidays}, batch_size=8
    ).take_all()


def fit_batch(batch: dict[str, Any], method: str, holidays: str | None) -> dict[str, list[str]]:
    """Of a batch of series (columns series, times, values): the fitted models as JSON,
    or why there is none.
    """
    models, faults = [], []
    for times, values in zip(batch["times"], batch["values"], strict=True):
        model, fault = "", ""
        try:
            model = orjson.dumps(
                seasonal.fit(times, values, method, holidays=holidays).to_dict()
            ).decode()  # type: ignore[arg-type]
        except seasonal.TooShort:
            fault = "too_short"
        except Exception:  # one odd series must not cost the others their night
            fault = "failed"
        models.append(model)
        faults.append(fault)
    return {"series": list(batch["series"]), "model": models, "fault": faults}


def fit_forests(
    readings: Mapping[str, Readings], about: Mapping[str, Mapping[str, Any]]
) -> dict[str, CombinationForest]:
    """A forest for each set of metrics that have the same labels and share their times."""
    groups: dict[str, dict[str, Readings]] = {}
    for name, reading in readings.items():
        if name in about and len(reading) >= 200 and reading.values.std() > 0:
            groups.setdefault(series_id("", about[name]["labels"]), {})[about[name]["metric"]] = (
                reading
            )
    forests = {}
    for group, metrics in groups.items():
        longest = sorted(metrics, key=lambda m: (-len(metrics[m]), m))[:MOST_TOGETHER]
        times = metrics[longest[0]].times
        together = [m for m in longest if np.isin(times, metrics[m].times).mean() > 0.8]
        if len(together) < 2:
            continue
        for metric in together:
            times = times[np.isin(times, metrics[metric].times)]
        columns = [metrics[m].values[np.searchsorted(metrics[m].times, times)] for m in together]
        rows = np.column_stack(columns)[-20_000:]
        if len(rows) >= 200:
            forests[group] = CombinationForest(together).fit(rows)
    return forests


async def store_forests(ctx: TenantContext, forests: Mapping[str, CombinationForest]) -> None:
    """Replace all of a tenant's forests, and with them any that cannot be read."""
    pipe = ctx.stores.online.pipeline()
    pipe.unlink(keys.FORESTS)
    if forests:
        pipe.hset(keys.FORESTS, mapping={g: forest.to_bytes() for g, forest in forests.items()})
    await pipe.execute()


async def history(ctx: TenantContext) -> Mapping[str, Readings]:
    """All of a tenant's series, 90 days."""
    now = time.time()
    return await _archive(ctx).read_all(now - KEPT.total_seconds(), now + DAY)


async def keep(job: JobContext) -> Mapping[str, Any]:
    """Write new points to the long-term store, drop what is older than 90 days, and see
    to alerts that wait for time to pass.

    Its result tells the operator how every tenant stands.
    """
    standing, kept, courier = {}, 0, Courier()
    sending: list[
        asyncio.Task[float | None]
    ] = []  # a channel that does not answer holds no other tenant up
    for number, ctx in enumerate(job.tenants):
        job.progress(number, len(job.tenants), ctx.tenant)
        kept += await keep_fresh(ctx)
        await expire(ctx)
        standing[ctx.tenant] = severity(await wait(ctx))
        sending.append(
            asyncio.create_task(courier.deliver(ctx))
        )  # what a dead worker left or no new point will send
    for fault in await asyncio.gather(*sending, return_exceptions=True):
        if isinstance(fault, BaseException):
            log.warning("notices wait: %s", fault)
    job.progress(len(job.tenants), len(job.tenants), "done")
    return {"points": kept, "tenants": standing}


async def learn(job: JobContext) -> Mapping[str, Any]:
    """Search the parameters that would have served each tenant's people best, by what
    they said of anomalies. What is found is a suggestion, kept until the next run: `PUT
    /platform/parameters/anomalies` or an experiment takes it up.
    """
    result: dict[str, Any] = {}
    for number, ctx in enumerate(job.tenants):
        job.progress(number, len(job.tenants), ctx.tenant)
        records = await feedback.labelled(ctx, _archive(ctx))
        windows, denied = (sum(len(r[what]) for r in records) for what in ("windows", "denied"))
        if not windows or windows + denied < FEWEST:
            await ctx.stores.online.unlink(keys.SUGGESTED)
            continue
        data = await asyncio.to_thread(lambda: [study.labelled(r) for r in records])  # noqa: B023
        current = ctx.parameters(AnomalyParameters)
        best, value, before = await asyncio.to_thread(study.suggest, data, current)
        suggestion = {
            "parameters": best.model_dump() if value > before + MARGIN else None, "score": round(value, 2), "current": round(before, 2),
            "windows": windows, "denied": denied, "time": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        await ctx.stores.online.set(keys.SUGGESTED, orjson.dumps(suggestion))
        result[ctx.tenant] = suggestion
    job.progress(len(job.tenants), len(job.tenants), "done")
    return {"tenants": result}


async def keep_fresh(ctx: TenantContext) -> int:
    """Move what waits to the long-term store. A crash between writing and forgetting
    writes it twice, which reads as once.
    """
    online, archive, moved = ctx.stores.online, _archive(ctx), 0
    while waiting := await online.lrange(keys.FRESH, 0, FRESH_AT_ONCE - 1):
        rows = rows_of(waiting, await online.hgetall(keys.SERIES))
        if rows:
            await archive.write(rows)
        await online.ltrim(keys.FRESH, len(waiting), -1)
        moved += len(rows)
    return moved


async def expire(ctx: TenantContext) -> None:
    """Drop what is older than 90 days, by day, and series that have been silent for so
    long.
    """
    limit = datetime.now(UTC) - KEPT
    await _archive(ctx).drop(limit.date())
    pipe = ctx.stores.online.pipeline()
    pipe.zremrangebyscore(keys.FOUND, "-inf", limit.timestamp())
    pipe.zremrangebyscore(keys.HISTORY, "-inf", limit.timestamp())
    pipe.hkeys(keys.SERIES)
    known = [name.decode() for name in (await pipe.execute())[2]]
    await feedback.expire(ctx, limit.timestamp())
    for first in range(0, len(known), AT_ONCE):
        part = known[first : first + AT_ONCE]
        for name in part:
            pipe.get(keys.tail(name))
        for name, blob in zip(part, await pipe.execute(), strict=True):
            records = recent_points.unpack(blob)
            if len(records) and records["time"].max() < limit.timestamp():
                for place in (keys.SERIES, keys.STATES, keys.MODELS):
                    pipe.hdel(place, name)
                pipe.unlink(keys.tail(name))
            elif len(records) > recent_points.FULL:
                await _trim(ctx, name)
        await pipe.execute()


TRIM = """
local blob = redis.call('get', KEYS[1])
if blob and #blob > tonumber(ARGV[1]) then redis.call('set', KEYS[1], string.sub(blob, -ARGV[1])) end
return 1
"""


async def _trim(ctx: TenantContext, series: str) -> None:
    """Cut the front off a tail, while points may be coming in."""
    await ctx.stores.online.eval(
        TRIM, [keys.tail(series)], [recent_points.KEPT * recent_points.RECORD.itemsize]
    )


async def wait(ctx: TenantContext) -> list[Alert]:
    """What time alone brings about, for tenants from whom nothing comes in; the open
    alerts.
    """
    for _ in range(TRIES):
        settings = await read_settings(ctx)
        before = orjson.dumps(settings.book.to_dict())
        notices = settings.book.tick(datetime.now(UTC), settings.rules, settings.windows)
        if await commit(ctx, settings, notices, before):
            break
    return settings.book.open_alerts()


def severity(alerts: Sequence[Alert]) -> dict[str, int]:
    """How many open alerts there are of each priority."""
    return {
        p: sum(a.priority == p and not a.suppressed_by for a in alerts) for p in ("P1", "P2", "P3")
    }


def _archive(ctx: TenantContext) -> Archive:
    return archive_of(ctx.services.settings(StoreSettings), ctx)
