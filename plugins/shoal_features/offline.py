"""The offline table of a view in the lake, where nothing is overwritten."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from .aggregation import IDENTITY, offline_schema
from .views import View

NULLS = pa.field("nulls:", pa.string())
"""The identities of the features that a row gives as null, separated by spaces.

It says nothing of a feature that is null and not among them: the view had none such.
"""

COLUMNS = ("entity", "event_timestamp", "created", "at", "known_by", NULLS.name)
"""Columns that are no feature's."""

CLOSE = 1e-9
"""Relative difference up to which two floats are equal: a sum depends on its order."""


def table_name(view: View) -> str:
    """The lake's table of a view.

    It is `features_` and the view's name, with a hash where the lake does not allow
    the name.
    """
    name = f"features_{view.name}"
    if re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        return name
    slug = re.sub(r"[^a-z0-9_]", "_", name.lower())[:52]
    return f"{slug}_{hashlib.sha256(view.name.encode()).hexdigest()[:8]}"


def stored_name(column: pa.Field) -> str:
    """The name of a column in the lake: a feature's has its identity, `n:1f0c33ab`.

    For a feature may be removed, and its name used again for something else. It also
    tells names apart that differ by case only, which the lake does not.
    """
    if column.name in COLUMNS:
        return str(column.name)
    return f"{column.name}:{column.metadata[IDENTITY].decode()}"


def utc_day(time: datetime) -> date:
    """The day in UTC that a time is on."""
    return time.astimezone(UTC).date()


@dataclass(frozen=True)
class ParquetFiles:
    """Parquet files that any process can read, in parts.

    Attributes:
        paths: The files, oldest first.
        filesystem: The pyarrow filesystem they are on.
    """

    paths: Sequence[str]
    filesystem: Any

    def dataset(self) -> ds.Dataset:
        """The files as one Arrow dataset."""
        return ds.dataset(list(self.paths), filesystem=self.filesystem, format="parquet")

    def row_count(self) -> int:
        """How many rows the files have together."""
        return int(self.dataset().count_rows()) if self.paths else 0

    def relation(self, con: duckdb.DuckDBPyConnection, name: str = "archive") -> str:
        """Make the files available to SQL; returns what to select from.

        DuckDB reads them by itself from a disk, and through Arrow from elsewhere.
        """
        if isinstance(self.filesystem, pafs.LocalFileSystem):
            quoted = ", ".join("'" + p.replace("'", "''") + "'" for p in self.paths)
            return f"read_parquet([{quoted}], union_by_name = true, hive_partitioning = false)"
        con.register(name, self.dataset())
        return name

    def rows(
        self, columns: pa.Schema, entities: pl.Series | None, part: tuple[int, int] = (0, 1)
    ) -> pa.Table:
        """Read rows in order, batch by batch, so memory is that of the rows read.

        Args:
            columns: The columns; null where a file lacks one. A feature's is stored as
                `stored_name` says.
            entities: Only these entities; None for all.
            part: (k, n): only the k-th of n parts of the entities.
        """
        kept = []
        for path in self.paths:
            dataset = ds.dataset([path], filesystem=self.filesystem, format="parquet")
            stored = {f.name: stored_name(f) for f in columns}
            present = {n: ds.field(s) for n, s in stored.items() if s in dataset.schema.names}
            for batch in dataset.to_batches(columns=present):
                mask = _row_mask(batch["entity"], entities, part)
                if mask is not None:
                    batch = batch.filter(mask)
                if batch.num_rows:
                    kept.append(_conform(pa.Table.from_batches([batch]), columns))
        return pa.concat_tables(kept) if kept else columns.empty_table()


def part_numbers(entities: pa.Array, n: int) -> pl.Series:
    """Which of n parts each entity is in; the same in every process."""
    series = pl.from_arrow(
        pa.chunked_array([entities]) if isinstance(entities, pa.Array) else entities
    )
    assert isinstance(series, pl.Series)
    return series.cast(pl.String).hash(seed=0) % n


async def history_files(
    lake: Any, view: View, first: datetime | None, last: datetime
) -> ParquetFiles:
    """The files with a view's values of event times from `first` to `last`.

    `first` None means from the beginning.
    """
    start = utc_day(first) if first else None
    paths = await lake.files(table_name(view), start, utc_day(last))
    return ParquetFiles(paths, lake.filesystem())


async def read_range(
    lake: Any, view: View, start: datetime | None, end: datetime | None, latest: bool = False
) -> pa.Table:
    """Read a view's rows with event times in [start, end].

    Args:
        lake: The tenant's lake.
        view: The view.
        start: None for the beginning.
        end: None for no end.
        latest: Only the newest row of each entity.
    """
    columns = offline_schema(view)
    table = await _read_between(lake, view, start, end, columns)
    return _newest(table, columns) if latest else table


async def read_newest(
    lake: Any,
    view: View,
    start: datetime | None,
    end: datetime | None,
    entities: pl.Series | None = None,
) -> list[tuple[list[str], pa.Table]]:
    """Each entity's newest row of those in [start, end] that give some features.

    Args:
        lake: The tenant's lake.
        view: The view.
        start: None for the beginning.
        end: None for no end.
        entities: Only these entities; None for all.

    Returns:
        Names of features, and the rows that are newest of those that give them.
    """
    columns = offline_schema(view)
    table = await _read_between(lake, view, start, end, columns.append(NULLS), entities)
    fields = [columns.field(f.name) for f in view.features]
    return [
        (names, _newest(table.filter(mask), columns))
        for mask, names in group_by_given(table, fields)
    ]


async def _read_between(
    lake: Any,
    view: View,
    start: datetime | None,
    end: datetime | None,
    columns: pa.Schema,
    entities: pl.Series | None = None,
) -> pa.Table:
    end = end or datetime(9999, 12, 30, tzinfo=UTC)
    table = (await history_files(lake, view, start, end)).rows(columns, entities)
    times = table["event_timestamp"]
    inside = pc.less_equal(times, pa.scalar(end, times.type))
    if start:
        inside = pc.and_(inside, pc.greater_equal(times, pa.scalar(start, times.type)))
    return table.filter(inside)


def _newest(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """The newest row of each entity."""
    if not table.num_rows:
        return table.select(columns.names)
    frame = pl.DataFrame(pl.from_arrow(table))
    frame = frame.sort("event_timestamp", "created", maintain_order=True)
    newest = frame.unique("entity", keep="last", maintain_order=True)
    return _conform(newest.to_arrow(), columns)


def group_by_given(
    rows: pa.Table, columns: Sequence[pa.Field]
) -> list[tuple[pa.ChunkedArray, list[str]]]:
    """Which rows give which features: masks of rows, and the features of each."""
    groups: dict[bytes, tuple[pa.ChunkedArray, list[str]]] = {}
    for column in columns:
        mask = _given_mask(rows, column)
        key = np.packbits(mask.to_numpy()).tobytes()
        groups.setdefault(key, (mask, []))[1].append(column.name)
    return list(groups.values())


def _given_mask(rows: pa.Table, column: pa.Field) -> pa.ChunkedArray:
    """Which rows, read with the column `NULLS`, give a feature, as null or not."""
    value = rows[column.name]
    if not value.null_count:
        return pa.chunked_array([pa.array(np.ones(rows.num_rows, bool))])
    identity = column.metadata[IDENTITY].decode()
    as_null = pc.fill_null(pc.match_substring(rows[NULLS.name], identity), False)
    return pc.or_(pc.is_valid(value), as_null)


async def append_rows(lake: Any, view: View, rows: pa.Table) -> int:
    """Write rows of a view's offline table, a commit per day of event time.

    Returns:
        How many rows.
    """
    rows = _conform(rows, offline_schema(view))
    days = pc.cast(rows["event_timestamp"], pa.date32())
    stored = stored_rows(view, rows)
    for day in sorted(set(days.to_pylist())):
        of_day = stored.filter(pc.equal(days, pa.scalar(day, pa.date32())))
        await lake.append(table_name(view), of_day, day)
    return int(rows.num_rows)


def stored_rows(view: View, rows: pa.Table) -> pa.Table:
    """Rows of a view as the lake has them, without their dates."""
    columns = offline_schema(view)
    nulls = [
        pc.if_else(pc.is_null(rows[f.name]), view.identity(f).hex(), "")
        for f in view.features
        if rows[f.name].null_count
    ]
    joined: Any = pa.nulls(rows.num_rows, NULLS.type)
    if nulls:
        # Not of nulls with `skip`, which leaves out rows of nulls alone (Arrow 26).
        joined = pc.binary_join_element_wise(*nulls, " ")
    rows = rows.rename_columns([stored_name(f) for f in columns])
    return rows.append_column(NULLS, joined)


async def append_changes(lake: Any, view: View, rows: pa.Table) -> tuple[pa.Table, int]:
    """Write those rows that differ from what was last written for their time.

    Computing a day again therefore changes nothing, and a correction keeps what was
    known before it.

    Args:
        lake: The tenant's lake.
        view: The view.
        rows: One per entity, all of one event time.

    Returns:
        The rows as they are now (unchanged ones keep their `created`), and how many
        were written.
    """
    if rows.num_rows == 0:
        return rows, 0
    time = rows["event_timestamp"][0].as_py()
    files = await history_files(lake, view, time, time)
    known = files.rows(offline_schema(view), None)
    times = known["event_timestamp"]
    known = known.filter(pc.equal(times, pa.scalar(time, times.type)))
    if not known.num_rows:
        return rows, await append_rows(lake, view, rows)
    frame = pl.DataFrame(pl.from_arrow(known)).sort("created", maintain_order=True)
    known = _conform(frame.unique("entity", keep="last").to_arrow(), offline_schema(view))
    changed = rows.filter(_changed_mask(view, rows, known))
    written = await append_rows(lake, view, changed) if changed.num_rows else 0
    kept = known.filter(pc.invert(pc.is_in(known["entity"], changed["entity"].combine_chunks())))
    return pa.concat_tables([kept, changed]), written


def _changed_mask(view: View, rows: pa.Table, known: pa.Table) -> pa.Array:
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
            tolerance = CLOSE * pl.max_horizontal(a.abs(), b.abs())
            equal = equal | ((a - b).abs() <= tolerance).fill_null(False)
        same = same & equal
    return both.select(~same).to_series().to_arrow()


def _row_mask(
    column: pa.Array, entities: pl.Series | None, part: tuple[int, int]
) -> pa.Array | None:
    """Which rows are of the entities and the part; None for all."""
    if entities is None and part[1] == 1:
        return None
    mask = pl.repeat(True, len(column), eager=True)
    if part[1] > 1:
        mask &= part_numbers(column, part[1]) == part[0]
    if entities is not None:
        series = pl.from_arrow(column)
        assert isinstance(series, pl.Series)
        mask &= series.is_in(entities.implode())
    return mask.to_arrow()


def _conform(table: pa.Table, columns: pa.Schema) -> pa.Table:
    arrays = [
        table[f.name].cast(f.type)
        if f.name in table.column_names
        else pa.nulls(table.num_rows, f.type)
        for f in columns
    ]
    return pa.Table.from_arrays(arrays, schema=columns)
