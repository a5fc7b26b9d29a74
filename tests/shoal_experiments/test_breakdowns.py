"""The primary metric by attributes of units: which units, and with which error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests

from shoal_experiments.attribute_values import MAX_VALUES, attribute_values, daily_attributes
from shoal_experiments.attributes import Attribute
from shoal_experiments.breakdowns import break_down
from shoal_experiments.metric_data import MetricData
from shoal_experiments.summaries import Mean

from .lab import PLAIN, Lab
from .test_aggregation import event, exposure, table, who
from .test_design import design


def groups_of(rng: np.random.Generator, number: int, effect: float = 0.0) -> dict[str, MetricData]:
    """Groups of 30 to 60 units an arm; the effect is the first group's."""
    groups = {}
    for i in range(number):
        sizes = rng.integers(30, 60, 2)
        arms = {
            "a": Mean.of(rng.normal(0, 1, sizes[0])),
            "b": Mean.of(rng.normal(effect if i == 0 else 0, 1, sizes[1])),
        }
        groups[f"g{i}"] = MetricData(dict(arms), {}, {k: v.n for k, v in arms.items()}, {})
    return groups


PLAN = design(primary={"name": "m", "kind": "mean"}, variance=1.0, minimum_effect=0.1)


def test_groups_agree_with_statsmodels() -> None:
    groups = {"plan": groups_of(np.random.default_rng(1), 4, 1.0)}
    found = break_down(PLAN, groups, planned=100)
    [attribute] = found["attributes"]
    rows = [group["comparisons"]["b"] for group in attribute["groups"]]
    raw = [row["p_value"] for row in rows]
    adjusted = [row["p_value_adjusted"] for row in rows]
    assert adjusted == pytest.approx(multipletests(raw, method="holm")[1])
    assert found["family"] == 4 and rows[0]["confidence"] == pytest.approx(1 - 0.05 / 4)
    arms = [data.arms for data in groups["plan"].values()]
    effects = np.array([g["b"].mean - g["a"].mean for g in arms])
    variances = np.array([sum(g[k].variance / g[k].n for k in "ab") for g in arms])
    theirs = combine_effects(effects, variances).test_homogeneity()
    assert attribute["heterogeneity"]["b"]["p_value"] == pytest.approx(theirs.pvalue)


def test_some_group_is_significant_in_five_percent_at_most() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        found = break_down(PLAN, {"p": groups_of(rng, 5), "c": groups_of(rng, 5)}, planned=100)
        rows = [g["comparisons"]["b"] for a in found["attributes"] for g in a["groups"]]
        hits += any(row["significant"] for row in rows)
    assert hits <= 18  # 99 % of binomial(200, .05); uncorrected 40 % have one


def test_the_latest_value_before_the_exposure_counts() -> None:
    days = [
        [event("plan", "u1", -40, plan="free"), event("plan", "u1", -30, plan="pro")],
        [event("plan", "u1", 5, plan="free"), event("plan", "u2", 3, plan="free")],
        [event("plan", "u3", -2, plan=7), event("plan", "u9", -2, plan="pro")],
    ]
    attribute = Attribute(name="plan", event="plan")
    tables = [daily_attributes(table(*events), [attribute], "x", "user") for events in days]
    exposed = who(*(exposure(u, "a", 1) for u in ("u1", "u2", "u3")))
    units = exposed.units.to_pylist()
    for order in (tables, tables[::-1]):
        groups = attribute_values(exposed, order, "plan")
        found = {v: {u for u, own in zip(units, g, strict=True) if own} for v, g in groups.items()}
        assert found == {"pro": {"u1"}, "(none)": {"u2", "u3"}}


def test_rare_values_are_together() -> None:
    events = [event("plan", f"u{i}", -2, plan=f"p{min(i // 2, 15 + i % 2)}") for i in range(40)]
    tables = [daily_attributes(table(*events), [Attribute(name="plan", event="plan")], "x", "user")]
    exposed = who(*(exposure(f"u{i}", "a", 1) for i in range(40)))
    groups = attribute_values(exposed, tables, "plan")
    assert len(groups) == MAX_VALUES + 1
    assert sum(int(chosen.sum()) for chosen in groups.values()) == 40


def test_results_by_plan_and_country(lab: Lab) -> None:
    """Against dictionaries; the country comes with the request for the assignment."""
    breakdowns: list[dict[str, Any]] = [{"name": "plan", "event": "signup"}, {"name": "country"}]
    lab.client.experiments.draft(
        id="x", body=PLAIN | {"primary": {"name": "bought"}, "breakdowns": breakdowns}
    )
    plan = {f"u{i}": ("pro", "free")[i % 3 == 0] for i in range(60)}
    lab.log(*(lab.event("signup", u, 1.0, plan=p) for u, p in plan.items()))
    lab.client.experiments.start(id="x")
    country = {u: ("DE", "FR")[i % 2] for i, u in enumerate(plan)}
    arm = {
        u: lab.client.experiments.assignment(id="x", unit=u, attribute=[f"country:{c}", "age:7"])[
            "variant"
        ]
        for u, c in country.items()
    }
    bought = [u for i, u in enumerate(plan) if i % 4 == 0]
    lab.client.experiments.add_outcomes(id="x", body=[{"unit": u} for u in bought])
    found = lab.client.experiments.results(id="x")["breakdowns"]
    assert "decides nothing" in found["warning"] and found["family"] == 4
    for attribute, truth in zip(found["attributes"], (plan, country), strict=True):
        for group in attribute["groups"]:
            for name in "ab":
                units = [u for u in plan if truth[u] == group["value"] and arm[u] == name]
                assert group["units"][name] == len(units)
                expected = len([u for u in units if u in bought]) / len(units)
                assert group["arms"][name] == pytest.approx(expected)
