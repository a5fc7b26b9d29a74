"""Features as they were at the times of entity rows.

They come from the offline tables, and for stream views from the archive of events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .aggregation import TIME, arrow_type, offline_schema, open_engine, values_at
from .archive import Archive, accepted_until, open_archive
from .asof import as_of
from .extraction import event_rows_sql
from .offline import NULLS, ParquetFiles, group_by_given, history_files, part_numbers
from .values import to_micros
from .views import Feature, View

ENTITY_ROWS = pa.schema([("entity", pa.string()), ("at", TIME), ("known_by", TIME)])
"""The columns of entity rows; the last only where each row has its own cutoff."""

ROWS_PER_PART = 4_000_000
"""Rows of history that one part reads: about a gigabyte at twenty features."""

MAX_ENTITIES_TO_FILTER = 100_000
"""Entities of a part up to which its history is filtered by them while it is read."""


@dataclass(frozen=True)
class HistoricalQuery:
    """Features of one entity type at the times of some rows, and the files to read.

    It can be pickled: each part runs in a process of its own.

    Attributes:
        features: The features with their views.
        rows: Columns `entity` (string) and `at` (timestamp), and `known_by` (timestamp)
            with `cutoff`; a table, or files where they are too many for memory.
        tables: Name of a view → the files of its offline table.
        archive: The events, where there are stream views.
        known_by: One cutoff for all rows.
        cutoff: Whether each row has its own cutoff.
        parts: How many parts the query is cut into, by entity.
    """

    features: tuple[tuple[View, Feature], ...]
    rows: pa.Table | ParquetFiles
    tables: dict[str, ParquetFiles]
    archive: Archive | None
    known_by: datetime | None = None
    cutoff: bool = False
    parts: int = 1

    def run_part(self, k: int) -> pa.Table:
        """The rows of the k-th part with a column per feature.

        Where the rows are a table, `row` is the position of each in it.
        """
        if isinstance(self.rows, ParquetFiles):
            columns = ENTITY_ROWS if self.cutoff else ENTITY_ROWS.remove(2)
            rows = self.rows.rows(columns, None, (k, self.parts))
        else:
            positions = pa.array(np.arange(self.rows.num_rows, dtype=np.int64))
            rows = self.rows.append_column("row", positions)
            if self.parts > 1:
                rows = rows.filter((part_numbers(rows["entity"], self.parts) == k).to_arrow())
        result = rows
        for view in dict.fromkeys(v for v, _ in self.features):
            names = [f.name for v, f in self.features if v is view]
            if view.kind == "stream":
                values = self._count_windows(view, rows)
            else:
                values = self._join(view, names, rows, k)
            for name in names:
                result = result.append_column(name, values[name])
        return result

    def run(self) -> pa.Table:
        """All rows of a table in their order, with a column per feature."""
        assert isinstance(self.rows, pa.Table)
        names = [f.name for _, f in self.features]
        whole = pa.concat_tables(self.run_part(k) for k in range(self.parts)).sort_by("row")
        return whole.drop_columns("row").select([*self.rows.column_names, *names])

    def _join(self, view: View, names: Sequence[str], rows: pa.Table, k: int) -> pa.Table:
        entities = pl.from_arrow(rows["entity"])
        assert isinstance(entities, pl.Series)
        wanted = {"entity", "event_timestamp", "created", *names}
        columns = pa.schema([f for f in offline_schema(view) if f.name in wanted] + [NULLS])
        few = entities.unique() if len(entities) <= MAX_ENTITIES_TO_FILTER else None
        history = self.tables[view.name].rows(columns, few, (k, self.parts))
        known_by = "known_by" if self.cutoff else self.known_by
        found: dict[str, pa.ChunkedArray] = {}
        for mask, some in group_by_given(history, [columns.field(n) for n in names]):
            joined = as_of(rows, history.filter(mask), some, view.ttl, known_by)
            found |= {name: joined[name] for name in some}
        return pa.table(found)

    def _count_windows(self, view: View, rows: pa.Table) -> pa.Table:
        if self.archive is None or not self.archive.count() or not rows.num_rows:
            return pa.table(
                {f.name: pa.nulls(rows.num_rows, arrow_type(f.dtype)) for f in view.features}
            )
        numbered = pa.table(
            {
                "row": np.arange(rows.num_rows, dtype=np.int64),
                "entity": rows["entity"],
                "ts": rows["at"].cast(TIME).cast(pa.int64()),
            }
        )
        with open_engine() as con:
            relation = self.archive.relation(con)
            if self.known_by is not None:
                relation = accepted_until(relation, to_micros(self.known_by))
            return values_at(con, view, relation, numbered)


async def plan_query(
    stores: Any,
    features: Sequence[tuple[View, Feature]],
    rows: pa.Table | ParquetFiles,
    *,
    known_by: datetime | None = None,
    cutoff: bool = False,
) -> HistoricalQuery:
    """Find the files that a query needs, and cut it into parts.

    Args:
        stores: The tenant's stores.
        features: The features with their views.
        rows: The entity rows (see `HistoricalQuery`).
        known_by: One cutoff for all rows.
        cutoff: Whether each row has its own cutoff, in the column `known_by`.

    Raises:
        ValueError: For a cutoff per row with features of stream views.
    """
    streams = [v for v, _ in features if v.kind == "stream"]
    if cutoff and streams:
        raise ValueError(
            f"a `known_by` per row is not supported for the stream view {streams[0].name}:"
            " give one for all rows"
        )
    count, bounds = _count_and_bounds(rows)
    tables, largest = {}, 0
    if bounds is None:
        tables = {v.name: ParquetFiles((), stores.lake.filesystem()) for v, _ in features}
    else:
        earliest, latest = bounds
        for view in dict.fromkeys(v for v, _ in features if v.kind != "stream"):
            first = earliest - timedelta(seconds=view.ttl) if view.ttl else None
            files = await history_files(stores.lake, view, first, latest)
            tables[view.name] = files
            largest = max(largest, files.row_count())
    archive = await open_archive(stores) if streams else None
    parts = 1 + max(largest, count) // ROWS_PER_PART
    return HistoricalQuery(tuple(features), rows, tables, archive, known_by, cutoff, parts)


async def all_entities(
    stores: Any, features: Sequence[tuple[View, Feature]], at: datetime
) -> pa.Table:
    """Entity rows, at one time, for all entities with any value or event until then."""
    found: list[pa.Table] = []
    for view in dict.fromkeys(v for v, _ in features):
        if view.kind == "stream":
            found += await _entities_of_events(stores, view, at)
        else:
            found += await _entities_of_rows(stores, view, at)
    if not found:
        return pa.table({"entity": pa.array([], pa.string()), "at": pa.array([], TIME)})
    entities = pa.concat_tables(found).group_by("entity").aggregate([]).sort_by("entity")["entity"]
    return pa.table({"entity": entities, "at": pa.array([at] * len(entities), TIME)})


def _count_and_bounds(
    rows: pa.Table | ParquetFiles,
) -> tuple[int, tuple[datetime, datetime] | None]:
    """How many entity rows there are, and their earliest and latest times."""
    if isinstance(rows, ParquetFiles):
        batches = rows.dataset().to_batches(columns=["at"]) if rows.paths else ()
        ends = [pc.min_max(batch["at"]).as_py() for batch in batches if batch.num_rows]
        count = rows.row_count()
    else:
        ends = [pc.min_max(rows["at"]).as_py()] if rows.num_rows else []
        count = rows.num_rows
    if not ends:
        return count, None
    return count, (min(e["min"] for e in ends), max(e["max"] for e in ends))


async def _entities_of_events(stores: Any, view: View, at: datetime) -> list[pa.Table]:
    archive = await open_archive(stores)
    if not archive.count():
        return []
    with open_engine() as con:
        rows = event_rows_sql(view, archive.relation(con))
        query = f"SELECT DISTINCT entity FROM ({rows}) WHERE ts <= {to_micros(at)}"
        return [con.sql(query).to_arrow_table()]


async def _entities_of_rows(stores: Any, view: View, at: datetime) -> list[pa.Table]:
    files = await history_files(stores.lake, view, None, at)
    until = pc.field("event_timestamp") <= pa.scalar(at, TIME)
    found = []
    for path in files.paths:  # one by one, since their columns may differ
        dataset = ParquetFiles([path], files.filesystem).dataset()
        table = dataset.to_table(columns=["entity"], filter=until)
        found.append(table.group_by("entity").aggregate([]))
    return found
