"""The offline table of a view in the lake, and the archive of events: both times of
every value are kept, nothing is overwritten.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from .aggregation import schema
from .registry import View

EVENTS = "events"
HEAD = ("entity", "event_timestamp", "created", "at", "known_by")
"""Columns that are no feature's."""
CLOSE = 1e-9
"""Relative difference below which two floats are one value: sums depend on the order of
their terms.
"""


def table_name(view: View) -> str:
    """The lake's table of a view: `features_` and its name, made unique where the
    lake's rules do not allow the name.
    """
    name = f"features_{view.name}"
    if re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        return name
    slug = re.sub(r"[^a-z0-9_]", "_", name.lower())[:52]
    return f"{slug}_{hashlib.sha256(view.name.encode()).hexdigest()[:8]}"


def day_of(time: datetime) -> date:
    return time.astimezone(UTC).date()


@dataclass(frozen=True)
class Files:
    """Parquet files that can be read in parts, in any process."""

    paths: Sequence[str]
    filesystem: Any

    def dataset(self) -> ds.Dataset:
        return ds.dataset(list(self.paths), filesystem=self.filesystem, format="parquet")

    def relation(self, con: duckdb.DuckDBPyConnection, name: str = "archive") -> str:
        """How DuckDB selects from them: by itself from a disk, through Arrow from
        elsewhere.
        """
        if isinstance(self.filesystem, pafs.LocalFileSystem):
            quoted = ", ".join("'" + p.replace("'", "''") + "'" for p in self.paths)
            return f"read_parquet([{quoted}], union_by_name = true, hive_partitioning = false)"
        con.register(name, self.dataset())
        return name

    def rows(
        self, columns: pa.Schema, entities: pl.Series | None, part: tuple[int, int] = (0, 1)
    ) -> pa.Table:
        """Their rows in order, with `columns` (null where a file is older than a column
        or its present type), of the given entities (all: None) in the k-th of n parts.
        Read batch by batch, so that memory is that of the rows kept.
        """
        kept = []
        for path in self.paths:
            dataset = ds.dataset([path], filesystem=self.filesystem, format="parquet")
            there = [f.name for f in columns if f.name in dataset.schema.names]
            for batch in dataset.to_batches(columns=there):
                chosen = _chosen(batch["entity"], entities, part)
                if chosen is not None:
                    batch = batch.filter(chosen)
                if batch.num_rows:
                    kept.append(_typed(pa.Table.from_batches([batch]), columns))
        return pa.concat_tables(kept) if kept else columns.empty_table()


def parts_of(entities: pa.Array, n: int) -> pl.Series:
    """Which of n parts each entity is in. The same in every process."""
    series = pl.from_arrow(
        pa.chunked_array([entities]) if isinstance(entities, pa.Array) else entities
    )
    assert isinstance(series, pl.Series)
    return series.cast(pl.String).hash(seed=0) % n


def _chosen(column: pa.Array, entities: pl.Series | None, part: tuple[int, int]) -> pa.Array | None:
    if entities is None and part[1] == 1:
        return None
    mask = pl.repeat(True, len(column), eager=True)
    if part[1] > 1:
        mask &= parts_of(column, part[1]) == part[0]
    if entities is not None:
        series = pl.from_arrow(column)
        assert isinstance(series, pl.Series)
        mask &= series.is_in(entities.implode())
    return mask.to_arrow()


def _typed(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """What a file holds under a name that had another type then is another feature's."""
    wrong = [
        f.name for f in table.schema if f.name not in HEAD and f.type != columns.field(f.name).type
    ]
    return _conform(table.drop_columns(wrong) if wrong else table, columns)


def _conform(table: pa.Table, columns: pa.Schema) -> pa.Table:
    arrays = [
        table[f.name].cast(f.type)
        if f.name in table.column_names
        else pa.nulls(table.num_rows, f.type)
        for f in columns
    ]
    return pa.Table.from_arrays(arrays, schema=columns)


async def history(lake: Any, view: View, first: datetime | None, last: datetime) -> Files:
    """The files that hold the view's values of event times from `first` (None: the
    beginning) to `last`.
    """
    start = day_of(first) if first else None
    return Files(await lake.files(table_name(view), start, day_of(last)), lake.filesystem())


@dataclass(frozen=True)
class Archive(Files):
    """The events of a tenant: what the lake has, and the end of the log that it does
    not have yet.
    """

    tail: pa.Table | None = None

    def relation(self, con: duckdb.DuckDBPyConnection, name: str = "archive") -> str:
        tail = self.tail if self.tail is not None else EVENT.empty_table()
        con.register(f"{name}_tail", tail)
        if not self.paths:
            return f"{name}_tail"
        return f"(SELECT * FROM {super().relation(con, name)} UNION ALL BY NAME SELECT * FROM {name}_tail)"

    def count(self) -> int:
        """How many events, duplicates included."""
        return (self.dataset().count_rows() if self.paths else 0) + (
            self.tail.num_rows if self.tail else 0
        )


async def events(
    stores: Any, since: datetime | None = None, until: datetime | None = None
) -> Archive:
    """The events that happened from the day of `since` to the day of `until`. Some may
    come twice.
    """
    lake = stores.lake
    every = Archive(await lake.files(EVENTS), lake.filesystem())
    days = await lake.files(
        EVENTS, day_of(since) if since else None, day_of(until) if until else None
    )
    after = "0"
    if every.paths:
        with duckdb.connect() as con:
            query = f"SELECT max(CAST(split_part(position, '-', 1) AS BIGINT)) FROM {every.relation(con)}"
            last = con.execute(query).fetchone()
        after = str(max((last[0] if last and last[0] else 1) - 1, 0))
    tail = [_row(position, event) async for position, event in stores.events.read(after)]
    return Archive(days, lake.filesystem(), pa.Table.from_pylist(tail, EVENT))


EVENT = pa.schema(
    [
        ("id", pa.string()), ("source", pa.string()), ("type", pa.string()), ("time", pa.timestamp("us", "UTC")),
        ("subject", pa.string()), ("data", pa.string()), ("position", pa.string()),
    ]
)  # fmt: skip
"""The columns of the lake's table `events` that are read here."""


def _row(position: str, event: Any) -> dict[str, Any]:
    return {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.time,
        "subject": event.subject,
        "data": orjson.dumps(event.data).decode(),
        "position": position,
    }


async def between(
    lake: Any, view: View, start: datetime | None, end: datetime | None, latest: bool = False
) -> pa.Table:
    """The rows of a view with event times in [start, end]; with `latest`, the newest of
    each entity alone.
    """
    end = end or datetime(9999, 12, 30, tzinfo=UTC)
    table = (await history(lake, view, start, end)).rows(schema(view), None)
    inside = pc.less_equal(table["event_timestamp"], pa.scalar(end, table["event_timestamp"].type))
    if start:
        inside = pc.and_(
            inside,
            pc.greater_equal(
                table["event_timestamp"], pa.scalar(start, table["event_timestamp"].type)
            ),
        )
    table = table.filter(inside)
    if latest and table.num_rows:
        frame = pl.DataFrame(pl.from_arrow(table)).sort(
            "event_timestamp", "created", maintain_order=True
        )
        table = _conform(
            frame.unique("entity", keep="last", maintain_order=True).to_arrow(), schema(view)
        )
    return table


async def append(lake: Any, view: View, rows: pa.Table) -> int:
    """Write rows of a view's offline table (see `aggregation.schema`), a file per day
    of event time. How many rows.
    """
    rows = _conform(rows, schema(view))
    days = pc.cast(rows["event_timestamp"], pa.date32())
    for day in sorted(set(days.to_pylist())):
        await lake.append(
            table_name(view), rows.filter(pc.equal(days, pa.scalar(day, pa.date32()))), day
        )
    return rows.num_rows


async def append_changes(lake: Any, view: View, rows: pa.Table) -> tuple[pa.Table, int]:
    """Write those of the rows (one per entity, all of one event time) that say
    something else than what was last written for that time, so that computing a day
    again changes nothing and a correction keeps what was believed before it. The rows
    as they now stand (unchanged ones keep their `created`), and how many were written.
    """
    if rows.num_rows == 0:
        return rows, 0
    time = rows["event_timestamp"][0].as_py()
    files = await history(lake, view, time, time)
    known = files.rows(schema(view), None)
    known = known.filter(
        pc.equal(known["event_timestamp"], pa.scalar(time, known["event_timestamp"].type))
    )
    if not known.num_rows:
        return rows, await append(lake, view, rows)
    newest = (
        pl.DataFrame(pl.from_arrow(known))
        .sort("created", maintain_order=True)
        .unique("entity", keep="last")
    )
    known = _conform(newest.to_arrow(), schema(view))
    changed = rows.filter(_changed(view, rows, known))
    written = await append(lake, view, changed) if changed.num_rows else 0
    kept = known.filter(pc.invert(pc.is_in(known["entity"], changed["entity"].combine_chunks())))
    return pa.concat_tables([kept, changed]), written


def _changed(view: View, rows: pa.Table, known: pa.Table) -> pa.Array:
    """Which rows differ from the known one of their entity."""
    names = [f.name for f in view.features]
    old = (
        pl.DataFrame(pl.from_arrow(known))
        .select("entity", *(pl.col(n).alias(f"old {n}") for n in names))
        .with_columns(known=True)
    )
    both = pl.DataFrame(pl.from_arrow(rows)).join(
        old, on="entity", how="left", maintain_order="left"
    )
    same = pl.col("known").fill_null(False)
    for name, feature in zip(names, view.features, strict=True):
        a, b = pl.col(name), pl.col(f"old {name}")
        equal = a.eq_missing(b)
        if feature.dtype in ("float32", "float64"):
            equal = equal | (
                (a - b).abs() <= CLOSE * pl.max_horizontal(a.abs(), b.abs())
            ).fill_null(False)
        same = same & equal
    return both.select(~same).to_series().to_arrow()
