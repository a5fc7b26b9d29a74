"""The batch side: all entities' features as of a time, offline and then online."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from . import keys, offline
from .aggregation import TIME, aggregate, lookback_seconds, offline_schema, open_engine
from .archive import Archive, open_archive
from .ingest import GRACE, event_rows, put_off, record_computation
from .online import OnlineRow, apply_events, write_rows
from .values import from_micros, pack, to_micros
from .views import View
from .windows import MAX_AHEAD, WindowPlan

EVENTS_PER_PART = 50_000_000
"""Events that one part of the work reads. Every part reads them all, so few large parts
are faster; the engine bounds the memory.
"""


@dataclass(frozen=True)
class ComputeResult:
    """What one computation of a view did.

    Attributes:
        rows: How many rows the view has as of the time.
        changed: How many of them are new or changed offline.
        online: How many values were written online.
    """

    rows: int
    changed: int
    online: int


async def compute_view(
    stores: Any, view: View, as_of: datetime, *, online: bool = True
) -> ComputeResult:
    """Compute a batch view as of a time.

    It is done again where events were retracted or an entity was erased meanwhile.
    Running it again changes nothing; after late events it writes what they change.

    The offline rows appear at once at the end, and each entity's online values change
    in one atomic script, so a process that is killed leaves every value whole.

    Args:
        stores: The tenant's stores.
        view: A batch view.
        as_of: The time.
        online: Whether to write the values online as well.
    """
    while True:
        before, now = await stores.online.get(keys.RETRACTIONS), time.time_ns() // 1000
        result, rows = await _compute_once(stores, view, as_of, online, now)
        if await stores.online.get(keys.RETRACTIONS) == before:
            return result
        await _take_back(stores, view, rows, as_of, now)


async def _compute_once(
    stores: Any, view: View, as_of: datetime, online: bool, now: int
) -> tuple[ComputeResult, pa.Table]:
    as_of_us = to_micros(as_of)
    archive = await open_archive(stores, as_of - timedelta(seconds=lookback_seconds(view)), as_of)
    schema = offline_schema(view)
    if not archive.count():
        return ComputeResult(0, 0, 0), schema.empty_table()
    parts = 1 + archive.count() // EVENTS_PER_PART

    def compute_part(k: int) -> pa.Table:
        with open_engine() as con:
            return aggregate(con, view, archive.relation(con), as_of_us, now, (k, parts))

    tables = [schema.empty_table()]
    async for table in run_parts(compute_part, parts):
        tables.append(table.cast(schema))
    rows, changed = await offline.append_changes(stores.lake, view, pa.concat_tables(tables))
    values = 0
    if online and rows.num_rows:
        values = await write_rows(stores.online, view, encode_rows(view, rows), now)
        await record_computation(stores.online, view, as_of_us, now)
    return ComputeResult(rows.num_rows, changed, values), rows


async def _take_back(stores: Any, view: View, rows: pa.Table, as_of: datetime, now: int) -> None:
    """Remove what a computation wrote that may have read retracted events."""
    at, created = pa.scalar(as_of, TIME), pa.scalar(from_micros(now), TIME)

    def change(batch: pa.RecordBatch) -> pa.RecordBatch | None:
        mine = pc.and_(pc.equal(batch["event_timestamp"], at), pc.equal(batch["created"], created))
        return batch.filter(pc.invert(mine)) if pc.any(mine).as_py() else None

    day = offline.utc_day(as_of)
    await stores.lake.rewrite(offline.table_name(view), change, day, day)
    own = rows.filter(pc.equal(rows["created"], created))["entity"].to_pylist()
    await restore_entities(stores, view, own)


async def restore_entities(stores: Any, view: View, entities: Sequence[str]) -> int:
    """Put what the offline table has of some entities in place of what is online.

    Returns:
        How many values were written.
    """
    if not entities:
        return 0
    pipe = stores.online.pipeline()
    for entity in entities:
        pipe.hdel(keys.values(view.entity, entity), *(f.name for f in view.features))
    await pipe.execute()
    now, written, wanted = time.time_ns() // 1000, 0, pl.Series(list(entities), dtype=pl.String)
    for names, rows in await offline.read_newest(stores.lake, view, None, None, wanted):
        encoded = encode_rows(view, rows, names)
        written += await write_rows(stores.online, view, encoded, now)
    return written


async def run_parts(part: Callable[[int], pa.Table], parts: int) -> AsyncIterator[pa.Table]:
    """The results of `part(0) … part(parts - 1)`, one by one, by Ray Data if several.

    They come in any order, perhaps in pieces; only one is in memory at a time.
    """
    with ThreadPoolExecutor(1) as thread:  # one thread, since the iterator belongs to Ray
        results, loop = _run_on_ray(part, parts), asyncio.get_running_loop()
        while (table := await loop.run_in_executor(thread, next, results, None)) is not None:
            yield table


def _run_on_ray(part: Callable[[int], pa.Table], parts: int) -> Iterator[pa.Table]:
    if parts == 1:
        yield part(0)
        return
    from ray.data import from_items

    numbers = from_items([{"part": k} for k in range(parts)], override_num_blocks=parts)
    results = numbers.map_batches(lambda batch: part(int(batch["part"][0])), batch_size=1)
    yield from results.iter_batches(batch_size=None, batch_format="pyarrow")


def encode_rows(
    view: View, rows: pa.Table, names: Collection[str] | None = None
) -> Iterable[OnlineRow]:
    """The rows of an offline table as they are stored online.

    `names`: only these features.
    """
    events, created = (rows[n].cast(pa.int64()).to_pylist() for n in ("event_timestamp", "created"))
    wanted = [f for f in view.features if names is None or f.name in names]
    columns = [(f, rows[f.name].to_pylist()) for f in wanted]
    for n, entity in enumerate(rows["entity"].to_pylist()):
        values = {
            f.name: pack(view.identity(f), f.dtype, c[n], events[n], created[n]) for f, c in columns
        }
        yield OnlineRow(entity, values)


async def restore_online(stores: Any, view: View, start: datetime, end: datetime) -> int:
    """Write each entity's newest offline row with an event time in [start, end] online.

    Returns:
        How many values replaced others or are new.
    """
    now, written = time.time_ns() // 1000, 0
    for names, rows in await offline.read_newest(stores.lake, view, start, end):
        encoded = encode_rows(view, rows, names)
        written += await write_rows(stores.online, view, encoded, now)
        if rows.num_rows:
            newest = to_micros(pc.max(rows["event_timestamp"]).as_py())
            await record_computation(stores.online, view, newest, now)
    return written


async def rebuild_windows(
    stores: Any,
    view: View,
    *,
    entities: Sequence[str] | None = None,
    batch_size: int = 5_000,
) -> int:
    """Fill a stream view's windows from the archive.

    For new definitions, or after Redis was lost. It may run beside the stream, since an
    event counts once.

    Args:
        stores: The tenant's stores.
        view: A stream view.
        entities: Only those of these entities; None for all.
        batch_size: Events that are read at once.

    Returns:
        How many events were new.
    """
    now = time.time_ns() // 1000
    plan = WindowPlan.of(view)
    since = None if plan.last else from_micros(now - (view.retention + GRACE) * 1_000_000)
    archive = await open_archive(stores, since)
    if entities is not None:
        own = await asyncio.to_thread(archive.events_of, view, entities)
        archive = Archive((), archive.filesystem, own)
    fresh = 0
    for batch in archive.batches(batch_size):
        events = (_ArchivedEvent(row) for row in batch.to_pylist())
        latest = now + MAX_AHEAD * 1_000_000
        rows = [row for row in event_rows(view, events) if row.time >= 0]
        due = [row for row in rows if row.time <= latest]
        result = await apply_events(stores.online, plan, due, now, GRACE)
        fresh += result.fresh
        ahead = [row for row in rows if row.time > latest]
        await put_off(stores.online, view, [*ahead, *result.future])
    return fresh


class _ArchivedEvent:
    """An archived event with its data decoded."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.id, self.source, self.type = row["id"], row["source"], row["type"]
        self.subject: str | None = row["subject"]
        self.time: datetime = row["time"].astimezone(UTC)
        self.data = orjson.loads(row["data"]) if row["data"] else None
