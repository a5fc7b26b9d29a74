"""Undoing retracted events: windows are filled again, and rows computed again."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from . import keys
from .aggregation import aggregate, lookback_seconds, offline_schema, open_engine
from .archive import Archive, accepted_until, open_archive
from .batch import rebuild_windows, restore_entities
from .extraction import EventLike
from .ingest import GRACE, event_rows
from .offline import history_files, stored_rows, table_name, utc_day
from .registry import Registry
from .values import from_micros, to_micros
from .views import View
from .windows import EventRow, WindowPlan

RETRACTED_SECONDS = 86_400
"""Seconds for which windows refuse a retracted event, longer than any handler runs."""

ROW_KEY = ["entity", "event_timestamp", "created"]


async def retract_events(
    stores: Any, registry: Registry, events: Sequence[EventLike]
) -> dict[str, int]:
    """Undo events that are in the log and the archive no more.

    While an entity's windows are filled again, their values are too small.

    Args:
        stores: The tenant's stores.
        registry: The tenant's definitions.
        events: The events.

    Returns:
        How many entities' windows were filled again, and how many offline rows were
        computed again.
    """
    counts = Counter[str]()
    await stores.online.incr(keys.RETRACTIONS)
    for view in registry.views:
        rows = [row for row in event_rows(view, events) if row.time >= 0]
        if rows and view.kind == "stream":
            counts["windows"] += await _retract_from_windows(stores, view, rows)
        elif rows and view.kind == "batch":
            counts["rows"] += await _compute_again(stores, view, rows)
    return dict(counts)


async def _retract_from_windows(stores: Any, view: View, rows: Sequence[EventRow]) -> int:
    """Fill the windows of the events' entities again; returns how many entities."""
    online, plan = stores.online, WindowPlan.of(view)
    of_entity: dict[str, list[EventRow]] = {}
    for row in rows:
        of_entity.setdefault(row.entity, []).append(row)
    pipe = online.pipeline()
    for entity, own in of_entity.items():
        key = keys.retracted(view.entity, entity)
        # A worker may have read them before they left the log.
        pipe.sadd(key, *(row.member for row in own)).expire(key, RETRACTED_SECONDS)
    pipe.hdel(keys.late_events(view.name), *(row.member for row in rows))
    await pipe.execute()
    await _forget_future(online, view, rows)
    horizon = time.time_ns() // 1000 - (view.retention + GRACE) * 1_000_000
    touched = [
        entity
        for entity, own in of_entity.items()
        if plan.last or any(row.time > horizon for row in own)
    ]
    names = [name for f in view.features for name in (f.name, f"{f.name}:by")]
    pipe = online.pipeline()
    for entity in touched:
        for key in plan.keys(entity):
            pipe.unlink(key)
        pipe.hdel(keys.values(view.entity, entity), *names)
    await pipe.execute()
    if touched:
        await rebuild_windows(stores, view, entities=touched)
    return len(touched)


async def _forget_future(online: Any, view: View, rows: Sequence[EventRow]) -> None:
    """Forget those that wait until they are due."""
    key = keys.future_events(view.name)
    if not await online.zcard(key):
        return
    members = {row.member for row in rows}
    for time_ in {row.time for row in rows}:
        waiting = await online.zrangebyscore(key, time_, time_)
        gone = [raw for raw in waiting if orjson.loads(raw)[0] in members]
        if gone:
            await online.zrem(key, *gone)


async def _compute_again(stores: Any, view: View, rows: Sequence[EventRow]) -> int:
    """Compute the offline rows that counted the events again; returns how many.

    Each is computed from what the log had accepted when it was created, and keeps that
    time, so history is as if the events had never been. A row without any other event
    is removed.
    """
    lookback = lookback_seconds(view) * 1_000_000
    spans: dict[str, tuple[int, int]] = {}
    for row in rows:
        first, last = spans.get(row.entity, (row.time, row.time))
        spans[row.entity] = min(first, row.time), max(last, row.time)
    start = from_micros(min(first for first, _ in spans.values()))
    end = from_micros(max(last for _, last in spans.values()) + lookback)
    names = pl.Series(sorted(spans), dtype=pl.String)
    files = await history_files(stores.lake, view, start, end)
    columns = pa.schema([offline_schema(view).field(name) for name in ROW_KEY])
    times: dict[tuple[int, int], list[str]] = {}
    for row in (await asyncio.to_thread(files.rows, columns, names)).to_pylist():
        at, created = to_micros(row["event_timestamp"]), to_micros(row["created"])
        first, last = spans[row["entity"]]
        if first <= at < last + lookback:
            times.setdefault((at, created), []).append(row["entity"])
    if times:
        archive = await open_archive(stores, start - timedelta(microseconds=lookback), end)
        change = await asyncio.to_thread(_replacement, view, archive, times)
        days = utc_day(from_micros(min(times)[0])), utc_day(from_micros(max(times)[0]))
        await stores.lake.rewrite(table_name(view), change, *days)
        await restore_entities(stores, view, sorted({e for es in times.values() for e in es}))
    return sum(map(len, times.values()))


def _replacement(
    view: View, archive: Archive, times: Mapping[tuple[int, int], Sequence[str]]
) -> Callable[[pa.RecordBatch], pa.RecordBatch | None]:
    """Replaces rows by those computed again.

    Args:
        view: A batch view.
        archive: The events that its rows read.
        times: Event time and created time of rows → their entities.
    """
    old, new = [], [offline_schema(view).empty_table()]
    own = archive.events_of(view, sorted({e for entities in times.values() for e in entities}))
    with open_engine() as con:
        con.register("own", own)
        for (at, created), entities in times.items():
            accepted = accepted_until("own", created)
            new.append(aggregate(con, view, accepted, at, created, entities=entities))
            old += [(entity, from_micros(at), from_micros(created)) for entity in entities]
    schema = {"entity": pl.String} | dict.fromkeys(ROW_KEY[1:], pl.Datetime("us", "UTC"))
    gone = pl.DataFrame(old, schema=schema, orient="row").unique()
    rows = pl.DataFrame(pl.from_arrow(stored_rows(view, pa.concat_tables(new))))

    def change(batch: pa.RecordBatch) -> pa.RecordBatch | None:
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
        here = frame.join(gone, on=ROW_KEY, how="semi").select(ROW_KEY).unique()
        if here.is_empty():
            return None
        kept = frame.join(gone, on=ROW_KEY, how="anti")
        added = rows.join(here, on=ROW_KEY, how="semi")
        added = added.with_columns(date=pl.lit(frame["date"][0]))
        both = pl.concat([kept, added], how="diagonal").select(frame.columns)
        table = both.to_arrow().cast(batch.schema).combine_chunks()
        batches = table.to_batches()
        return batches[0] if batches else batch.slice(0, 0)

    return change
