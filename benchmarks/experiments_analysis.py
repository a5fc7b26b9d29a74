"""Analysis of 10 million outcome rows of 1 million units: time and memory, against the
same in Polars.

Both read the same Parquet files and do the same: first exposure of each unit, units of
two variants out, outcomes before the exposure out, values summed per unit (0 for units
without any), mean and variance per arm, Welch's test. Each runs in a process of its
own, on all cores. Run: python benchmarks/experiments_analysis.py [--rows 10000000]
[--units 1000000]
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import machine

ROUNDS = 3
BATCH = 2_500_000
"""Rows at a time; the library makes a day at a time."""


def generate(folder: Path, rows: int, units: int) -> None:
    rng = np.random.default_rng(20261123)
    names = np.char.add("user-", np.arange(units).astype(str))
    start, month = 1_767_225_600_000_000, 30 * 86_400_000_000
    exposed = start + rng.integers(0, month, units)
    again = rng.choice(
        units, units // 50, replace=False
    )  # seen again, and half of those in the other variant
    who = np.concatenate([np.arange(units), again])
    variant = np.concatenate([rng.integers(0, 2, units), np.zeros(len(again), dtype=int)])
    variant[units:] = (variant[again] + rng.integers(0, 2, len(again))) % 2
    pq.write_table(
        pa.table(
            {
                "unit": names[who],
                "variant": np.where(variant == 1, "treatment", "control"),
                "time": np.concatenate([exposed, exposed[again] + 1]),
            }
        ),
        folder / "exposures.parquet",
    )
    place = rng.integers(0, units, rows)
    value = rng.gamma(2.0, 5.0, rows) * np.where(variant[place] == 1, 1.002, 1.0)
    order = start + np.sort(rng.integers(0, month, rows))
    pq.write_table(
        pa.table({"unit": names[place], "time": order, "value": value}), folder / "outcomes.parquet"
    )


def shoal(folder: Path) -> tuple[float, float, float]:
    from shoal_experiments import aggregation as agg
    from shoal_experiments.comparison import compare
    from shoal_experiments.summaries import Mean

    who = agg.exposed_units(
        [pq.ParquetFile(folder / "exposures.parquet").read()], ["control", "treatment"]
    )
    total = np.zeros(len(who.units))
    for batch in pq.ParquetFile(folder / "outcomes.parquet", pre_buffer=False).iter_batches(BATCH):
        place = agg.locate(who, batch["unit"])
        since = np.asarray(batch["time"]) - who.time[np.maximum(place, 0)]
        place = np.where((place >= 0) & (since >= 0), place, -1)
        total += agg.totals(place, np.asarray(batch["value"]), len(total))[1]
    c = compare(*(Mean.of(total[who.arm == arm]) for arm in (0, 1)))
    return c.effect, c.statistic, c.p_value


def polars(folder: Path) -> tuple[float, float, float]:
    import polars as pl
    from scipy.stats import ttest_ind_from_stats

    exposures = (
        pl.scan_parquet(folder / "exposures.parquet")
        .group_by("unit")
        .agg(
            pl.col("time").min(),
            pl.col("variant").min(),
            pl.col("variant").n_unique().alias("variants"),
        )
        .filter(pl.col("variants") == 1)
    )
    sums = (
        pl.scan_parquet(folder / "outcomes.parquet")
        .join(exposures, on="unit", suffix="_exposed")
        .filter(pl.col("time") >= pl.col("time_exposed"))
        .group_by("unit")
        .agg(pl.col("value").sum())
    )
    arms = (
        exposures.join(sums, on="unit", how="left")
        .with_columns(pl.col("value").fill_null(0.0))
        .group_by("variant")
        .agg(
            pl.len().alias("n"),
            pl.col("value").mean().alias("mean"),
            pl.col("value").std().alias("std"),
        )
        .sort("variant")
        .collect()
    )
    (_, n1, m1, s1), (_, n2, m2, s2) = arms.rows()
    test = ttest_ind_from_stats(m2, s2, n2, m1, s1, n1, equal_var=False)
    return m2 - m1, float(test.statistic), float(test.pvalue)


def peak() -> float:
    """Largest resident size of this process so far, in MiB (getrusage would begin with
    its parent's).
    """
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["shoal", "polars"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        for needed in {
            "shoal": ["shoal_experiments.aggregation"],
            "polars": ["polars", "scipy.stats"],
        }[arguments.only]:
            importlib.import_module(needed)
        began = time.perf_counter()
        found = {"shoal": shoal, "polars": polars}[arguments.only](Path(arguments.folder))
        seconds = time.perf_counter() - began
        print(json.dumps([seconds, peak(), *found]))
        sys.exit()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), arguments.rows, arguments.units)
        print(f"{arguments.rows:,} outcome rows of {arguments.units:,} units; medians of {ROUNDS}")
        print(f"{'':10}{'seconds':>10}{'peak MiB':>10}{'effect':>12}{'t':>10}{'p':>12}")
        for name in ("shoal", "polars"):
            runs = [
                json.loads(
                    subprocess.run(
                        [sys.executable, __file__, "--only", name, "--folder", folder],
                        check=True,
                        capture_output=True,
                        text=True,
                    ).stdout
                )
                for _ in range(ROUNDS)
            ]
            seconds, memory = (statistics.median(r[i] for r in runs) for i in (0, 1))
            _, _, effect, t, p = runs[0]
            print(f"{name:10}{seconds:10.2f}{memory:10.0f}{effect:12.5f}{t:10.4f}{p:12.5g}")
