"""The scheduled and started work of the feature store."""

import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb

from shoal import Event, InternalError, Invalid, JobContext, TenantContext

from . import batch, offline, rows
from .catalog import Catalog
from .datasets import Dataset
from .freshness import freshness
from .historical_query import everyone, question
from .ingest import LATE_RUNS, handle, late_key
from .monitoring import mismatches, monitor
from .registry import Registry, View
from .values import moment

CORRECTED = ("features", "corrected")
"""Hash: view → how many events that came too late for the stream the batch has taken in
since.
"""

REACH = timedelta(days=7)
"""How far back a nightly run corrects days for events that arrived since the run
before.
"""

LOOKED = ("features", "looked")
LOOK_EVERY = 6 * 3600 - 600
"""Seconds between looks at nulls and drift: they read the whole history, and move
slowly.
"""

BUILT = ("features", "built")
"""Hash: stream view → digest of the definition that its windows were last brought up
from the archive for.
"""

log = logging.getLogger("shoal.features")

RAN = ("features", "ran")
"""When the nightly run last began, in ms since 1970."""

NAMED = 20
"""Failed tenants that a run's error names."""


async def _each(job: JobContext, work: Callable[[int, TenantContext], Awaitable[None]]) -> None:
    """Do the work of every tenant by itself. Whatever fails for one is no reason to
    leave the others without theirs: it fails the run after them.
    """
    failed: dict[str, Exception] = {}
    for n, ctx in enumerate(job.tenants):
        try:
            await work(n, ctx)
        except Exception as error:
            if len(job.tenants) == 1:
                raise
            job.progress(
                n + 1, len(job.tenants), f"{ctx.tenant} failed"
            )  # of a cancelled run this raises again: no tenant's fault
            log.exception("features: %s failed in run %s", ctx.tenant, job.run_id)
            failed[ctx.tenant] = error
    if failed:
        names = ", ".join(list(failed)[:NAMED]) + (", …" if len(failed) > NAMED else "")
        first = next(iter(failed.values()))
        raise InternalError(
            f"{len(failed)} of {len(job.tenants)} tenants failed ({names}), the first with {type(first).__name__}: {first}"
        )
    job.progress(len(job.tenants), len(job.tenants), "done")


async def materialize(job: JobContext) -> dict[str, Any]:
    """Compute the batch views. By the schedule: as of the midnight before, and for
    those of the past week that no run took care of or that events have arrived for
    since; also the windows of stream views that are new or changed. By hand: as of now,
    or with `date` as of that day's end. What fails for one tenant fails the run, after
    the others have been worked on.
    """
    if (
        "date" in job.arguments
        and _date(job.arguments, "date") > datetime.now(job.scheduled_for.tzinfo).date()
    ):
        raise Invalid(
            f"the date {job.arguments['date']} has not begun: what is computed ahead of time would win over what happens until then"
        )
    result: dict[str, Any] = {"rows": 0, "changed": 0, "values": 0, "tenants": len(job.tenants)}
    await _each(job, lambda n, ctx: _materialized(job, n, ctx, result))
    return result


async def _materialized(
    job: JobContext, n: int, ctx: TenantContext, result: dict[str, Any]
) -> None:
    registry = await Catalog().registry(ctx.tenant, ctx.stores.online)
    views = _views(registry, job.arguments, "batch")
    began = time.time_ns() // 1_000_000
    moments = await _moments(job, ctx)
    work = [(view, at) for view in views for at in moments]
    for k, (view, at) in enumerate(work):
        job.progress(
            n + k / len(work), len(job.tenants), f"{ctx.tenant}: {view.name} as of {at.isoformat()}"
        )
        done = await batch.compute(ctx.stores, view, at, online=at == moments[-1])
        result["rows"] += done.rows
        result["changed"] += done.changed
        result["values"] += done.online
    for view in _views(registry, job.arguments, "stream"):
        if await ctx.stores.online.hget(BUILT, view.name) != _digest(view):
            await _built(ctx, view)
    await handle(ctx.stores.online, registry, [])  # what was ahead of time and is due
    await _correct(ctx, registry)
    if not _by_hand(job.scheduled_for) and not {"date", "views"} & set(
        job.arguments
    ):  # only the night takes care of the days before it
        await ctx.stores.online.set(RAN, began)


async def _built(ctx: TenantContext, view: View) -> int:
    """Bring a stream view's windows up from the archive; how many events were new."""
    fresh = await batch.rebuild(ctx.stores, view)
    await ctx.stores.online.hset(BUILT, view.name, _digest(view))
    return fresh


def _digest(view: View) -> bytes:
    """Changes when what the windows must hold changes."""
    said = {k: v for k, v in asdict(view).items() if k not in ("description", "owner", "tags")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16].encode()


async def _moments(job: JobContext, ctx: TenantContext) -> list[datetime]:
    due = job.scheduled_for
    if "date" in job.arguments:
        return [min(_end(_date(job.arguments, "date"), due), datetime.now(UTC))]
    if _by_hand(due):
        return [due]
    midnight = due.replace(hour=0, minute=0)
    first, last = midnight, await ctx.stores.online.get(RAN)
    if last:
        missed = _end(
            moment(int(last) * 1000).astimezone(due.tzinfo).date(), due
        )  # nights that nothing ran in
        first = max(min(first, missed), midnight - REACH)
        archive = await offline.events(ctx.stores, midnight - REACH, midnight)
        if archive.count():
            with duckdb.connect() as con:
                accepted = "CAST(split_part(position, '-', 1) AS BIGINT)"
                query = f"SELECT min(epoch_us(time)) FROM {archive.relation(con)} WHERE {accepted} >= {int(last)}"
                found = con.execute(query).fetchone()
            if found and found[0]:
                day = moment(found[0]).astimezone(due.tzinfo).date()
                first = max(min(_end(day, due), first), midnight - REACH)
    days = (midnight.date() - first.date()).days
    return [_end(midnight.date() - timedelta(days=k + 1), due) for k in range(days, -1, -1)]


def _by_hand(due: datetime) -> bool:
    """A schedule's times are whole minutes."""
    return bool(due.second or due.microsecond)


def _end(day: date, like: datetime) -> datetime:
    """The midnight at the end of a day, in the time zone of `like`."""
    after = day + timedelta(days=1)
    return datetime(after.year, after.month, after.day, tzinfo=like.tzinfo)


async def _correct(ctx: TenantContext, registry: Registry) -> None:
    """What came too late for the windows is in the archive, and so in every history
    from now on.
    """
    for view in registry.views:
        if view.kind == "stream":
            late = await ctx.stores.online.hkeys(late_key(view.name))
            if late:
                await ctx.stores.online.hdel(late_key(view.name), *late)
                await ctx.stores.online.hincrby(CORRECTED, view.name, len(late))


async def backfill(job: JobContext) -> dict[str, Any]:
    """Compute batch views for every day from `start` to `end`, both included, bring the
    stream views' windows up from the archive, and the newest offline rows of those days
    of the other views online. `views`: only these.
    """
    start, end = _date(job.arguments, "start"), _date(job.arguments, "end")
    if end < start:
        raise Invalid(f"the end {end} is before the start {start}")
    days = [start + timedelta(days=k) for k in range((end - start).days + 1)]
    result: dict[str, Any] = {"rows": 0, "changed": 0, "values": 0, "events": 0, "days": len(days)}

    async def one(n: int, ctx: TenantContext) -> None:
        registry = await Catalog().registry(ctx.tenant, ctx.stores.online)
        batches, streams, plain = (
            _views(registry, job.arguments, kind) for kind in ("batch", "stream", "plain")
        )
        steps, step = len(batches) * len(days) + len(streams) + len(plain), 0
        for view in batches:
            for day in days:
                job.progress(n + step / steps, len(job.tenants), f"{ctx.tenant}: {view.name} {day}")
                at = min(_end(day, job.scheduled_for), datetime.now(UTC))
                done = await batch.compute(ctx.stores, view, at, online=day == days[-1])
                result["rows"] += done.rows
                result["changed"] += done.changed
                result["values"] += done.online
                step += 1
        for view in streams:
            job.progress(n + step / steps, len(job.tenants), f"{ctx.tenant}: {view.name}")
            result["events"] += await _built(ctx, view)
            step += 1
        for view in plain:
            job.progress(n + step / steps, len(job.tenants), f"{ctx.tenant}: {view.name}")
            result["values"] += await batch.restore(
                ctx.stores,
                view,
                _end(start - timedelta(days=1), job.scheduled_for),
                _end(end, job.scheduled_for),
            )
            step += 1

    await _each(job, one)
    return result


async def consistency(job: JobContext) -> dict[str, Any]:
    """Compare `sample` entities' served values with what the log and the offline tables
    say; a difference counts once it lasts `settle` seconds.
    """
    result: dict[str, Any] = {"checked": 0, "mismatches": []}

    async def one(n: int, ctx: TenantContext) -> None:
        job.progress(n, len(job.tenants), ctx.tenant)
        registry = await Catalog().registry(ctx.tenant, ctx.stores.online)
        await handle(ctx.stores.online, registry, [])
        sample, settle = (
            int(job.arguments.get("sample", 200)),
            float(job.arguments.get("settle", 2.0)),
        )
        found = await mismatches(ctx.stores, registry, sample=sample, seed=n, settle=settle)
        result["checked"] += found["checked"]
        result["mismatches"] += [{"tenant": ctx.tenant, **m} for m in found["mismatches"]][:100]
        await _publish(
            ctx,
            [{"metric": "features.mismatches", "value": len(found["mismatches"]), "labels": {}}],
        )

    await _each(job, one)
    return result


async def watch(job: JobContext) -> dict[str, Any]:
    """Age, lag and lateness of every view, and every six hours (or by hand) nulls and
    drift, as metric events that the anomalies capability can watch.
    """
    count = 0

    async def one(n: int, ctx: TenantContext) -> None:
        nonlocal count
        job.progress(n, len(job.tenants), ctx.tenant)
        registry = await Catalog().registry(ctx.tenant, ctx.stores.online)
        await handle(ctx.stores.online, registry, [])
        turn = _by_hand(job.scheduled_for) or await ctx.stores.online.set(
            LOOKED, 1, ex=LOOK_EVERY, nx=True
        )
        points = await monitor(ctx.stores, registry) if turn else []
        points.append(
            {"metric": LATE_RUNS, "value": 0, "labels": {}}
        )  # so that a late run stands out
        for view in await freshness(ctx.stores.online, registry, time.time_ns() // 1000):
            labels = {"view": view["view"]}
            for name in ("age_seconds", "lag_seconds", "too_late"):
                if view.get(name) is not None:
                    points.append(
                        {"metric": f"features.{name}", "value": view[name], "labels": labels}
                    )
        await _publish(ctx, points)
        count += len(points)

    await _each(job, one)
    return {"points": count}


async def _publish(ctx: TenantContext, points: list[dict[str, Any]]) -> None:
    if points:
        at = datetime.now(UTC)
        await ctx.stores.events.append(
            [Event(type="metric", source="shoal/features", time=at, data=p) for p in points]
        )


async def historical(job: JobContext) -> dict[str, Any]:
    """A point-in-time join of any size: the entity rows are those uploaded to
    `dataset`, where the answer is kept too; `features` the names. With `as_of`, a time,
    the rows are all entities at that time. `entity`: their type, where there are
    several and the data set says none. The parts (as many as the rows need, or `parts`
    if that is more) are worked on by Ray Data, so memory does not grow with the rows.
    """
    if len(job.tenants) != 1:
        raise Invalid("say for which tenant")
    ctx, names = job.tenants[0], job.arguments.get("features")
    if not isinstance(names, list) or not names:
        raise Invalid("the argument features is a list of names")
    dataset, lake = Dataset(str(job.arguments.get("dataset"))), ctx.stores.lake
    registry = await Catalog().registry(ctx.tenant, ctx.stores.online)
    as_of = job.arguments.get("as_of")
    entity = str(job.arguments.get("entity") or ("" if as_of else await dataset.entity(lake)))
    if not entity and len(registry.entities) == 1:
        entity = registry.entities[0]
    features = _resolved(registry, entity, names)
    if as_of:
        await dataset.forget(lake)
        await dataset.ask(lake, await everyone(ctx.stores, features, _time(as_of, "as_of")))
    files = await dataset.asked(lake)
    cutoff = bool(files.paths) and "known_by" in files.dataset().schema.names
    known_by = job.arguments.get("known_by")
    one = await question(
        ctx.stores,
        features,
        files,
        known_by=_time(known_by, "known_by") if known_by else None,
        cutoff=cutoff,
    )
    one = replace(one, parts=max(one.parts, min(int(job.arguments.get("parts", 1)), 1_000)))
    await dataset.forget_answer(lake)
    key, written = next(v.join_key for v in registry.views if v.entity == entity), 0
    done = 0
    async for table in batch.in_parts(one.part, one.parts):
        written += await dataset.answer(lake, rows.named(table, key))
        done = min(done + 1, one.parts)
        job.progress(done, one.parts, f"{written} rows")
    return {"rows": written, "dataset": dataset.name}


def _resolved(registry: Registry, entity: str, names: list[Any]) -> list[Any]:
    try:
        return registry.resolve(entity, map(str, names))
    except KeyError as error:
        raise Invalid(
            f"unknown entity type {entity!r}; there is {', '.join(registry.entities)}"
        ) from error
    except LookupError as error:
        raise Invalid(str(error)) from error


def _views(registry: Registry, arguments: Mapping[str, Any], kind: str) -> list[View]:
    names = arguments.get("views") or [v.name for v in registry.views]
    unknown = set(names) - {v.name for v in registry.views}
    if unknown:
        raise Invalid(
            f"no view {min(unknown)!r}; there is {', '.join(v.name for v in registry.views)}"
        )
    return [v for v in registry.views if v.kind == kind and v.name in names]


def _time(text: Any, name: str) -> datetime:
    try:
        return rows.parse_time(text)
    except ValueError as error:
        raise Invalid(f"the argument {name}: {error}") from None


def _date(arguments: Mapping[str, Any], name: str) -> date:
    try:
        return date.fromisoformat(str(arguments[name]))
    except (KeyError, ValueError):
        raise Invalid(
            f"the argument {name} is a date such as 2026-11-22, not {arguments.get(name)!r}"
        ) from None
