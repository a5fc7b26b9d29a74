"""Clusters as units, with people observed in them."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_experiments import clusters
from shoal_experiments.calculator import SampleSize, sample_size
from shoal_experiments.clusters import Clusters, cluster_variance
from shoal_experiments.comparison import EstimateContrast, compare, contrast
from shoal_experiments.required_units import required_units
from shoal_experiments.summaries import Undefined

from .lab import Lab
from .test_design import design


def draw(rng: np.random.Generator, n: int, rate: float = 0.3) -> Clusters:
    size = np.round(np.exp(rng.uniform(math.log(5), math.log(5000), n)))
    total = rng.binomial(size.astype(int), rng.beta(19 * rate, 19 * (1 - rate), n))
    return Clusters(total.astype(float), size)


def test_the_variance_is_that_of_the_regression_on_people() -> None:
    """CR2 and its degrees of freedom by matrices of one row per person."""
    rng = np.random.default_rng(1)
    size = np.array([3, 1, 7, 4])
    cluster = np.repeat(np.arange(4), size)
    value = rng.normal(size=15) + rng.normal(size=4)[cluster]
    people = len(value)
    residual_of = np.eye(people) - 1 / people
    parts = []
    for c in range(4):
        rows = cluster == c
        values, vectors = np.linalg.eigh(residual_of[np.ix_(rows, rows)])
        root = vectors @ np.diag(np.maximum(values, 0) ** -0.5) @ vectors.T
        parts.append(residual_of[:, rows] @ root @ np.full(rows.sum(), 1 / people))
    parts_of = np.array(parts)
    products = parts_of @ parts_of.T
    found = Clusters(np.bincount(cluster, value), size.astype(float)).estimate()
    assert found.value == pytest.approx(value.mean())
    assert found.variance == pytest.approx(((parts_of @ value) ** 2).sum())
    assert found.dof == pytest.approx(np.trace(products) ** 2 / (products**2).sum())


def enumerated(control: Clusters, treatment: Clusters, effect: float) -> tuple[float, float]:
    """One-sided p-values over all ways to choose the treated clusters."""
    total = np.concatenate([control.total, treatment.total - effect * treatment.size])
    size = np.concatenate([control.size, treatment.size])

    def t(chosen: list[int]) -> float:
        parts = []
        for rows in (chosen, [i for i in range(len(size)) if i not in chosen]):
            y, n = total[rows], size[rows]
            mean, k = y.sum() / n.sum(), len(rows)
            variance = k / (k - 1) * ((y - mean * n) ** 2).sum() / n.sum() ** 2
            parts.append((mean, variance))
        return float((parts[0][0] - parts[1][0]) / math.sqrt(parts[0][1] + parts[1][1]))

    first = len(control.size)
    own = t(list(range(first, len(size))))
    ways = [t(list(way)) for way in combinations(range(len(size)), len(treatment.size))]
    above = sum(w >= own - 1e-9 for w in ways) / len(ways)
    return above, sum(w <= own + 1e-9 for w in ways) / len(ways)


@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_draws_agree_with_all_permutations(effect: float) -> None:
    rng = np.random.default_rng(2)
    control, treatment = draw(rng, 5), draw(rng, 4, 0.4)
    found = contrast(control, treatment, "absolute")
    tails = [found.tail(effect, above=side) for side in (True, False)]
    assert tails == pytest.approx(enumerated(control, treatment, effect), abs=0.02)


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from(["absolute", "relative"]), st.floats(0, 0.4))
def test_interval_and_test_of_clusters_agree(seed: int, scale: Any, shift: float) -> None:
    rng = np.random.default_rng(seed)
    try:
        c = compare(draw(rng, 6), draw(rng, 7, 0.3 + shift), effect=scale)
    except Undefined:
        return
    assert c.interval is not None and c.interval[0] <= c.effect <= c.interval[1]
    assert (c.interval[0] > 0 or c.interval[1] < 0) == c.significant


def test_few_unequal_clusters_find_nothing_in_five_percent() -> None:
    """Of A/A tests, where t with the delta method's variance finds 18 %."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        found = contrast(draw(rng, 10), draw(rng, 10), "absolute")
        hits += 2 * min(found.tail(0, above=side) for side in (True, False)) < 0.05
    assert 3 <= hits <= 18  # 99.8 % of binomial(200, .05)


def test_many_clusters_are_compared_by_t(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    arms = draw(rng, 40), draw(rng, 40)
    permuted = compare(*arms)
    monkeypatch.setattr(clusters, "MAX_CLUSTERS", 10)
    plain = compare(*arms)
    assert (permuted.method, plain.method) == ("cluster permutation", "cluster-robust t")
    assert isinstance(contrast(*arms, "absolute"), EstimateContrast)
    assert permuted.p_value == pytest.approx(plain.p_value, abs=0.1)


def test_the_planned_variance_of_clusters_is_the_simulated_one() -> None:
    rng = np.random.default_rng(5)
    icc, n = 0.1, 4000
    size = rng.integers(5, 36, n)
    value = size * rng.normal(0, math.sqrt(icc), n) + rng.normal(0, np.sqrt(size * (1 - icc)))
    mean, cv = size.mean(), size.std() / size.mean()
    planned = cluster_variance(1.0, mean, cv, icc)
    simulated = n * Clusters(value, size.astype(float)).estimate().variance
    assert simulated == pytest.approx(planned, rel=0.1)


def test_a_plan_with_people_counts_clusters() -> None:
    people = {"event": "joined", "mean_size": 50, "icc": 0.05}
    n = required_units(design(people=people, baseline=0.3, minimum_effect=0.1)) or 0
    alone = required_units(design(baseline=0.3, minimum_effect=0.1)) or 0
    assert n * 50 == pytest.approx(alone * (1 + 49 * 0.05), rel=0.15)
    assert required_units(design(people={"event": "joined"})) is None


def test_people_count_for_the_company_they_belong_to(lab: Lab) -> None:
    """Against a dictionary, with movers, strangers, and people who join late."""
    lab.start("x", 3, people={"event": "joined", "field": "company"})
    rng = np.random.default_rng(6)
    arm = {f"c{i}": "ab"[i % 2] for i in range(8)}
    company = {f"p{i}": f"c{i % 9}" for i in range(90)}  # c8 is not exposed
    bought = {p for p in company if rng.random() < 0.4}
    lab.archive(*(lab.event("joined", p, 20, company=c) for p, c in company.items()))
    lab.archive(
        *(lab.exposure("x", c, a, 2.9) for c, a in arm.items()),
        lab.event("joined", "p0", 2.5, company="c5"),  # the first counts
        lab.event("joined", "late", 1.5, company="c0"),
        lab.event("buy", "late", 2.0),
        lab.event("buy", "late", 1.0),
        lab.event("buy", "stranger", 1.0),
        *(lab.event("buy", p, 2.0) for p in bought),
    )
    company["late"] = "c0"
    bought.add("late")
    report = lab.client.experiments.results(id="x")
    for name, row in report["metrics"][0]["arms"].items():
        people = [p for p, c in company.items() if arm.get(c) == name]
        assert (row["n"], row["people"]) == (4, len(people))
        assert row["value"] == pytest.approx(len(bought & set(people)) / len(people))
    assert report["metrics"][0]["comparisons"]["b"]["test"] == "cluster permutation"
    assert report["health"]["units"] == {"a": 4, "b": 4}
    made, _ = lab.observe("x")
    assert made == []


def test_the_calculator_counts_clusters() -> None:
    plan = {"metric": "mean", "baseline": 1, "minimum_effect": 0.5, "variance": 1}
    alone = sample_size(SampleSize.model_validate({**plan, "clusters": {"mean_size": 1, "icc": 0}}))
    assert alone == sample_size(SampleSize.model_validate(plan))
    sizes = {"mean_size": 21, "size_cv": 1, "icc": 0.1}
    found = sample_size(SampleSize.model_validate({**plan, "clusters": sizes}))
    # the design effect is 1 + (2 · 21 - 1) · .1 = 5.1, over 21 people each
    assert found["exact"] == pytest.approx(62.8 * 5.1 / 21 + 0.97, rel=0.03)


@pytest.mark.parametrize(
    ("rate", "effect"), [(0.01, 0.02), (0.05, 0.05), (0.1, 0.02), (0.1, -0.05), (0.9, -0.1)]
)
@pytest.mark.parametrize("ratio", [0.25, 1.0])
def test_rates_in_clusters_of_one_need_as_many_units(
    rate: float, effect: float, ratio: float
) -> None:
    plan = {
        "metric": "proportion",
        "baseline": rate,
        "minimum_effect": effect,
        "ratio": ratio,
        "alpha": 0.1,
    }
    own = rate * (1 - rate) + (rate + effect) * (1 - rate - effect) / ratio
    unpooled = (1.6449 + 0.8416) ** 2 * own / effect**2  # Fleiss, Levin & Paik, 4.2
    alone = {"mean_size": 1, "icc": 0}
    found = sample_size(SampleSize.model_validate({**plan, "clusters": alone}))
    assert found["exact"] == pytest.approx(unpooled, rel=0.03)
