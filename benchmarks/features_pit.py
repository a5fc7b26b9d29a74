"""Point-in-time join: 1 million entity rows against 10 million feature rows of 100,000
users; Shoal beside plain DuckDB and plain Polars, and beside Feast's own offline store
(Dask) on a size that it can do. Each in a process of its own, reading the same Parquet.
Then 10,000 small random cases against a join by brute force, ties, edges of the TTL and
cutoffs included.

python benchmarks/features_pit.py [--rows 1000000 --history 10000000 --feast-rows 20000
--feast-history 200000]
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

from common import in_child, machine, peak_gib, table

USERS = 100_000
NOW = 1_763_900_000_000_000
YEAR = 365 * 86_400_000_000
TTL = 30 * 86_400


def make(folder: Path, rows: int, history: int) -> None:
    import duckdb

    with duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}) as con:
        for part, start in enumerate(range(0, history, 1_000_000)):
            count = min(1_000_000, history - start)
            con.execute(
                f"""
                COPY (
                    SELECT (hash(i) % {USERS})::VARCHAR AS entity,
                        make_timestamptz(t) AS event_timestamp,
                        make_timestamptz(t + 3600000000) AS created,
                        (hash(i, 3) % 1000)::BIGINT AS n, (hash(i, 4) % 1000) / 10 AS x
                    FROM (
                        SELECT i, {NOW} - (hash(i, 2) % {YEAR})::BIGINT AS t
                        FROM range({start}, {start + count}) r(i)
                    )
                ) TO '{folder}/history-{part:03d}.parquet' (FORMAT parquet, COMPRESSION zstd)"""
            )
        con.execute(
            f"""
            COPY (
                SELECT (hash(i, 5) % {USERS})::VARCHAR AS entity,
                    make_timestamptz({NOW} - (hash(i, 6) % {YEAR})::BIGINT) AS "at"
                FROM range({rows}) r(i)
            ) TO '{folder}/rows.parquet' (FORMAT parquet)"""
        )


def shoal(folder: str) -> tuple[float, float]:
    import pyarrow.compute as pc
    import pyarrow.fs as pafs
    import pyarrow.parquet as pq

    from shoal_features.historical_query import ROWS_PER_PART, HistoricalQuery
    from shoal_features.offline import ParquetFiles
    from shoal_features.views import Feature, View

    started = time.perf_counter()
    view = View(
        "v", "user", "user_id", "plain", (Feature("n", "int64"), Feature("x", "float64")), TTL
    )
    files = ParquetFiles(
        sorted(map(str, Path(folder).glob("history-*.parquet"))), pafs.LocalFileSystem()
    )
    rows = pq.read_table(f"{folder}/rows.parquet")
    parts = 1 + files.dataset().count_rows() // ROWS_PER_PART
    query = HistoricalQuery(
        tuple((view, f) for f in view.features), rows, {"v": files}, None, parts=parts
    )
    return started, sum(pc.sum(query.run_part(k)["n"]).as_py() or 0 for k in range(parts))


def plain_duckdb(folder: str) -> tuple[float, float]:
    import duckdb

    started = time.perf_counter()
    con = duckdb.connect(config={"threads": 2})
    age = 'epoch_us(r."at") - epoch_us(h.event_timestamp)'
    query = f"""SELECT sum(CASE WHEN {age} <= {TTL}000000 THEN h.n END), count(h.x)
        FROM read_parquet('{folder}/rows.parquet') r ASOF LEFT JOIN (
            SELECT entity, event_timestamp, arg_max(n, created) AS n, arg_max(x, created) AS x
            FROM read_parquet('{folder}/history-*.parquet') GROUP BY ALL
        ) h ON r.entity = h.entity AND r."at" >= h.event_timestamp"""
    return started, con.execute(query).fetchone()[0]  # type: ignore[index]


def plain_polars(folder: str) -> tuple[float, float]:
    import polars as pl

    started = time.perf_counter()
    history = pl.read_parquet(f"{folder}/history-*.parquet").sort(
        "event_timestamp", "created", maintain_order=True
    )
    rows = (
        pl.read_parquet(f"{folder}/rows.parquet")
        .with_columns(pl.col("at").cast(history["event_timestamp"].dtype))
        .sort("at")
    )
    found = rows.join_asof(
        history,
        left_on="at",
        right_on="event_timestamp",
        by="entity",
        coalesce=False,
        check_sortedness=False,
    )
    fresh = (pl.col("at") - pl.col("event_timestamp")).dt.total_microseconds() <= TTL * 1_000_000
    return started, found.filter(fresh)["n"].sum()


def feasts_own(folder: str) -> tuple[float, float]:
    warnings.simplefilter("ignore")
    from datetime import timedelta

    import duckdb
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64, Int64, String

    duckdb.execute(
        f"COPY (SELECT * FROM read_parquet('{folder}/history-*.parquet'))"
        f" TO '{folder}/feast.parquet' (FORMAT parquet)"
    )
    rows = pd.read_parquet(f"{folder}/rows.parquet").rename(columns={"at": "event_timestamp"})
    user = Entity(name="user", join_keys=["entity"], value_type=ValueType.STRING)
    view = FeatureView(
        name="v",
        entities=[user],
        ttl=timedelta(seconds=TTL),
        schema=[
            Field(name="entity", dtype=String),
            Field(name="n", dtype=Int64),
            Field(name="x", dtype=Float64),
        ],
        source=FileSource(
            name="s",
            path=f"{folder}/feast.parquet",
            timestamp_field="event_timestamp",
            created_timestamp_column="created",
        ),
    )
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=f"{folder}/registry.db",
            offline_store={"type": "dask"},
            online_store={"type": "sqlite", "path": f"{folder}/online.db"},
            entity_key_serialization_version=3,
        )
    )
    store.apply([user, view])
    started = time.perf_counter()
    return started, float(store.get_historical_features(rows, ["v:n", "v:x"]).to_df()["n"].sum())


def count_differing(cases: int) -> int:
    """How many of some small random joins differ from brute force."""
    import pyarrow as pa

    from shoal_features.asof import as_of
    from shoal_features.values import from_micros

    draw, differing, kind = random.Random(0), 0, pa.timestamp("us", "UTC")

    def times(values: list[int]) -> pa.Array:
        return pa.array([from_micros(NOW + v * 1_000_000) for v in values], kind)

    for _ in range(cases):
        entity_rows = [
            (draw.choice("ab"), draw.randrange(9), draw.randrange(9))
            for _ in range(draw.randrange(9))
        ]
        known = [
            (draw.choice("ab"), draw.randrange(9), draw.randrange(9), n)
            for n in range(draw.randrange(15))
        ]
        ttl, cut = draw.choice([None, 1, 2, 4]), draw.choice(["none", "column", "one"])
        rows = pa.table(
            {
                "entity": pa.array([a[0] for a in entity_rows], pa.string()),
                "at": times([a[1] for a in entity_rows]),
                "cut": times([a[2] for a in entity_rows]),
            }
        )
        columns = {
            "entity": pa.array([k[0] for k in known], pa.string()),
            "event_timestamp": times([k[1] for k in known]),
        }
        history = pa.table(
            {
                **columns,
                "created": times([k[2] for k in known]),
                "n": pa.array([k[3] for k in known], pa.int64()),
            }
        )
        known_by = {"none": None, "column": "cut", "one": from_micros(NOW + 4_000_000)}[cut]
        got = as_of(rows, history, ["n"], ttl, known_by)["n"].to_pylist()
        expected = []
        for entity, at, own in entity_rows:
            limit = {"none": 99, "column": own, "one": 4}[cut]
            best = max(
                ((e, c, n) for k, e, c, n in known if k == entity and e <= at and c <= limit),
                default=None,
            )
            expected.append(
                None if best is None or (ttl is not None and at - best[0] > ttl) else best[2]
            )
        differing += got != expected
    return differing


PEERS = {
    "Shoal": shoal,
    "plain DuckDB": plain_duckdb,
    "plain Polars": plain_polars,
    "Feast, Dask": feasts_own,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--history", type=int, default=10_000_000)
    parser.add_argument("--feast-rows", type=int, default=20_000)
    parser.add_argument("--feast-history", type=int, default=200_000)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--child", nargs=2)
    arguments = parser.parse_args()
    if arguments.child:
        name, folder = arguments.child
        started, total = PEERS[name](folder)  # the clock starts after the imports
        print(
            f"seconds={time.perf_counter() - started:.2f}\ntotal={total:.0f}\npeak={peak_gib():.2f}"
        )
        return
    print(machine())
    rows = []
    sizes = (
        (arguments.feast_rows, arguments.feast_history, list(PEERS)),
        (arguments.rows, arguments.history, [p for p in PEERS if not p.startswith("Feast")]),
    )
    for n, history, peers in sizes:
        folder = Path(tempfile.mkdtemp(prefix="shoal-pit-"))
        try:
            make(folder, n, history)
            first = ""
            for name in peers:
                got = in_child(sys.argv[0], "--child", name, str(folder))
                if "error" in got:
                    rows.append((name, f"{n:,}", f"{history:,}", got["error"], "", ""))
                    continue
                first = first or got["total"]
                agree = "yes" if got["total"] == first else f"no: {got['total']}"
                rows.append((name, f"{n:,}", f"{history:,}", got["seconds"], got["peak"], agree))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    table(
        "Point-in-time join with TTL",
        ("engine", "entity rows", "feature rows", "seconds", "peak GiB", "same sum"),
        rows,
    )
    print(
        f"\n{arguments.cases:,} small random cases:"
        f" {count_differing(arguments.cases)} differ from brute force"
    )


if __name__ == "__main__":
    main()
