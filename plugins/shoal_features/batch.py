"""The batch side: the features of every entity as of a moment, into the offline table
and then online.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa

from . import offline
from .aggregation import aggregate, engine, lookback, schema
from .extraction import occurrence, reads
from .ingest import GRACE, computed
from .online import Row, apply, write
from .registry import View
from .values import micros, moment, pack
from .windows import SKEW, Plan

EVENTS_PER_PART = 50_000_000
"""Events that one part of the work takes at once. Each part reads them all, so few
large ones are faster; the engine keeps to its memory.
"""

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Written:
    """What one computation did: rows that the view has as of the moment, how many of
    them are new or changed offline, and how many values took effect online.
    """

    rows: int
    changed: int
    online: int


async def compute(
    stores: Any,
    view: View,
    as_of: datetime,
    *,
    online: bool = True,
    progress: Progress | None = None,
) -> Written:
    """Compute a batch view as of a moment. Doing it again changes nothing; after late
    events it writes what they change.

    The offline table is written at once at the end, and an entity's online values by
    one atomic script each, so a process killed half-way leaves every value whole, old
    or new.
    """
    moment_us, now = micros(as_of), time.time_ns() // 1000
    archive = await offline.events(stores, as_of - timedelta(seconds=lookback(view)), as_of)
    if not archive.count():
        return Written(0, 0, 0)
    parts = 1 + archive.count() // EVENTS_PER_PART

    def part(k: int) -> pa.Table:
        with engine() as con:
            return aggregate(con, view, archive.relation(con), moment_us, now, (k, parts))

    tables = [schema(view).empty_table()]
    async for table in in_parts(part, parts):
        tables.append(table.cast(schema(view)))
        if progress:
            progress(min(len(tables) - 1, parts), parts, view.name)
    rows, changed = await offline.append_changes(stores.lake, view, pa.concat_tables(tables))
    values = 0
    if online and rows.num_rows:
        values = await write(stores.online, view, packed(view, rows), now)
        await computed(stores.online, view, moment_us, now)
    return Written(rows.num_rows, changed, values)


async def in_parts(part: Callable[[int], pa.Table], parts: int) -> AsyncIterator[pa.Table]:
    """The results of `part(0) … part(parts - 1)`, in any order and perhaps in pieces,
    by Ray Data when there are several. They come one by one: what is not asked for yet
    is not held here.
    """
    with ThreadPoolExecutor(1) as thread:  # always the same one, since the iterator is Ray's
        found, loop = _worked(part, parts), asyncio.get_running_loop()
        while (table := await loop.run_in_executor(thread, next, found, None)) is not None:
            yield table


def _worked(part: Callable[[int], pa.Table], parts: int) -> Iterator[pa.Table]:
    if parts == 1:
        yield part(0)
        return
    from ray.data import from_items

    numbers = from_items([{"part": k} for k in range(parts)], override_num_blocks=parts)
    worked = numbers.map_batches(lambda batch: part(int(batch["part"][0])), batch_size=1)
    yield from worked.iter_batches(batch_size=None, batch_format="pyarrow")


def packed(view: View, rows: pa.Table) -> Iterable[Row]:
    """The rows of an offline table as they are stored online."""
    times = [rows[n].cast(pa.int64()).to_pylist() for n in ("event_timestamp", "created")]
    columns = [rows[f.name].to_pylist() for f in view.features]
    for n, entity in enumerate(rows["entity"].to_pylist()):
        event, created = times[0][n], times[1][n]
        yield Row(
            entity,
            {
                f.name: pack(f.dtype, c[n], event, created)
                for f, c in zip(view.features, columns, strict=True)
            },
        )


async def restore(stores: Any, view: View, start: datetime, end: datetime) -> int:
    """Write the newest offline row of each entity with an event time in [start, end]
    online; how many values took effect.
    """
    rows = await offline.between(stores.lake, view, start, end, latest=True)
    return await write(stores.online, view, packed(view, rows), time.time_ns() // 1000)


async def rebuild(
    stores: Any, view: View, *, progress: Progress | None = None, size: int = 5_000
) -> int:
    """Bring a stream view's windows up from the archive: after new definitions, or a
    Redis that was lost. Harmless beside the running stream, since an event counts once.
    How many events were new.
    """
    now = time.time_ns() // 1000
    since = None if Plan.of(view).last else moment(now - (view.retention + GRACE) * 1_000_000)
    archive = await offline.events(stores, since)
    plan, fresh, done, total = Plan.of(view), 0, 0, archive.count()
    for batch in _batches(archive, size):
        seen = []
        for row in batch.to_pylist():
            event = _Event(row)
            if reads(view, event.type) and (one := occurrence(view, event, micros(event.time))):
                seen.append(one)
        soon = [o for o in seen if 0 <= o.time <= now + SKEW * 1_000_000]
        fresh += (await apply(stores.online, plan, soon, now, GRACE)).fresh if soon else 0
        done += batch.num_rows
        if progress:
            progress(done, total, view.name)
    return fresh


def _batches(archive: offline.Archive, size: int) -> Iterator[pa.RecordBatch]:
    columns = offline.EVENT.names
    if archive.paths:
        yield from archive.dataset().to_batches(columns=columns, batch_size=size)
    if archive.tail is not None:
        yield from archive.tail.select(columns).to_batches(max_chunksize=size)


class _Event:
    """An archived event with its data decoded."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.id, self.source, self.type = row["id"], row["source"], row["type"]
        self.subject: str | None = row["subject"]
        self.time: datetime = row["time"].astimezone(UTC)
        self.data = orjson.loads(row["data"]) if row["data"] else None
