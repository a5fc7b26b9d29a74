"""A view's features from the archive, computed by DuckDB in bounded memory."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from .extraction import event_rows_sql, read_columns, register_functions
from .views import YEAR, Feature, View
from .windows import required_type

HLL_ABOVE = 10_000
"""Distinct values of one entity above which HyperLogLog estimates their number."""

DAY = 86_400
IDENTITY = b"shoal_identity"
TIME = pa.timestamp("us", "UTC")
_ARROW = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "unix_timestamp": TIME,
    "bytes": pa.binary(),
}
_SQL = {"int32": "INTEGER", "int64": "BIGINT", "float32": "FLOAT", "float64": "DOUBLE"}
_SQL_FUNCTIONS = {"count_distinct": "count", "sum": "fsum", "mean": "favg"}
"""The functions of the engine. Sums keep what rounding lost, as they do online."""
_ZERO_WHEN_EMPTY = ("count", "sum", "count_distinct")


def arrow_type(dtype: str) -> pa.DataType:
    """The Arrow type of a feature's type."""
    return pa.list_(_ARROW[dtype[:-2]]) if dtype.endswith("[]") else _ARROW[dtype]


def offline_schema(view: View) -> pa.Schema:
    """The columns of a view's offline table.

    `entity`, `event_timestamp`, `created`, then a column per feature, whose metadata
    has its identity.
    """
    head = [
        pa.field("entity", pa.string()),
        pa.field("event_timestamp", TIME),
        pa.field("created", TIME),
    ]
    columns = [
        pa.field(f.name, arrow_type(f.dtype), metadata={IDENTITY: view.identity(f).hex()})
        for f in view.features
    ]
    return pa.schema(head + columns)


@contextmanager
def open_engine(memory: str = "2GB", threads: int = 2) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that uses at most `memory`, and spills to a temporary folder.

    It fetches no extension, which it otherwise does for a path such as `https://…`.
    """
    with tempfile.TemporaryDirectory(prefix="shoal-features-") as folder:
        con = duckdb.connect(
            config={
                "memory_limit": memory,
                "threads": threads,
                "temp_directory": folder,
                "autoinstall_known_extensions": False,
            }
        )
        try:
            con.execute("SET TimeZone = 'UTC'")
            register_functions(con)
            con.execute("SET enable_progress_bar = false")
            yield con
        finally:
            con.close()


def register_relation(con: duckdb.DuckDBPyConnection, source: Any, name: str = "archive") -> str:
    """Make an Arrow table or dataset available to SQL; returns what to select from."""
    con.register(name, source)
    return name


def lookback_seconds(view: View) -> int:
    """Seconds of events that a row as of a time depends on.

    An entity has a row for as long as a value of its last event can be within its TTL;
    without a TTL, for a week after its windows emptied, so the drop to zero is written
    even if some nightly runs fail.
    """
    return (view.retention or YEAR) + (view.ttl or 7 * DAY)


def aggregate(
    con: duckdb.DuckDBPyConnection,
    view: View,
    relation: str,
    as_of: int,
    created: int,
    partition: tuple[int, int] = (0, 1),
    entities: Sequence[str] | None = None,
) -> pa.Table:
    """Compute a view as of a time.

    The window of a feature is `(as_of - window, as_of]`. Counts, sums and distinct
    counts of nothing are 0; everything else of nothing is null, and so is what does not
    fit the feature's type. A sum of integers is rounded, half to even.

    Args:
        con: An engine.
        view: The view.
        relation: What to select archived events from, such as `read_parquet([…])`.
        as_of: µs since 1970.
        created: The created time of the rows, µs since 1970.
        partition: (k, n): only the k-th of n parts of the entities.
        entities: Only these entities.

    Returns:
        A row per entity, in order of the entities, with the columns of
        `offline_schema(view)`.
    """
    k, n = partition
    chosen = f"AND hash(entity) % {n} = {k}" if n > 1 else ""
    if entities is not None:
        con.register("wanted", pa.table({"entity": pa.array(entities, pa.string())}))
        chosen += " AND entity IN (SELECT entity FROM wanted)"
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE event_rows AS"
        f" SELECT * FROM ({event_rows_sql(view, relation)})"
        f" WHERE ts > {as_of - lookback_seconds(view) * 1_000_000} AND ts <= {as_of} {chosen}"
    )
    aggregates = [
        f"{_aggregate_sql(view, f, as_of)} AS {_quote(f)}"
        for f in view.features
        if f.function != "count_distinct"
    ]
    query = f"SELECT {', '.join(['entity', *aggregates])} FROM event_rows GROUP BY entity"
    for feature in view.features:
        if feature.function == "count_distinct":
            distinct = _distinct_count_sql(con, view, feature, as_of)
            query = f"SELECT * FROM ({query}) LEFT JOIN ({distinct}) USING (entity)"
    values = ", ".join(f"{_fit_sql(f, _quote(f))} AS {_quote(f)}" for f in view.features)
    table = con.sql(
        f"SELECT entity, make_timestamptz({as_of}) AS event_timestamp,"
        f" make_timestamptz({created}) AS created, {values} FROM ({query}) ORDER BY entity"
    )
    return table.to_arrow_table().cast(offline_schema(view))


def values_at(
    con: duckdb.DuckDBPyConnection, view: View, relation: str, rows: pa.Table
) -> pa.Table:
    """Compute a stream view's features as of each row's own time.

    They are what the sliding windows held at that time. A `last` without a window
    expires by its own event, as online.

    Args:
        con: An engine.
        view: A stream view.
        relation: What to select archived events from.
        rows: Columns `row` (int), `entity` (string) and `ts` (µs since 1970).

    Returns:
        In order of `row`: `row`, `event_timestamp` (of the entity's newest event at or
        before `ts`) and a column per feature, null where the entity had no event yet or
        its newest was older than the TTL.
    """
    con.register("entity_rows", rows)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE event_rows AS"
        f" SELECT * FROM ({event_rows_sql(view, relation)}) SEMI JOIN entity_rows USING (entity)"
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE seen AS"
        " SELECT row, r.entity AS entity, r.ts AS t, e.ts AS newest"
        " FROM entity_rows r ASOF LEFT JOIN (SELECT DISTINCT entity, ts FROM event_rows) e"
        " ON r.entity = e.entity AND r.ts >= e.ts"
    )
    alive = "newest IS NOT NULL"
    if view.ttl:
        alive += f" AND t - newest <= {view.ttl * 1_000_000}"
    query = f"SELECT row, newest, {alive} AS alive FROM seen"
    if any(f.function != "last" for f in view.features):
        query = f"SELECT * FROM ({query}) JOIN ({_windows_at_sql(view)}) USING (row)"
    for i, feature in enumerate(view.features):
        if feature.function == "last":
            value = _last_at_sql(view, feature, f"v{i}")
            query = f"SELECT * FROM ({query}) LEFT JOIN ({value}) USING (row)"
    values = ", ".join(
        f"CASE WHEN alive THEN {_fit_sql(f, f'v{i}')} END AS {_quote(f)}"
        for i, f in enumerate(view.features)
    )
    table = con.sql(
        f"SELECT row, make_timestamptz(newest) AS event_timestamp, {values}"
        f" FROM ({query}) ORDER BY row"
    )
    head = [pa.field("row", pa.int64()), pa.field("event_timestamp", TIME)]
    return table.to_arrow_table().cast(pa.schema(head + list(offline_schema(view))[3:]))


def _aggregate_sql(view: View, feature: Feature, as_of: int) -> str:
    inside = _inside_sql(feature, as_of)
    if not feature.column:
        return f"count(*) FILTER ({inside})"
    c = _column_sql(view, feature)
    where = f"FILTER ({inside} AND {c} IS NOT NULL)"
    if feature.function == "last":
        return f"arg_max({c}, (ts, member)) {where}"
    return f"{_SQL_FUNCTIONS.get(str(feature.function), feature.function)}({c}) {where}"


def _fit_sql(feature: Feature, raw: str) -> str:
    """Convert an aggregate to the feature's type, as `values.fit_number` does."""
    value = f"coalesce({raw}, 0)" if feature.function in _ZERO_WHEN_EMPTY else raw
    if feature.dtype not in _SQL:
        return value
    # a cast rounds half to even, and DuckDB's `round` does not
    value = f"try_cast({value} AS {_SQL[feature.dtype]})"
    if feature.dtype.startswith("float"):
        return f"CASE WHEN isfinite({value}) THEN {value} END"
    return value


def _distinct_count_sql(
    con: duckdb.DuckDBPyConnection, view: View, feature: Feature, as_of: int
) -> str:
    """Count distinct values: estimated first, then exactly where there are few.

    Memory is bounded by the entities with few values.
    """
    c, inside = _column_sql(view, feature), _inside_sql(feature, as_of)
    table = f'"estimate {feature.name}"'
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {table} AS"
        f" SELECT entity, approx_count_distinct({c}) AS n"
        f" FROM event_rows WHERE {inside} GROUP BY entity"
    )
    exact = (
        f"SELECT entity, count(DISTINCT {c}) AS n FROM event_rows WHERE {inside}"
        f" AND entity IN (SELECT entity FROM {table} WHERE n <= {HLL_ABOVE}) GROUP BY entity"
    )
    estimated = f"SELECT entity, n AS {_quote(feature)} FROM {table} WHERE n > {HLL_ABOVE}"
    return f"{estimated} UNION ALL ({exact})"


def _inside_sql(feature: Feature, as_of: int) -> str:
    return f"ts > {as_of - feature.window * 1_000_000}" if feature.window else "true"


def _column_sql(view: View, feature: Feature) -> str:
    """What the feature reads of an event; null where it is too large for a float32."""
    dtype = required_type(feature)
    c = f"c{read_columns(view).index((feature.column, dtype))}"
    return f"try_cast({c} AS FLOAT)" if dtype == "float32" else c


def _quote(feature: Feature) -> str:
    return f'"{feature.name}"'


def _windows_at_sql(view: View) -> str:
    """The features of `view` that have a window, as `v0…`, per row of `seen`.

    The rows are put among the events in order of time, and each takes the frame before
    it: DuckDB aggregates frames by trees of partial aggregates, so the time grows with
    the rows and events together, not with their product.
    """
    windows = [(i, f) for i, f in enumerate(view.features) if f.function != "last"]
    columns = ", ".join(f"{_column_sql(view, f) if f.column else 1} AS w{i}" for i, f in windows)
    values = []
    for i, feature in windows:
        function = _SQL_FUNCTIONS.get(feature.function or "", feature.function)
        distinct = "DISTINCT " if feature.function == "count_distinct" else ""
        frame = f"RANGE BETWEEN {(feature.window or 0) * 1_000_000 - 1} PRECEDING AND CURRENT ROW"
        over = f"OVER (PARTITION BY entity ORDER BY ts {frame})"
        values.append(f"{function}({distinct}w{i}) {over} AS v{i}")
    return (
        f"SELECT row, {', '.join(values)} FROM ("
        f" SELECT NULL AS row, entity, ts, {columns} FROM event_rows"
        f" UNION ALL BY NAME SELECT row, entity, t AS ts FROM seen"
        f") QUALIFY row IS NOT NULL"
    )


def _last_at_sql(view: View, feature: Feature, name: str) -> str:
    c = _column_sql(view, feature)
    within = "true"
    if feature.window:
        within = f"t - e.ts < {feature.window * 1_000_000}"
    elif view.ttl:
        within = f"t - e.ts <= {view.ttl * 1_000_000}"
    newest = (
        f"SELECT entity, ts, arg_max({c}, member) AS {name} FROM event_rows"
        f" WHERE {c} IS NOT NULL GROUP BY entity, ts"
    )
    return (
        f"SELECT row, {name} FROM seen ASOF JOIN ({newest}) e"
        f" ON seen.entity = e.entity AND seen.t >= e.ts WHERE {within}"
    )
