"""The jobs of the feature store."""

import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from shoal import Event, Invalid, JobContext, TenantContext

from . import batch, keys, rows
from .aggregation import open_engine
from .archive import ACCEPTED_MS, open_archive
from .catalog import Catalog
from .datasets import Dataset
from .failures import Failures
from .freshness import view_freshness
from .historical_query import all_entities, plan_query
from .ingest import LATE_RUNS, ingest_events
from .monitoring import find_mismatches, profile_features
from .online import reset_lifetimes
from .registry import Registry
from .values import from_micros, parse_time
from .views import Feature, View

MAX_BACKFILL_DAYS = 3_660
"""Days of one backfill."""
MAX_CORRECTION = timedelta(days=7)
"""How far back a nightly run corrects days for events that arrived late."""

PROFILE_EVERY = 6 * 3600 - 600
"""Seconds between measurements of nulls and drift: they read the whole history, and
change slowly. A little less than six hours, so a run every quarter of an hour is due.
"""

MAX_MISMATCHES = 100
"""Mismatches of one tenant in a run's result."""

MAX_PARTS = 1_000

DUE = "events that became due"
"""What a failure to apply them is named."""


async def materialize(job: JobContext) -> dict[str, Any]:
    """Compute the batch views, and fill the windows of new or changed stream views.

    The nightly run computes as of the midnight before, and of those of the past week
    that no run computed or that events have arrived for since. A run by hand computes
    as of now, or with `date` as of that day's end. What fails for one view or tenant
    fails the run after the others are done.
    """
    _check_arguments(job, "date", "views")
    today = datetime.now(job.scheduled_for.tzinfo).date()
    if "date" in job.arguments and _parse_date(job.arguments, "date") > today:
        raise Invalid(
            f"the date {job.arguments['date']} has not begun: its values would be newer than"
            " those of events until then"
        )
    result: dict[str, Any] = {"rows": 0, "changed": 0, "values": 0, "tenants": len(job.tenants)}

    async def work(n: int, ctx: TenantContext) -> None:
        await _materialize_tenant(job, n, ctx, result)

    await _for_each_tenant(job, work)
    return result


async def backfill(job: JobContext) -> dict[str, Any]:
    """Compute views for every day from `start` to `end`, both included.

    Batch views are computed, stream views' windows are filled from the archive, and the
    newest offline rows of those days of plain views are written online. `views`: only
    these.
    """
    _check_arguments(job, "start", "end", "views")
    start, end = _parse_date(job.arguments, "start"), _parse_date(job.arguments, "end")
    if end < start:
        raise Invalid(f"the end {end} is before the start {start}")
    if (end - start).days >= MAX_BACKFILL_DAYS:
        raise Invalid(f"from {start} to {end} is more than {MAX_BACKFILL_DAYS:,} days")
    if end > datetime.now(UTC).date() + timedelta(days=1):
        raise Invalid(f"the end {end} is in the future")
    days = [start + timedelta(days=k) for k in range((end - start).days + 1)]
    result: dict[str, Any] = {"rows": 0, "changed": 0, "values": 0, "events": 0, "days": len(days)}

    async def work(n: int, ctx: TenantContext) -> None:
        await _backfill_tenant(job, n, ctx, days, result)

    await _for_each_tenant(job, work)
    return result


async def consistency(job: JobContext) -> dict[str, Any]:
    """Compare served values of `sample` entities with the log and the offline tables.

    A difference counts if it is still there after `settle` seconds.
    """
    _check_arguments(job, "sample", "settle")
    sample = int(job.arguments.get("sample", 200))
    settle = float(job.arguments.get("settle", 2.0))
    result: dict[str, Any] = {"checked": 0, "mismatches": []}

    async def work(n: int, ctx: TenantContext) -> None:
        registry = await Catalog().registry(ctx.tenant, ctx.stores.online)
        failures = Failures("views")
        with failures.set_aside(DUE):
            await ingest_events(ctx.stores.online, registry, [])
        found = await find_mismatches(
            ctx.stores, registry, failures, sample=sample, seed=n, settle=settle
        )
        mismatches = found["mismatches"]
        result["checked"] += found["checked"]
        result["mismatches"] += [{"tenant": ctx.tenant, **m} for m in mismatches][:MAX_MISMATCHES]
        point = {"metric": "features.mismatches", "value": len(mismatches), "labels": {}}
        await _publish_points(ctx, [point])
        failures.raise_any(len(registry.views))

    await _for_each_tenant(job, work)
    return result


async def watch(job: JobContext) -> dict[str, Any]:
    """Publish age, lag and lateness of every view as metric events.

    Every six hours, and in every run by hand, also the nulls and drift of features.
    """
    _check_arguments(job)
    count = 0

    async def work(n: int, ctx: TenantContext) -> None:
        nonlocal count
        online = ctx.stores.online
        registry = await Catalog().registry(ctx.tenant, online)
        failures = Failures("views")
        with failures.set_aside(DUE):
            await ingest_events(online, registry, [])
        due = _is_manual(job.scheduled_for) or await online.set(
            keys.PROFILED, 1, ex=PROFILE_EVERY, nx=True
        )
        points = await profile_features(ctx.stores, registry, failures) if due else []
        # a regular 0 makes a late run stand out
        points.append({"metric": LATE_RUNS, "value": 0, "labels": {}})
        for view in await view_freshness(online, registry, time.time_ns() // 1000):
            points += [
                {
                    "metric": f"features.{name}",
                    "value": view[name],
                    "labels": {"view": view["view"]},
                }
                for name in ("age_seconds", "lag_seconds", "too_late")
                if view.get(name) is not None
            ]
        await _publish_points(ctx, points)
        count += len(points)
        failures.raise_any(len(registry.views))

    await _for_each_tenant(job, work)
    return {"points": count}


async def historical(job: JobContext) -> dict[str, Any]:
    """Join features to any number of entity rows, as of their own times.

    The rows are those uploaded to the data set `dataset`, which the result goes to as
    well; with `as_of`, a time, they are all entities at that time. `features` are
    names, `entity` the entity type where the data set does not say it, `known_by` a
    cutoff. Ray Data works on the parts (as many as the rows need, or `parts` if that is
    more), so memory does not grow with the rows.
    """
    _check_arguments(job, "dataset", "features", "entity", "as_of", "known_by", "parts")
    if len(job.tenants) != 1:
        raise Invalid("the job features.historical runs for one tenant: name it")
    ctx, names = job.tenants[0], job.arguments.get("features")
    if not isinstance(names, list) or not names:
        raise Invalid("the argument features must be a list of names")
    dataset, lake = Dataset(str(job.arguments.get("dataset"))), ctx.stores.lake
    registry = await Catalog().registry(ctx.tenant, ctx.stores.online)
    as_of, known_by = (_parse_time(job.arguments, name) for name in ("as_of", "known_by"))
    entity = str(job.arguments.get("entity") or ("" if as_of else await dataset.entity_type(lake)))
    if not entity and len(registry.entities) == 1:
        entity = registry.entities[0]
    if not entity:
        raise Invalid(f"the data set {dataset.name!r} has no rows: upload them, or name the entity")
    features = _resolve_features(registry, entity, names)
    if as_of:
        await dataset.delete(lake)
        await dataset.add_rows(lake, await all_entities(ctx.stores, features, as_of))
    files = await dataset.row_files(lake)
    cutoff = bool(files.paths) and "known_by" in files.dataset().schema.names
    query = await plan_query(ctx.stores, features, files, known_by=known_by, cutoff=cutoff)
    wanted = min(int(job.arguments.get("parts", 1)), MAX_PARTS)
    query = replace(query, parts=max(query.parts, wanted))
    await dataset.delete_result(lake)
    key, written, done = registry.join_key(entity), 0, 0
    async for table in batch.run_parts(query.run_part, query.parts):
        written += await dataset.add_result(lake, rows.rename_columns(table, key))
        done = min(done + 1, query.parts)
        job.progress(done, query.parts, f"{written} rows")
    return {"rows": written, "dataset": dataset.name}


async def _for_each_tenant(
    job: JobContext, work: Callable[[int, TenantContext], Awaitable[None]]
) -> None:
    """Do the work of every tenant; a failure of one fails the run after the others."""
    failures, total = Failures("tenants"), len(job.tenants)
    for n, ctx in enumerate(job.tenants):
        job.progress(n, total, ctx.tenant)  # in a cancelled run this raises
        if total == 1:
            await work(n, ctx)
            continue
        with failures.set_aside(ctx.tenant):
            await work(n, ctx)
    job.progress(total, total, "done")
    failures.raise_any(total)


async def _materialize_tenant(
    job: JobContext, n: int, ctx: TenantContext, result: dict[str, Any]
) -> None:
    registry = await Catalog().registry(ctx.tenant, ctx.stores.online)
    views = _select_views(registry, job.arguments, "batch")
    began = time.time_ns() // 1_000_000
    times = await _times_to_compute(job, ctx)
    steps = [(view, at) for view in views for at in times]
    failures = Failures("views")
    for k, (view, at) in enumerate(steps):
        message = f"{ctx.tenant}: {view.name} as of {at.isoformat()}"
        job.progress(n + k / len(steps), len(job.tenants), message)
        with failures.set_aside(view.name):
            newest = at == times[-1]
            _add_result(result, await batch.compute_view(ctx.stores, view, at, online=newest))
    for view in _select_views(registry, job.arguments, "stream"):
        if await ctx.stores.online.hget(keys.REBUILT, view.name) != _definition_digest(view):
            with failures.set_aside(view.name):
                await _rebuild_view(ctx, view)
    with failures.set_aside(DUE):
        await ingest_events(ctx.stores.online, registry, [])
    await _reset_lifetimes(ctx, registry)
    await _clear_late_events(ctx, registry)
    failures.raise_any(len(registry.views))
    if not _is_manual(job.scheduled_for) and not {"date", "views"} & set(job.arguments):
        await ctx.stores.online.set(keys.LAST_NIGHTLY_RUN, began)


async def _backfill_tenant(
    job: JobContext, n: int, ctx: TenantContext, days: list[date], result: dict[str, Any]
) -> None:
    registry = await Catalog().registry(ctx.tenant, ctx.stores.online)
    batches, streams, plain = (
        _select_views(registry, job.arguments, kind) for kind in ("batch", "stream", "plain")
    )
    failures = Failures("views")
    steps, step = len(batches) * len(days) + len(streams) + len(plain), 0

    def show(message: str) -> None:
        nonlocal step
        job.progress(n + step / steps, len(job.tenants), f"{ctx.tenant}: {message}")
        step += 1

    due = job.scheduled_for
    for view in batches:
        for day in days:
            show(f"{view.name} {day}")
            at = min(_end_of_day(day, due), datetime.now(UTC))
            online = day == days[-1]
            with failures.set_aside(view.name):
                _add_result(result, await batch.compute_view(ctx.stores, view, at, online=online))
    for view in streams:
        show(view.name)
        with failures.set_aside(view.name):
            result["events"] += await _rebuild_view(ctx, view)
    for view in plain:
        show(view.name)
        start, end = _end_of_day(days[0] - timedelta(days=1), due), _end_of_day(days[-1], due)
        with failures.set_aside(view.name):
            result["values"] += await batch.restore_online(ctx.stores, view, start, end)
    failures.raise_any(len(batches) + len(streams) + len(plain))


async def _reset_lifetimes(ctx: TenantContext, registry: Registry) -> None:
    """Keep values as long as definitions that changed since the last run say.

    That was done as they changed, but a replica may still have used the old ones.
    """
    online, lifetimes = ctx.stores.online, json.dumps(registry.lifetimes).encode()
    if await online.get(keys.LIFETIMES) != lifetimes:
        await reset_lifetimes(online, registry.lifetimes)
        await online.set(keys.LIFETIMES, lifetimes)


def _add_result(result: dict[str, Any], computed: batch.ComputeResult) -> None:
    result["rows"] += computed.rows
    result["changed"] += computed.changed
    result["values"] += computed.online


async def _rebuild_view(ctx: TenantContext, view: View) -> int:
    """Fill a stream view's windows from the archive; returns the new events."""
    fresh = await batch.rebuild_windows(ctx.stores, view)
    await ctx.stores.online.hset(keys.REBUILT, view.name, _definition_digest(view))
    return fresh


def _definition_digest(view: View) -> bytes:
    """Changes with the parts of a definition that the windows depend on."""
    descriptive = ("description", "owner", "tags")
    parts = {k: v for k, v in asdict(view).items() if k not in descriptive}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16].encode()


async def _times_to_compute(job: JobContext, ctx: TenantContext) -> list[datetime]:
    """The times that a run computes batch views as of, oldest first."""
    due = job.scheduled_for
    if "date" in job.arguments:
        end = _end_of_day(_parse_date(job.arguments, "date"), due)
        return [min(end, datetime.now(UTC))]
    if _is_manual(due):
        return [due]
    midnight = due.replace(hour=0, minute=0)
    first, last = midnight, await ctx.stores.online.get(keys.LAST_NIGHTLY_RUN)
    if last:
        earliest = midnight - MAX_CORRECTION
        missed = _end_of_day(from_micros(int(last) * 1000).astimezone(due.tzinfo).date(), due)
        first = max(min(first, missed), earliest)
        event = await _oldest_event_since(ctx, int(last), earliest, midnight)
        if event is not None:
            first = max(min(_end_of_day(event.astimezone(due.tzinfo).date(), due), first), earliest)
    days = (midnight.date() - first.date()).days
    return [_end_of_day(midnight.date() - timedelta(days=k + 1), due) for k in range(days, -1, -1)]


async def _oldest_event_since(
    ctx: TenantContext, accepted: int, since: datetime, until: datetime
) -> datetime | None:
    """The time of the oldest event that the log accepted after `accepted` (ms)."""
    archive = await open_archive(ctx.stores, since, until)
    if not archive.count():
        return None
    with open_engine() as con:
        relation = archive.relation(con)
        query = f"SELECT min(epoch_us(time)) FROM {relation} WHERE {ACCEPTED_MS} >= {accepted}"
        found = con.execute(query).fetchone()
    return from_micros(found[0]) if found and found[0] else None


def _is_manual(due: datetime) -> bool:
    """Whether a run was started by hand: a schedule's times are whole minutes."""
    return bool(due.second or due.microsecond)


def _end_of_day(day: date, like: datetime) -> datetime:
    """The midnight at the end of a day, in the time zone of `like`."""
    after = day + timedelta(days=1)
    return datetime(after.year, after.month, after.day, tzinfo=like.tzinfo)


async def _clear_late_events(ctx: TenantContext, registry: Registry) -> None:
    """Count the events that came too late for the windows as corrected.

    They are in the archive, and so in every historical answer.
    """
    for view in registry.views:
        if view.kind == "stream":
            late = await ctx.stores.online.hkeys(keys.late_events(view.name))
            if late:
                await ctx.stores.online.hdel(keys.late_events(view.name), *late)
                await ctx.stores.online.hincrby(keys.CORRECTED, view.name, len(late))


async def _publish_points(ctx: TenantContext, points: list[dict[str, Any]]) -> None:
    at = datetime.now(UTC)
    await ctx.stores.events.append(
        [Event(type="metric", source="shoal/features", time=at, data=p) for p in points]
    )


def _resolve_features(
    registry: Registry, entity: str, names: list[Any]
) -> list[tuple[View, Feature]]:
    try:
        return registry.resolve(entity, map(str, names))
    except LookupError as error:
        raise Invalid(str(error)) from error


def _select_views(registry: Registry, arguments: Mapping[str, Any], kind: str) -> list[View]:
    names = arguments.get("views") or [v.name for v in registry.views]
    unknown = set(names) - {v.name for v in registry.views}
    if unknown:
        known = ", ".join(v.name for v in registry.views)
        raise Invalid(f"no view {min(unknown)!r}; known views: {known}")
    return [v for v in registry.views if v.kind == kind and v.name in names]


def _check_arguments(job: JobContext, *names: str) -> None:
    if unknown := sorted(set(job.arguments) - set(names)):
        known = ", ".join(names) or "none"
        raise Invalid(f"unknown argument {unknown[0]!r:.60}; the job takes: {known}")


def _parse_time(arguments: Mapping[str, Any], name: str) -> datetime | None:
    if not arguments.get(name):
        return None
    try:
        return parse_time(arguments[name])
    except ValueError as error:
        raise Invalid(f"the argument {name}: {error}") from None


def _parse_date(arguments: Mapping[str, Any], name: str) -> date:
    try:
        return date.fromisoformat(str(arguments[name]))
    except (KeyError, ValueError):
        given = arguments.get(name)
        raise Invalid(
            f"the argument {name} must be a date such as 2026-11-22, not {given!r}"
        ) from None
