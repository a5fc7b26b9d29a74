"""Batch aggregation: a view's features of every entity as of a moment, from the archive
of events. DuckDB does the work, in bounded memory (it spills to a folder).
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from .extraction import columns, select
from .registry import Feature, View
from .windows import needed_type

HLL_ABOVE = 10_000
"""Distinct values of one entity past which they are estimated by HyperLogLog instead of
counted.
"""

DAY = 86_400
_ARROW = {
    "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32(), "float64": pa.float64(), "string": pa.string(),
    "bool": pa.bool_(), "unix_timestamp": pa.timestamp("us", "UTC"), "bytes": pa.binary(),
}  # fmt: skip
TIME = pa.timestamp("us", "UTC")
_SQL = {"int32": "INTEGER", "int64": "BIGINT", "float32": "FLOAT", "float64": "DOUBLE"}
_ZERO = ("count", "sum", "count_distinct")
"""Functions that give 0 of nothing."""


def arrow_type(dtype: str) -> pa.DataType:
    return pa.list_(_ARROW[dtype[:-2]]) if dtype.endswith("[]") else _ARROW[dtype]


def schema(view: View) -> pa.Schema:
    """The offline table of a view: entity, event_timestamp, created, and a column per
    feature.
    """
    head = [
        pa.field("entity", pa.string()),
        pa.field("event_timestamp", TIME),
        pa.field("created", TIME),
    ]
    return pa.schema(head + [pa.field(f.name, arrow_type(f.dtype)) for f in view.features])


@contextmanager
def engine(memory: str = "2GB", threads: int = 2) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that keeps to `memory` and spills beyond it."""
    with tempfile.TemporaryDirectory(prefix="shoal-features-") as folder:
        con = duckdb.connect(
            config={"memory_limit": memory, "threads": threads, "temp_directory": folder}
        )
        try:
            con.execute("SET TimeZone = 'UTC'")
            con.execute("SET enable_progress_bar = false")
            yield con
        finally:
            con.close()


def lookback(view: View) -> int:
    """Seconds of events that a row as of a moment depends on. An entity has a row for
    as long as a value from its last event can still be within its TTL (or for a week
    after its windows emptied, so that the drop to zero is written even if some nights
    fail).
    """
    return (view.retention or 366 * DAY) + (view.ttl or 7 * DAY)


def aggregate(
    con: duckdb.DuckDBPyConnection,
    view: View,
    relation: str,
    as_of: int,
    created: int,
    partition: tuple[int, int] = (0, 1),
    entities: Sequence[str] | None = None,
) -> pa.Table:
    """The rows of a view as of a moment (µs since 1970), in the order of the entities.

    `relation`: what to select the archived events from, such as `read_parquet([…])`.
    The window of a feature is `(as_of - window, as_of]`. Counts, sums and distinct
    counts of nothing are 0; everything else of nothing is null, and so is what does not
    fit the feature's type. A sum of integers is rounded, half to even. `partition` (k,
    n): only the k-th of n parts of the entities. `entities`: only these.
    """
    k, n = partition
    part = f"AND hash(entity) % {n} = {k}" if n > 1 else ""
    if entities is not None:
        con.register("wanted", pa.table({"entity": pa.array(entities, pa.string())}))
        part += " AND entity IN (SELECT entity FROM wanted)"
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE occurrences AS SELECT * FROM ({select(view, relation)}) "
        f"WHERE ts > {as_of - lookback(view) * 1_000_000} AND ts <= {as_of} {part}"
    )
    aggregates = [
        f"{_aggregate(view, f, as_of)} AS {_name(f)}"
        for f in view.features
        if f.function != "count_distinct"
    ]
    query = f"SELECT {', '.join(['entity', *aggregates])} FROM occurrences GROUP BY entity"
    for feature in view.features:
        if feature.function == "count_distinct":
            query = f"SELECT * FROM ({query}) LEFT JOIN ({_distinct(con, view, feature, as_of)}) USING (entity)"
    values = ", ".join(f"{_fitted(f, _name(f))} AS {_name(f)}" for f in view.features)
    head = f"entity, make_timestamptz({as_of}) AS event_timestamp, make_timestamptz({created}) AS created"
    table = con.sql(f"SELECT {head}, {values} FROM ({query}) ORDER BY entity").to_arrow_table()
    return table.cast(schema(view))


def _aggregate(view: View, feature: Feature, as_of: int) -> str:
    inside = _inside(feature, as_of)
    if not feature.column:
        return f"count(*) FILTER ({inside})"
    c = _column(view, feature)
    where = f"FILTER ({inside} AND {c} IS NOT NULL)"
    if feature.function == "last":
        return f"arg_max({c}, (ts, member)) {where}"
    return f"{'avg' if feature.function == 'mean' else feature.function}({c}) {where}"


def _fitted(feature: Feature, raw: str) -> str:
    """An aggregate as a value of the feature's type; `values.fitted` is the same for
    what is computed online.
    """
    value = f"coalesce({raw}, 0)" if feature.function in _ZERO else raw
    if feature.dtype not in _SQL:
        return value
    value = f"try_cast({value} AS {_SQL[feature.dtype]})"  # DuckDB rounds half to even here, and `round` does not
    return (
        f"CASE WHEN isfinite({value}) THEN {value} END"
        if feature.dtype.startswith("float")
        else value
    )


def _distinct(con: duckdb.DuckDBPyConnection, view: View, feature: Feature, as_of: int) -> str:
    """Exact for the entities that an estimate shows to be small, so that memory is
    bounded by the small ones.
    """
    c, inside = _column(view, feature), _inside(feature, as_of)
    table = f'"estimate {feature.name}"'
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT entity, approx_count_distinct({c}) AS n "
        f"FROM occurrences WHERE {inside} GROUP BY entity"
    )
    exact = (
        f"SELECT entity, count(DISTINCT {c}) AS n FROM occurrences WHERE {inside} "
        f"AND entity IN (SELECT entity FROM {table} WHERE n <= {HLL_ABOVE}) GROUP BY entity"
    )
    return f"SELECT entity, n AS {_name(feature)} FROM {table} WHERE n > {HLL_ABOVE} UNION ALL ({exact})"


def _inside(feature: Feature, as_of: int) -> str:
    return f"ts > {as_of - feature.window * 1_000_000}" if feature.window else "true"


def _column(view: View, feature: Feature) -> str:
    """What the feature takes from an event; a number that is too large for a float32 is
    none.
    """
    dtype = needed_type(feature)
    c = f"c{columns(view).index((feature.column, dtype))}"
    return f"try_cast({c} AS FLOAT)" if dtype == "float32" else c


def _name(feature: Feature) -> str:
    return f'"{feature.name}"'


def values_at(
    con: duckdb.DuckDBPyConnection, view: View, relation: str, rows: pa.Table
) -> pa.Table:
    """A stream view's features as of each row's own moment: what the sliding windows
    held at that time.

    `rows`: columns `row` (int), `entity` (string) and `ts` (µs since 1970). The answer
    has `row`, `event_timestamp` (of the entity's newest event at or before `ts`) and a
    column per feature, in the order of `row`; null where the entity had no event yet or
    its newest was older than the TTL. A `last` without a window expires by its own
    event, as online.
    """
    con.register("asked", rows)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE occurrences AS SELECT * FROM "
        f"({select(view, relation)}) SEMI JOIN asked USING (entity)"
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE seen AS SELECT row, asked.entity AS entity, asked.ts AS t, o.ts AS newest "
        "FROM asked ASOF LEFT JOIN (SELECT DISTINCT entity, ts FROM occurrences) o ON asked.entity = o.entity AND asked.ts >= o.ts"
    )
    alive = "newest IS NOT NULL" + (
        f" AND t - newest <= {view.ttl * 1_000_000}" if view.ttl else ""
    )
    query = f"SELECT row, newest, {alive} AS alive FROM seen"
    for i, feature in enumerate(view.features):
        query = f"SELECT * FROM ({query}) LEFT JOIN ({_at(view, feature, f'v{i}')}) USING (row)"
    values = ", ".join(
        f"CASE WHEN alive THEN {_fitted(f, f'v{i}')} END AS {_name(f)}"
        for i, f in enumerate(view.features)
    )
    table = con.sql(
        f"SELECT row, make_timestamptz(newest) AS event_timestamp, {values} FROM ({query}) ORDER BY row"
    )
    head = [pa.field("row", pa.int64()), pa.field("event_timestamp", TIME)]
    return table.to_arrow_table().cast(pa.schema(head + list(schema(view))[3:]))


def _at(view: View, feature: Feature, name: str) -> str:
    """One feature per row of `seen`, for the rows that have something in the window."""
    if feature.function == "last":
        c = _column(view, feature)
        within = "true"
        if feature.window:
            within = f"t - o.ts < {feature.window * 1_000_000}"
        elif view.ttl:
            within = f"t - o.ts <= {view.ttl * 1_000_000}"
        newest = f"SELECT entity, ts, arg_max({c}, member) AS {name} FROM occurrences WHERE {c} IS NOT NULL GROUP BY entity, ts"
        return (
            f"SELECT row, {name} FROM seen ASOF JOIN ({newest}) o "
            f"ON seen.entity = o.entity AND seen.t >= o.ts WHERE {within}"
        )
    c = _column(view, feature) if feature.column else "1"
    how = {"count": "count", "mean": "avg", "count_distinct": "count"}.get(
        feature.function or "", feature.function
    )
    distinct = "DISTINCT " if feature.function == "count_distinct" else ""
    return (
        f"SELECT row, {how}({distinct}{c}) AS {name} FROM seen JOIN occurrences o ON seen.entity = o.entity "
        f"AND o.ts <= seen.t AND o.ts > seen.t - {(feature.window or 0) * 1_000_000} WHERE {c} IS NOT NULL GROUP BY row"
    )


def accepted_by(relation: str, known: int) -> str:
    """What of an archive the log had accepted by a moment (µs since 1970): an event's
    `position` begins with the millisecond of its acceptance.
    """
    return f"(SELECT * FROM {relation} WHERE CAST(split_part(position, '-', 1) AS BIGINT) <= {known // 1000})"


def relation_of(con: duckdb.DuckDBPyConnection, source: Any, name: str = "archive") -> str:
    """Make an Arrow table or dataset selectable, and how to name it in `relation`."""
    con.register(name, source)
    return name
