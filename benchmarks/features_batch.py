"""Batch aggregation of raw events: 100,000 users, three windows and a mean, from 1 to
10 million events; Shoal beside plain DuckDB and plain Polars on the same Parquet files.
Every measurement runs in a process of its own, one after the other.

    python benchmarks/features_batch.py [--events 1000000,10000000]
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from common import in_child, machine, peak_gib, table

USERS = 100_000
NOW = 1_763_900_000_000_000
DAY = 86_400_000_000
WINDOWS = (1, 7, 30)


def make(folder: Path, n: int) -> None:
    """`n` events of the archive's shape, a million per file, a tenth of them archived
    twice.
    """
    import duckdb

    with duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}) as con:
        for part, start in enumerate(range(0, n, 1_000_000)):
            count = min(1_000_000, n - start)
            con.execute(
                f"""
                COPY (
                    SELECT 'event-' || n AS id, 'bench' AS source, 'item.updated' AS type,
                        make_timestamptz({NOW} - (hash(n) % {30 * DAY})::BIGINT) AS time,
                        NULL::VARCHAR AS subject,
                        '{{"user_id":"' || hash(n, 1) % {USERS} || '","board_id":"b' || i % 50
                            || '","duration":' || (hash(n, 2) % 10000) / 100 || '}}' AS data,
                        '1763900000000-0' AS position
                    FROM (
                        SELECT i, if(i % 10 = 9, i - 1, i) AS n
                        FROM range({start}, {start + count}) t(i)
                    )
                ) TO '{folder}/{part:03d}.parquet' (FORMAT parquet, COMPRESSION zstd)"""
            )


def shoal(folder: str) -> tuple[float, int]:
    import pyarrow.fs as pafs

    from shoal_features.aggregation import aggregate, open_engine
    from shoal_features.archive import Archive
    from shoal_features.batch import EVENTS_PER_PART
    from shoal_features.views import Feature, View

    started = time.perf_counter()
    features = [Feature(f"n{w}", "int64", "count", "", w * 86_400) for w in WINDOWS]
    features.append(Feature("mean", "float64", "mean", "duration", 30 * 86_400))
    view = View(
        "v",
        "user",
        "user_id",
        "batch",
        tuple(features),
        None,
        ("item.*",),
        ("data.user_id", "data.user", "subject"),
    )
    archive = Archive(sorted(map(str, Path(folder).glob("*.parquet"))), pafs.LocalFileSystem())
    parts, rows = 1 + archive.count() // EVENTS_PER_PART, 0
    for k in range(parts):
        with open_engine() as con:
            rows += aggregate(con, view, archive.relation(con), NOW, NOW, (k, parts)).num_rows
    return started, rows


def plain_duckdb(folder: str) -> tuple[float, int]:
    import duckdb

    started = time.perf_counter()
    counts = ", ".join(f"count(*) FILTER (epoch_us(time) > {NOW - w * DAY})" for w in WINDOWS)
    rows = (
        duckdb.connect(config={"threads": 2})
        .sql(
            f"""SELECT data->>'$.user_id' AS entity, {counts}, avg((data->>'$.duration')::DOUBLE)
            FROM (SELECT DISTINCT ON (source, id) * FROM read_parquet('{folder}/*.parquet'))
            GROUP BY 1"""
        )
        .to_arrow_table()
    )
    return started, rows.num_rows


def plain_polars(folder: str) -> tuple[float, int]:
    import polars as pl

    started = time.perf_counter()
    time_us = pl.col("time").dt.epoch("us")
    rows = (
        pl.scan_parquet(f"{folder}/*.parquet")
        .unique(["source", "id"])
        .select(
            "time",
            entity=pl.col("data").str.json_path_match("$.user_id"),
            duration=pl.col("data").str.json_path_match("$.duration").cast(pl.Float64),
        )
        .group_by("entity")
        .agg(
            *((time_us > NOW - w * DAY).sum().alias(f"n{w}") for w in WINDOWS),
            pl.col("duration").mean(),
        )
        .collect(engine="streaming")
        .height
    )
    return started, rows


PEERS = {"Shoal": shoal, "plain DuckDB": plain_duckdb, "plain Polars, streaming": plain_polars}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", default="1000000,3000000,10000000")
    parser.add_argument("--child", nargs=2)
    arguments = parser.parse_args()
    if arguments.child:
        name, folder = arguments.child
        started, rows = PEERS[name](folder)  # the clock starts after the imports
        print(f"seconds={time.perf_counter() - started:.2f}\nrows={rows}\npeak={peak_gib():.2f}")
        return
    print(machine())
    rows = []
    for n in map(int, arguments.events.split(",")):
        folder = Path(tempfile.mkdtemp(prefix="shoal-batch-"))
        try:
            make(folder, n)
            for name in PEERS:
                got = in_child(sys.argv[0], "--child", name, str(folder))
                if "error" in got:
                    rows.append((name, f"{n:,}", got["error"], "", "", ""))
                    continue
                speed = n / max(float(got["seconds"]), 1e-9)
                rows.append(
                    (
                        name,
                        f"{n:,}",
                        f"{int(got['rows']):,}",
                        got["seconds"],
                        f"{speed / 1e6:.2f}",
                        got["peak"],
                    )
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    head = ("engine", "events", "rows", "seconds", "M events/s", "peak GiB")
    table("Events deduplicated and aggregated: three counts and a mean", head, rows)


if __name__ == "__main__":
    main()
