"""What was known when: the features of entity rows at their own times, from the offline
tables and the archive of events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from . import aggregation, offline
from .asof import as_of
from .extraction import select
from .registry import Feature, View
from .values import micros

TIME = pa.timestamp("us", "UTC")
ASKED = pa.schema([("entity", pa.string()), ("at", TIME), ("known_by", TIME)])
"""The columns of entity rows; the last only where each row has its own cutoff."""

ROWS_PER_PART = 4_000_000
"""Rows of history that one part works on at once: about a gigabyte at twenty features.
"""


@dataclass(frozen=True)
class Question:
    """Some features of one entity type at the times of some rows, and the files that
    know. Can be pickled: each part of it is answered in a process of its own.

    `rows`: columns `entity` (string) and `at` (timestamp), and `known_by` (timestamp)
    where `cutoff` is True, when each row may use only what was known by its own cutoff;
    a table, or files where they are too many for memory.
    """

    features: tuple[tuple[View, Feature], ...]
    rows: pa.Table | offline.Files
    tables: dict[str, offline.Files]
    archive: offline.Archive | None
    known_by: datetime | None = None
    cutoff: bool = False
    parts: int = 1

    def part(self, k: int) -> pa.Table:
        """The rows of the k-th part with a column per feature; from a table also `row`,
        the row's position in it.
        """
        if isinstance(self.rows, offline.Files):
            wanted = ASKED if self.cutoff else ASKED.remove(2)
            rows = self.rows.rows(wanted, None, (k, self.parts))
        else:
            rows = self.rows.append_column(
                "row", pa.array(np.arange(self.rows.num_rows, dtype=np.int64))
            )
            if self.parts > 1:
                rows = rows.filter((offline.parts_of(rows["entity"], self.parts) == k).to_arrow())
        answer = rows
        for view in dict.fromkeys(v for v, _ in self.features):
            names = [f.name for v, f in self.features if v is view]
            found = (
                self._windows(view, rows)
                if view.kind == "stream"
                else self._joined(view, names, rows, k)
            )
            for name in names:
                answer = answer.append_column(name, found[name])
        return answer

    def answer(self) -> pa.Table:
        """All rows of a table in their order with a column per feature, worked out
        here, part by part.
        """
        assert isinstance(self.rows, pa.Table)
        names = [f.name for _, f in self.features]
        whole = pa.concat_tables(self.part(k) for k in range(self.parts)).sort_by("row")
        return whole.drop_columns("row").select([*self.rows.column_names, *names])

    def _joined(self, view: View, names: Sequence[str], rows: pa.Table, k: int) -> pa.Table:
        entities = pl.from_arrow(rows["entity"])
        assert isinstance(entities, pl.Series)
        wanted = aggregation.schema(view)
        wanted = pa.schema(
            [f for f in wanted if f.name in ("entity", "event_timestamp", "created", *names)]
        )
        few = entities.unique() if len(entities) <= 100_000 else None
        history = self.tables[view.name].rows(wanted, few, (k, self.parts))
        known_by = "known_by" if self.cutoff else self.known_by
        return as_of(rows, history, names, view.ttl, known_by)

    def _windows(self, view: View, rows: pa.Table) -> pa.Table:
        if self.archive is None or not self.archive.count() or not rows.num_rows:
            return pa.table(
                {
                    f.name: pa.nulls(rows.num_rows, aggregation.arrow_type(f.dtype))
                    for f in view.features
                }
            )
        asked = pa.table(
            {
                "row": np.arange(rows.num_rows, dtype=np.int64),
                "entity": rows["entity"],
                "ts": rows["at"].cast(TIME).cast(pa.int64()),
            }
        )
        with aggregation.engine() as con:
            relation = self.archive.relation(con)
            if self.known_by is not None:
                relation = aggregation.accepted_by(relation, micros(self.known_by))
            return aggregation.values_at(con, view, relation, asked)


async def question(
    stores: Any,
    features: Sequence[tuple[View, Feature]],
    rows: pa.Table | offline.Files,
    *,
    known_by: datetime | None = None,
    cutoff: bool = False,
) -> Question:
    """Find the files that a question needs. Raises ValueError for a cutoff per row with
    features of stream views.
    """
    streams = [v for v, _ in features if v.kind == "stream"]
    if cutoff and streams:
        raise ValueError(
            f"a `known_by` per row cannot be had for the stream view {streams[0].name}: give one for all rows"
        )
    tables, largest = {}, 0
    if isinstance(rows, offline.Files):
        ends = (
            [
                pc.min_max(t["at"]).as_py()
                for t in rows.dataset().to_batches(columns=["at"])
                if t.num_rows
            ]
            if rows.paths
            else []
        )
        count = rows.dataset().count_rows() if rows.paths else 0
    else:
        ends, count = [pc.min_max(rows["at"]).as_py()] if rows.num_rows else [], rows.num_rows
    if ends:
        bounds = {"min": min(e["min"] for e in ends), "max": max(e["max"] for e in ends)}
        for view in dict.fromkeys(v for v, _ in features if v.kind != "stream"):
            first = bounds["min"] - timedelta(seconds=view.ttl) if view.ttl else None
            tables[view.name] = files = await offline.history(
                stores.lake, view, first, bounds["max"]
            )
            largest = max(largest, files.dataset().count_rows() if files.paths else 0)
    else:
        tables = {v.name: offline.Files((), stores.lake.filesystem()) for v, _ in features}
    archive = await offline.events(stores) if streams else None
    parts = 1 + max(largest, count) // ROWS_PER_PART
    return Question(tuple(features), rows, tables, archive, known_by, cutoff, parts)


async def everyone(stores: Any, features: Sequence[tuple[View, Feature]], at: datetime) -> pa.Table:
    """Entity rows for all entities that had any value or event by a moment, at that
    moment.
    """
    found: list[pa.Table] = []
    for view in dict.fromkeys(v for v, _ in features):
        if view.kind == "stream":
            archive = await offline.events(stores)
            if archive.count():
                with aggregation.engine() as con:
                    query = select(view, archive.relation(con))
                    found.append(
                        con.sql(
                            f"SELECT DISTINCT entity FROM ({query}) WHERE ts <= {micros(at)}"
                        ).to_arrow_table()
                    )
        else:
            files = await offline.history(stores.lake, view, None, at)
            for path in files.paths:
                one = (
                    offline.Files([path], files.filesystem)
                    .dataset()
                    .to_table(
                        columns=["entity"],
                        filter=pc.field("event_timestamp") <= pa.scalar(at, TIME),
                    )
                )
                found.append(one.group_by("entity").aggregate([]))
    if not found:
        return pa.table({"entity": pa.array([], pa.string()), "at": pa.array([], TIME)})
    entities = pa.concat_tables(found).group_by("entity").aggregate([]).sort_by("entity")["entity"]
    return pa.table({"entity": entities, "at": pa.array([at] * len(entities), TIME)})
