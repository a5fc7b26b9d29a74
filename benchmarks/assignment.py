"""Decisions per second on one core, against GrowthBook's SDK on equal work, and the
quality of the hash.

Equal work: 50 running experiments of two equal variants, all traffic, decided for the
same unit ids; one decision is one unit in one experiment. Run: python
benchmarks/assignment.py [--units 1000000]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import combinations

import numpy as np
from common import machine
from growthbook import Experiment, GrowthBook
from mmh3 import hash as murmur3
from scipy.stats import chi2, kstest

from shoal.contract.experiments import BUCKETS, ExperimentRecord, Variant
from shoal.router.assignment import Assigner, Plan

EXPERIMENTS = 50
ROUNDS = 5


def records(count: int, **fields: object) -> list[ExperimentRecord]:
    arms = (Variant(name="control", allocation=50), Variant(name="treatment", allocation=50))
    return [
        ExperimentRecord(
            id=f"experiment-{i}", capability="search", status="running", variants=arms, **fields
        )
        for i in range(count)
    ]


def median_rate(work: Callable[[], object], decisions: int) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return decisions / statistics.median(times)


def speed() -> None:
    few, many = [f"user-{i}" for i in range(400)], [f"user-{i}" for i in range(20_000)]
    experiments = records(EXPERIMENTS)
    assigners = [Assigner.compile(record) for record in experiments]
    gated = [Assigner.compile(record) for record in records(EXPERIMENTS, traffic=50)]
    plan = Plan(experiments)

    peers = [
        Experiment(key=record.id, variations=["control", "treatment"]) for record in experiments
    ]

    def growthbook() -> None:
        for unit in few:
            book = GrowthBook(attributes={"id": unit})
            for experiment in peers:
                book.run(experiment)

    def one_by_one(compiled: list[Assigner]) -> Callable[[], None]:
        def work() -> None:
            for unit in many:
                for assigner in compiled:
                    assigner.assign(unit)

        return work

    def as_the_router() -> None:
        for unit in many:
            plan.assign({"user": unit})

    def bare() -> None:
        for unit in many:
            for i in range(EXPERIMENTS):
                murmur3(unit, i, False)

    rows = [("GrowthBook SDK, run()", median_rate(growthbook, len(few) * EXPERIMENTS))]
    for name, work in (
        ("Shoal Assigner.assign", one_by_one(assigners)),
        ("Shoal Assigner.assign, traffic 50 %", one_by_one(gated)),
        ("Shoal Assigner.assign_many", lambda: [a.assign_many(many) for a in assigners]),
        ("Shoal Plan.assign (as the router)", as_the_router),
        ("mmh3 alone", bare),
    ):
        rows.append((name, median_rate(work, len(many) * EXPERIMENTS)))
    base = rows[0][1]
    print(f"{'50 running experiments':38}{'decisions/s/core':>18}{'x GrowthBook':>14}")
    for name, rate in rows:
        print(f"{name:38}{rate:18,.0f}{rate / base:14.1f}")


def quality(units: int, count: int) -> None:
    ids = [f"user-{i}" for i in range(units)]
    print(f"\n{units:,} units, {count} experiments")
    buckets = np.empty((count, units), dtype=np.int16)
    for i, record in enumerate(records(count)):
        prefix = f"{record.id}:"
        buckets[i] = [murmur3(prefix + unit, 0, False) % BUCKETS for unit in ids]
    expected = units / BUCKETS
    uniform = [
        float(
            chi2.sf(
                ((np.bincount(row, minlength=BUCKETS) - expected) ** 2 / expected).sum(),
                BUCKETS - 1,
            )
        )
        for row in buckets
    ]
    report("uniformity over 10,000 buckets", uniform)
    deciles = buckets // 1000
    cell = units / 100
    independent = []
    for i, j in combinations(range(count), 2):
        table = np.bincount(deciles[i].astype(np.int32) * 10 + deciles[j], minlength=100)
        independent.append(float(chi2.sf(((table - cell) ** 2 / cell).sum(), 99)))
    report("independence of pairs (10 x 10 deciles)", independent)
    own = []
    for i, record in enumerate(records(count)):
        prefix = f"inclusion/{record.id}:"
        gate = np.array([murmur3(prefix + unit, 0, False) % BUCKETS for unit in ids]) // 1000
        table = np.bincount(gate * 10 + deciles[i], minlength=100)
        own.append(float(chi2.sf(((table - cell) ** 2 / cell).sum(), 99)))
    report("inclusion against choice of variant", own)


def report(name: str, p_values: list[float]) -> None:
    low = sum(p < 0.05 for p in p_values)
    print(
        f"{name:42} {len(p_values):4} chi-square tests: "
        f"p from {min(p_values):.4f} to {max(p_values):.4f}, "
        f"{low} below 0.05 (expected {0.05 * len(p_values):.1f}); "
        "KS of the p-values against uniform: "
        f"p = {kstest(p_values, 'uniform').pvalue:.3f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--experiments", type=int, default=20)
    arguments = parser.parse_args()
    print(machine())
    speed()
    quality(arguments.units, arguments.experiments)
