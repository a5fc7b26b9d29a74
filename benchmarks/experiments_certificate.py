"""The experiments' certificate: error, coverage and power by kind, split and size.

Each row simulates experiments without an effect (error: significant at 5 %; coverage:
the 95 % interval has the true effect), and experiments of the planned size with the
effect that they are planned to find in 80 %. Error is 5 ± .5 % and coverage 95 ± .5 %,
or on the safe side where the test is exact; power is within 2 points of the plan, each
besides two standard errors of the simulation. At the end it says how long 10,000 runs
of each row take. Run: python benchmarks/experiments_certificate.py [--runs 10000]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from common import machine

from shoal_experiments.clusters import Clusters, cluster_variance
from shoal_experiments.comparison import compare
from shoal_experiments.design import Design
from shoal_experiments.required_units import required_units
from shoal_experiments.sample_size import mean_sample_size
from shoal_experiments.summaries import Mean, Proportion, Summary

SEED = 20261128
FULL = 10_000
SPLITS = (50, 90, 99)
Generator = np.random.Generator
Draw = Callable[[Generator, int, float], Summary | Clusters]
"""One arm of so many units, whose value is raised by an effect."""


class Row(NamedTuple):
    """A kind of data, the arms' units without an effect, and the plan's."""

    name: str
    draw: Draw
    units: tuple[int, int]
    planned: tuple[int, int]
    effect: float
    is_exact: bool = False


def plan(split: int, **fields: object) -> tuple[int, int]:
    """Units of control and treatment by the design's own plan."""
    arms = [{"name": "a", "allocation": split}, {"name": "b", "allocation": 100 - split}]
    design = Design.model_validate({"hypothesis": "h", "variants": arms, **fields})
    smallest = required_units(design) or 0
    return design.planned_units(smallest, "b") - smallest, smallest


def proportions() -> Iterator[Row]:
    for rate in (0.001, 0.01, 0.1):

        def draw(rng: Generator, n: int, effect: float, rate: float = rate) -> Proportion:
            return Proportion(n, int(rng.binomial(n, rate + effect)))

        for split in SPLITS:
            effect = rate / 2
            planned = plan(split, primary={"name": "m"}, baseline=rate, minimum_effect=effect)
            for total in (10_000, 1_000_000):
                units = total * split // 100, total * (100 - split) // 100
                few = min(units) * rate < 10
                yield Row(f"proportion {rate:.1%}", draw, units, planned, effect, few)


def means() -> Iterator[Row]:
    def draw(rng: Generator, n: int, effect: float) -> Mean:
        return Mean.of(rng.gamma(2.0, 5.0, n) + effect)

    for split in SPLITS:
        planned = plan(
            split, primary={"name": "m", "kind": "mean"}, variance=50.0, minimum_effect=1.0
        )
        for total in (2000, 20_000):
            units = total * split // 100, total * (100 - split) // 100
            yield Row("mean, skewed", draw, units, planned, 1.0)


def clusters() -> Iterator[Row]:
    """Companies of 5 to 5,000 people, whose rates vary from company to company."""
    rate, icc, ends = 0.3, 0.05, (math.log(5), math.log(5000))
    sizes = np.exp(np.random.default_rng(SEED).uniform(*ends, 100_000))

    def draw(rng: Generator, n: int, effect: float) -> Clusters:
        size = np.round(np.exp(rng.uniform(*ends, n)))
        p, k = rate + effect, (1 - icc) / icc
        total = rng.binomial(size.astype(int), rng.beta(p * k, (1 - p) * k, n))
        return Clusters(total.astype(float), size)

    spread = cluster_variance(
        rate * (1 - rate), float(sizes.mean()), float(sizes.std() / sizes.mean()), icc
    )
    for total in (20, 50, 200):
        effect = 4 * math.sqrt(spread / total)
        n = math.ceil(mean_sample_size(effect, spread))
        yield Row("people in companies", draw, (total // 2, total // 2), (n, n), effect)


def simulate(row: Row, runs: int, has_effect: bool) -> tuple[float, float]:
    """The shares of significant results, and of intervals with the true effect."""
    rng = np.random.default_rng([SEED, has_effect])
    control, treatment = row.planned if has_effect else row.units
    effect = row.effect if has_effect else 0.0
    found = covered = 0
    for _ in range(runs):
        c = compare(row.draw(rng, control, 0.0), row.draw(rng, treatment, effect))
        found += c.significant
        covered += c.interval is not None and c.interval[0] <= effect <= c.interval[1]
    return 100 * found / runs, 100 * covered / runs


def is_kept(row: Row, error: float, coverage: float, power: float, runs: int) -> bool:
    noise, wide = 200 * math.sqrt(0.05 * 0.95 / runs), 200 * math.sqrt(0.8 * 0.2 / runs)
    too_small = not row.is_exact and error < 4.5 - noise
    too_wide = not row.is_exact and coverage > 95.5 + noise
    return not (
        error > 5.5 + noise
        or coverage < 94.5 - noise
        or too_small
        or too_wide
        or abs(power - 80) > 2 + wide
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=FULL)
    runs = parser.parse_args().runs
    print(f"{machine()}\n{runs:,} runs a row\n")
    print(f"{'kind':22}{'units':>19}{'planned':>19}{'error':>8}{'coverage':>10}{'power':>8}")
    began = time.process_time()
    for row in (*proportions(), *means(), *clusters()):
        error, coverage = simulate(row, runs, False)
        power, _ = simulate(row, runs, True)
        result = "ok" if is_kept(row, error, coverage, power, runs) else "MISSED"
        units, planned = (f"{a:,}/{b:,}" for a, b in (row.units, row.planned))
        print(
            f"{row.name:22}{units:>19}{planned:>19}{error:8.2f}{coverage:10.2f}{power:8.2f}   "
            f"{result}{' (exact: at most)' if row.is_exact else ''}",
            flush=True,
        )
    hours = (time.process_time() - began) / runs * FULL / 3600
    print(f"\n{FULL:,} runs a row take {hours:.1f} hours of one core")
