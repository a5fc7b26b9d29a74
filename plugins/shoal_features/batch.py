"""The batch side: all entities' features as of a time, offline and then online."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa

from . import offline
from .aggregation import aggregate, lookback_seconds, offline_schema, open_engine
from .archive import open_archive
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

    Running it again changes nothing; after late events it writes what they change.

    The offline rows appear at once at the end, and each entity's online values change
    in one atomic script, so a process that is killed leaves every value whole.

    Args:
        stores: The tenant's stores.
        view: A batch view.
        as_of: The time.
        online: Whether to write the values online as well.
    """
    as_of_us, now = to_micros(as_of), time.time_ns() // 1000
    archive = await open_archive(stores, as_of - timedelta(seconds=lookback_seconds(view)), as_of)
    if not archive.count():
        return ComputeResult(0, 0, 0)
    parts = 1 + archive.count() // EVENTS_PER_PART

    def compute_part(k: int) -> pa.Table:
        with open_engine() as con:
            return aggregate(con, view, archive.relation(con), as_of_us, now, (k, parts))

    schema = offline_schema(view)
    tables = [schema.empty_table()]
    async for table in run_parts(compute_part, parts):
        tables.append(table.cast(schema))
    rows, changed = await offline.append_changes(stores.lake, view, pa.concat_tables(tables))
    values = 0
    if online and rows.num_rows:
        values = await write_rows(stores.online, view, encode_rows(view, rows), now)
        await record_computation(stores.online, view, as_of_us, now)
    return ComputeResult(rows.num_rows, changed, values)


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
    return written


async def rebuild_windows(stores: Any, view: View, *, batch_size: int = 5_000) -> int:
    """Fill a stream view's windows from the archive.

    For new definitions, or after Redis was lost. It may run beside the stream, since an
    event counts once.

    Returns:
        How many events were new.
    """
    now = time.time_ns() // 1000
    plan = WindowPlan.of(view)
    since = None if plan.last else from_micros(now - (view.retention + GRACE) * 1_000_000)
    archive = await open_archive(stores, since)
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
