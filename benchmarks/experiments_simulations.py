"""Error rates, power and CUPED of the statistical tests, in simulated experiments.

A/A tests (nothing differs) must find something in 5 % ± 1 % of 2,000 runs; looking
every day must not raise that for the sequential methods, and does for a plain z test;
power must be what was planned, within 2 points; CUPED must narrow intervals by the
factor of theory. Run: python benchmarks/experiments_simulations.py [--runs 2000]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
from common import machine
from scipy.stats import ttest_ind
from statsmodels.stats.proportion import proportions_ztest

from shoal_experiments import always_valid, cuped
from shoal_experiments import group_sequential as gs
from shoal_experiments.comparison import Comparison, compare, proportions_z
from shoal_experiments.correction import adjust, interval_alpha
from shoal_experiments.design import Design
from shoal_experiments.guardrails import guardrail_alpha
from shoal_experiments.looks import Look
from shoal_experiments.metrics import Guardrail
from shoal_experiments.mismatch import sample_ratio_p_value
from shoal_experiments.non_inferiority import non_inferiority
from shoal_experiments.required_units import required_units
from shoal_experiments.sample_size import mean_sample_size, proportion_sample_size
from shoal_experiments.summaries import Mean, Pair, Proportion, Quantile, Ratio

SEED = 20261123
Generator = np.random.Generator


def excludes_zero(c: Comparison) -> bool:
    return c.interval is not None and (c.interval[0] > 0 or c.interval[1] < 0)


# One A/A test of each kind: was anything found?


def proportion(rng: Generator) -> bool:
    a, b = rng.binomial(1000, 0.12, 2)
    return compare(Proportion(1000, int(a)), Proportion(1000, int(b))).significant


def proportion_relative(rng: Generator) -> bool:
    a, b = rng.binomial(1000, 0.12, 2)
    return excludes_zero(
        compare(Proportion(1000, int(a)), Proportion(1000, int(b)), effect="relative")
    )


def unequal_arms(rng: Generator) -> bool:
    a, b = rng.binomial(4000, 0.05), rng.binomial(500, 0.05)
    return compare(Proportion(4000, int(a)), Proportion(500, int(b))).significant


def mean(rng: Generator) -> bool:
    a, b = rng.gamma(2.0, 5.0, (2, 400))
    return compare(Mean.of(a), Mean.of(b)).significant


def mean_unequal_variances(rng: Generator) -> bool:
    return compare(Mean.of(rng.normal(10, 1, 400)), Mean.of(rng.normal(10, 5, 60))).significant


def mean_relative(rng: Generator) -> bool:
    a, b = rng.gamma(2.0, 5.0, (2, 400))
    return excludes_zero(compare(Mean.of(a), Mean.of(b), effect="relative"))


def winsorised(rng: Generator) -> bool:
    values = rng.lognormal(1.0, 1.5, 1000)
    values = np.minimum(values, np.quantile(values, 0.99))
    return compare(Mean.of(values[:500]), Mean.of(values[500:])).significant


def ratio(rng: Generator) -> bool:
    arms = []
    for _ in range(2):
        searches = rng.poisson(4, 500) + 1
        arms.append(Ratio(Pair.of(rng.binomial(searches, rng.beta(2, 8, 500)), searches)))
    return compare(*arms).significant


def ratio_naive(rng: Generator) -> bool:
    """What the delta method avoids: searches taken as independent units."""
    arms = []
    for _ in range(2):
        searches = rng.poisson(4, 500) + 1
        arms.append(
            Proportion(int(searches.sum()), int(rng.binomial(searches, rng.beta(2, 8, 500)).sum()))
        )
    return compare(*arms).significant


def quantile(rng: Generator) -> bool:
    a, b = rng.lognormal(0, 1, (2, 1000))
    return compare(Quantile.of(a, 0.9), Quantile.of(b, 0.9)).significant


def with_cuped(rng: Generator) -> bool:
    past = rng.gamma(2.0, 5.0, (2, 400))
    now = 0.8 * past + rng.gamma(1.0, 3.0, (2, 400))
    arms = cuped.adjust({"a": Pair.of(now[0], past[0]), "b": Pair.of(now[1], past[1])})
    return compare(arms["a"], arms["b"]).significant


def family(correction: str) -> Callable[[Generator], bool]:
    def run(rng: Generator) -> bool:
        control, *arms = (Proportion(1000, int(x)) for x in rng.binomial(1000, 0.12, 4))
        found = [compare(control, arm, alpha=interval_alpha(0.05, 3, correction)) for arm in arms]  # type: ignore[arg-type]
        return min(adjust([c.p_value for c in found], correction)) < 0.05  # type: ignore[arg-type]

    return run


def family_intervals(rng: Generator) -> bool:
    control, *arms = (Proportion(1000, int(x)) for x in rng.binomial(1000, 0.12, 4))
    return any(excludes_zero(compare(control, arm, alpha=0.05 / 3)) for arm in arms)


def guardrail(rng: Generator) -> bool:
    """True harm is exactly the margin: ruling it out is the error."""
    a, b = rng.binomial(2000, 0.30), rng.binomial(2000, 0.27)
    return non_inferiority(Proportion(2000, int(a)), Proportion(2000, int(b)), margin=0.1).ruled_out


def mismatch(rng: Generator) -> bool:
    n = rng.binomial(10_000, 0.5)
    return sample_ratio_p_value({"a": int(n), "b": 10_000 - int(n)}) < 0.05


# Looking every day

DAYS, PER_DAY, RATE = 14, 150, 0.12


def daily(rng: Generator) -> Iterator[tuple[int, Proportion, Proportion]]:
    a, b = rng.binomial(PER_DAY, RATE, (2, DAYS)).cumsum(axis=1)
    for day in range(DAYS):
        n = PER_DAY * (day + 1)
        yield n, Proportion(n, int(a[day])), Proportion(n, int(b[day]))


def peek_plain(rng: Generator) -> bool:
    return any(proportions_z(a, b)[1] < 0.05 for _, a, b in daily(rng))


def peek_always_valid(rng: Generator) -> bool:
    planned = 2 * PER_DAY * DAYS
    return any(
        always_valid.compare(a, b, units=2 * n, planned=planned).significant
        for n, a, b in daily(rng)
        if n >= always_valid.MIN_UNITS
    )


def peek_bounds(spending: gs.Spending) -> Callable[[Generator], bool]:
    bounds = gs.spending_bounds([(d + 1) / DAYS for d in range(DAYS)], spending=spending)

    def run(rng: Generator) -> bool:
        return any(
            abs(proportions_z(a, b)[0]) >= z
            for (_, a, b), z in zip(daily(rng), bounds.z, strict=True)
        )

    return run


def peek_many(spending: gs.Spending, runs: int = 200_000) -> float:
    """`peek_bounds` with whole arrays, often enough that the share, in percent, has
    an error below .1.
    """
    rng = np.random.default_rng([SEED, 3000])
    bounds = np.array(
        gs.spending_bounds([(d + 1) / DAYS for d in range(DAYS)], spending=spending).z
    )
    a, b = rng.binomial(PER_DAY, RATE, (2, runs, DAYS)).cumsum(axis=2)
    n = PER_DAY * np.arange(1, DAYS + 1)
    pooled = (a + b) / (2 * n)
    z = (b - a) / n / np.sqrt(pooled * (1 - pooled) * 2 / n)
    return float(100 * (np.abs(z) >= bounds).any(axis=1).mean())


def peek_guardrail(kind: str) -> Callable[[Generator], bool]:
    """True harm is exactly the margin; the error is to rule it out on any day."""
    arms = [{"name": "a", "allocation": 50}, {"name": "b", "allocation": 50}]
    rule = Guardrail(name="g", margin=0.1)
    design = Design.model_validate(
        {
            "hypothesis": "h",
            "variants": arms,
            "primary": {"name": "m"},
            "minimum_effect": 1,
            "analysis": kind,
            "guardrails": [rule],
        }
    )
    times = [(d + 1) / DAYS for d in range(DAYS)]
    bounds = gs.spending_bounds(times, sided=1).z

    def run(rng: Generator) -> bool:
        a, b = (
            rng.binomial(PER_DAY, 0.30, DAYS).cumsum(),
            rng.binomial(PER_DAY, 0.27, DAYS).cumsum(),
        )
        for day in range(DAYS):
            n = PER_DAY * (day + 1)
            look = Look(times[day], 0, bounds[day]) if kind == "group_sequential" else None
            level = guardrail_alpha(design, rule, "b", 2 * n, PER_DAY * DAYS, look)
            if non_inferiority(
                Proportion(n, int(a[day])), Proportion(n, int(b[day])), margin=0.1, alpha=level
            ).ruled_out:
                return True
        return False

    return run


def peek_long(rng: Generator) -> bool:
    """A confidence sequence on skewed revenue, looked at 400 times."""
    a, b = rng.gamma(0.5, 20.0, (2, 8000))
    steps = np.arange(100, 8001, 20)

    def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s, q = x.cumsum()[steps - 1], (x**2).cumsum()[steps - 1]
        return s / steps, (q - s * s / steps) / (steps - 1)

    (ma, va), (mb, vb) = moments(a), moments(b)
    z = (mb - ma) / np.sqrt((va + vb) / steps)
    limits = np.array([always_valid.radius(2 * int(n), 8000) for n in steps])
    return bool((np.abs(z) > limits).any())


# The same with the tools one would otherwise take


def scipy_welch(rng: Generator) -> bool:
    a, b = rng.gamma(2.0, 5.0, (2, 400))
    return bool(ttest_ind(a, b, equal_var=False).pvalue < 0.05)


def statsmodels_z(rng: Generator) -> bool:
    return bool(proportions_ztest(rng.binomial(1000, 0.12, 2), [1000, 1000])[1] < 0.05)


KINDS: list[tuple[str, Callable[[Generator], bool], str]] = [
    ("two-proportion z, absolute", proportion, "5"),
    ("two-proportion z, relative (by its interval)", proportion_relative, "5"),
    ("two-proportion z, arms 8 : 1", unequal_arms, "5"),
    ("  statsmodels proportions_ztest", statsmodels_z, "5"),
    ("Welch t, skewed values", mean, "5"),
    ("Welch t, unequal variances and sizes", mean_unequal_variances, "5"),
    ("Welch t, relative (by its Fieller interval)", mean_relative, "5"),
    ("Welch t, heavy tail winsorised at 99 %", winsorised, "5"),
    ("  scipy ttest_ind", scipy_welch, "5"),
    ("ratio, delta method", ratio, "5"),
    ("  the same with events taken for units", ratio_naive, "shown"),
    ("quantile 0.9", quantile, "5"),
    ("CUPED", with_cuped, "5"),
    ("3 treatments, Bonferroni", family("bonferroni"), "<=5"),
    ("3 treatments, Bonferroni's intervals", family_intervals, "<=5"),
    ("3 treatments, Holm", family("holm"), "<=5"),
    ("3 treatments, Benjamini-Hochberg", family("benjamini-hochberg"), "<=5"),
    ("  3 treatments, uncorrected", family("none"), "shown"),
    ("guardrail at its margin", guardrail, "5"),
    ("sample-ratio mismatch at 0.05", mismatch, "5"),
]
PEEKS: list[tuple[str, Callable[[Generator], bool], str]] = [
    ("plain z, looked at daily", peek_plain, "shown"),
    ("always-valid, looked at daily", peek_always_valid, "<=5"),
    ("always-valid, skewed means, 396 looks", peek_long, "<=5"),
    ("group-sequential, O'Brien-Fleming spending", peek_bounds("obrien-fleming"), "<=5"),
    ("group-sequential, Pocock spending", peek_bounds("pocock"), "<=5"),
    ("guardrail at its margin, one look's test daily", peek_guardrail("fixed"), "shown"),
    ("guardrail at its margin, always-valid", peek_guardrail("always_valid"), "<=5"),
    ("guardrail at its margin, group-sequential", peek_guardrail("group_sequential"), "<=5"),
]


def false_positives(kinds: list[tuple[str, Callable[[Generator], bool], str]], runs: int) -> None:
    for index, (name, test, promise) in enumerate(kinds):
        rng = np.random.default_rng([SEED, index])
        found = 100 * sum(test(rng) for _ in range(runs)) / runs
        error = 100 * math.sqrt(0.05 * 0.95 / runs)
        good = {"5": abs(found - 5) <= 1, "<=5": found <= 5 + 2 * error, "shown": True}[promise]
        wanted = {"5": "5 ± 1", "<=5": "at most 5", "shown": "-"}[promise]
        result = "" if promise == "shown" else "ok" if good else "MISSED"
        print(f"{name:48}{found:8.2f} %   {wanted:10} {result}")


def power(runs: int) -> None:
    rng = np.random.default_rng([SEED, 1000])
    rows = [*fixed_power(rng, runs), *group_sequential_power(rng, runs)]
    for name, hits in rows:
        found = 100 * hits / runs
        print(f"{name:60}{found:8.2f} %   80 ± 2   {'ok' if abs(found - 80) <= 2 else 'MISSED'}")
    always_valid_power(rng, runs)


def fixed_power(rng: Generator, runs: int) -> list[tuple[str, int]]:
    """Significant results of tests with a single look, by name."""
    n = math.ceil(proportion_sample_size(0.12, 0.03))
    draws = zip(rng.binomial(n, 0.12, runs), rng.binomial(n, 0.15, runs), strict=True)
    rates = sum(
        proportions_z(Proportion(n, int(a)), Proportion(n, int(b)))[1] < 0.05 for a, b in draws
    )
    rows = [(f"two-proportion z, 12 % to 15 %, n {n}", rates)]
    n = math.ceil(mean_sample_size(0.5, 1.0))
    means = sum(
        compare(Mean.of(rng.normal(0, 1, n)), Mean.of(rng.normal(0.5, 1, n))).significant
        for _ in range(runs)
    )
    rows.append((f"Welch t, half a standard deviation, n {n}", means))
    n = math.ceil(mean_sample_size(1.0, 50.0, power=0.8))
    skewed = sum(
        compare(Mean.of(rng.gamma(2.0, 5.0, n)), Mean.of(rng.gamma(2.0, 5.0, n) + 1)).significant
        for _ in range(runs)
    )
    return [*rows, (f"Welch t, skewed values, n {n}", skewed)]


def group_sequential_power(rng: Generator, runs: int) -> list[tuple[str, int]]:
    """Tests that crossed a bound at any of five looks, by name."""
    rows = []
    times = [0.2, 0.4, 0.6, 0.8, 1.0]
    for spending in ("obrien-fleming", "pocock"):
        bounds = gs.spending_bounds(times, spending=spending)  # type: ignore[arg-type]
        drift = gs.drift_for_power(times, bounds.z, 0.8)
        factor = (drift / gs.drift_for_power([1.0], [1.959964], 0.8)) ** 2
        n = math.ceil(proportion_sample_size(0.12, 0.03) * factor / 5)
        a = rng.binomial(n, 0.12, (runs, 5)).cumsum(1)
        b = rng.binomial(n, 0.15, (runs, 5)).cumsum(1)

        def crosses(first: np.ndarray, second: np.ndarray, n: int, bounds: gs.Bounds) -> bool:
            return any(
                abs(proportions_z(Proportion(n * k, int(x)), Proportion(n * k, int(y)))[0]) >= z
                for k, (x, y, z) in enumerate(zip(first, second, bounds.z, strict=True), 1)
            )

        hits = sum(crosses(a[r], b[r], n, bounds) for r in range(runs))
        rows.append((f"group-sequential {spending}, 5 looks, n {5 * n}", hits))
    return rows


def always_valid_power(rng: Generator, runs: int) -> None:
    arms = [{"name": "a", "allocation": 50}, {"name": "b", "allocation": 50}]
    design = Design.model_validate(
        {
            "hypothesis": "h",
            "variants": arms,
            "primary": {"name": "m"},
            "minimum_effect": 0.03,
            "baseline": 0.12,
            "analysis": "always_valid",
        }
    )
    n = required_units(design) or 0
    looks = np.array([math.ceil(n * (d + 1) / DAYS) for d in range(DAYS)])
    steps = np.diff(looks, prepend=0)
    a = rng.binomial(steps, 0.12, (runs, DAYS)).cumsum(1)
    b = rng.binomial(steps, 0.15, (runs, DAYS)).cumsum(1)

    def is_significant(units: int, first: int, second: int) -> bool:
        return always_valid.compare(
            Proportion(units, first), Proportion(units, second), units=2 * units, planned=2 * n
        ).significant

    found = np.array(
        [
            [
                is_significant(int(k), int(x), int(y))
                for k, x, y in zip(looks, a[r], b[r], strict=True)
            ]
            for r in range(min(runs, 2000))
        ]
    )
    print(
        f"always-valid, n {n}: {100 * found[:, -1].mean():.1f} % at the planned end, "
        f"{100 * found.any(axis=1).mean():.1f} % by then when looked at daily"
    )


def cuped_factor() -> None:
    rng = np.random.default_rng([SEED, 2000])
    for rho in (0.3, 0.5, 0.7, 0.9):
        past = rng.normal(0, 1, (2, 50_000))
        now = rho * past + math.sqrt(1 - rho**2) * rng.normal(0, 1, (2, 50_000))
        arms = {"a": Pair.of(now[0], past[0]), "b": Pair.of(now[1], past[1])}
        plain, better = (
            compare(Mean.of(now[0]), Mean.of(now[1])),
            compare(*cuped.adjust(arms).values()),
        )
        assert plain.interval and better.interval
        factor = (better.interval[1] - better.interval[0]) / (plain.interval[1] - plain.interval[0])
        theory = math.sqrt(1 - rho**2)
        print(f"correlation {rho}: interval narrowed to {factor:.4f}, theory {theory:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    arguments = parser.parse_args()
    began = time.perf_counter()
    print(machine())
    print(f"\nFalse positives in {arguments.runs:,} A/A tests")
    false_positives(KINDS, arguments.runs)
    print(
        f"\nFalse positives in {5 * arguments.runs:,} A/A tests of {DAYS} days "
        "that are looked at early and stopped at the first success"
    )
    false_positives(PEEKS, 5 * arguments.runs)
    for spending in ("obrien-fleming", "pocock"):
        found = peek_many(spending)
        name, result = f"{spending} spending, 200,000 tests", "ok" if found <= 5.1 else "MISSED"
        print(f"{name:48}{found:8.2f} %   at most 5  {result}")
    print(f"\nPower in {5 * arguments.runs:,} tests planned for 80 %")
    power(5 * arguments.runs)
    print("\nCUPED")
    cuped_factor()
    print(f"\n{time.perf_counter() - began:.0f} s")
