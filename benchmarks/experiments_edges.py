"""Error rates where the normal approximation ends: ties, few events, uneven splits.

A/A tests of a quantile find something in 5 % ± 1 % of 3,000 runs, over ten kinds of
data. Errors of proportions are exact sums over all tables: at most 5.5 %. Power of
always-valid plans is within 2 points of the plan.
Run: python benchmarks/experiments_edges.py [--runs 3000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from common import machine
from scipy.stats import binom

from shoal_experiments import always_valid
from shoal_experiments.comparison import compare, contrast
from shoal_experiments.design import Design
from shoal_experiments.required_units import required_units
from shoal_experiments.summaries import Proportion, Quantile

SEED = 20261128
Generator = np.random.Generator
KINDS: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "Pareto, infinite variance": lambda rng, n: rng.pareto(1.5, n),
    "normal, rounded to tens": lambda rng, n: np.round(rng.normal(50, 20, n), -1),
    "exponential, rounded to tens": lambda rng, n: np.round(rng.exponential(30, n), -1),
    "Poisson(1)": lambda rng, n: rng.poisson(1, n),
    "Poisson(5)": lambda rng, n: rng.poisson(5, n),
    "geometric": lambda rng, n: rng.geometric(0.2, n),
    "stars, one to five": lambda rng, n: rng.choice(5, n, p=[0.1, 0.15, 0.3, 0.25, 0.2]),
    "40 % zeros, else lognormal": lambda rng, n: np.where(
        rng.random(n) < 0.4, 0, rng.lognormal(0, 1, n)
    ),
    "whole prices and amounts": lambda rng, n: np.where(
        rng.random(n) < 0.7, np.floor(rng.lognormal(2, 0.5, n)), rng.lognormal(2, 0.5, n)
    ),
}


def quantiles(runs: int) -> None:
    for name, draw in KINDS.items():
        found = []
        for control, treatment in ((1000, 1000), (1800, 200)):
            rng = np.random.default_rng(SEED)
            hits = sum(
                compare(
                    Quantile.of(draw(rng, control), 0.5), Quantile.of(draw(rng, treatment), 0.5)
                ).significant
                for _ in range(runs)
            )
            found.append(100 * hits / runs)
        result = "ok" if all(abs(share - 5) <= 1 for share in found) else "MISSED"
        print(f"{name:32}{found[0]:8.2f} % {found[1]:8.2f} %   5 ± 1   {result}")


def likely(n: int, rate: float) -> range:
    return range(int(binom.ppf(1e-7, n, rate)), int(binom.isf(1e-7, n, rate)) + 1)


def few_events() -> None:
    """The chance of p < .05 at equal rates, by enumeration."""
    for control, treatment in ((10_000, 10_000), (9000, 1000), (99_000, 1000)):
        for events in (0.3, 1.0, 3.0, 10.0) if control < 50_000 else (0.3, 1.0):
            rate = events / treatment
            total = 0.0
            for x2 in likely(treatment, rate):
                for x1 in likely(control, rate):
                    arms = Proportion(control, x1), Proportion(treatment, x2)
                    found = contrast(*arms, "absolute")
                    if 2 * min(found.tail(0.0, above=side) for side in (True, False)) < 0.05:
                        total += float(
                            binom.pmf(x1, control, rate) * binom.pmf(x2, treatment, rate)
                        )
            result = "ok" if total <= 0.055 else "MISSED"
            split = f"{control:,} against {treatment:,}, {events:g} expected"
            print(f"{split:44}{100 * total:8.2f} %   at most 5.5   {result}")


def always_valid_power(runs: int = 200_000) -> None:
    for split, baseline, effect, minimum in (
        (50, 0.1, "relative", 0.3),
        (50, 0.1, "relative", 0.5),
        (50, 0.1, "relative", 1.0),
        (90, 0.12, "absolute", 0.03),
        (95, 0.12, "absolute", 0.03),
        (99, 0.12, "absolute", 0.03),
    ):
        variants = [{"name": "a", "allocation": split}, {"name": "b", "allocation": 100 - split}]
        design = Design.model_validate(
            {
                "hypothesis": "h",
                "variants": variants,
                "primary": {"name": "m"},
                "minimum_effect": minimum,
                "effect": effect,
                "baseline": baseline,
                "analysis": "always_valid",
            }
        )
        n2 = required_units(design) or 0
        both = design.planned_units(n2, "b")
        rate = baseline * (1 + minimum) if effect == "relative" else baseline + minimum
        rng = np.random.default_rng(SEED)
        a, b = rng.binomial(both - n2, baseline, runs), rng.binomial(n2, rate, runs)
        pooled = (a + b) / both
        error = np.sqrt(pooled * (1 - pooled) * (1 / (both - n2) + 1 / n2))
        z = (b / n2 - a / (both - n2)) / error
        power = 100 * float((z > always_valid.radius(both, both)).mean())
        name = f"{split}/{100 - split}, {baseline:g} and {minimum:g} {effect}, n {both - n2}, {n2}"
        print(f"{name:52}{power:8.2f} %   80 ± 2   {'ok' if abs(power - 80) <= 2 else 'MISSED'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3000)
    arguments = parser.parse_args()
    began = time.perf_counter()
    print(machine())
    print(f"\nMedians, {arguments.runs:,} A/A tests: 1,000 units against 1,000, 1,800 against 200")
    quantiles(arguments.runs)
    print("\nPower at the planned end of always-valid experiments")
    always_valid_power()
    print("\nProportions with few events: exact chance of a false positive")
    few_events()
    print(f"\n{time.perf_counter() - began:.0f} s")
