"""Designs, verdicts and reports."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shoal_experiments import aggregation as agg
from shoal_experiments import always_valid
from shoal_experiments.design import Design
from shoal_experiments.guardrails import check_guardrail
from shoal_experiments.looks import next_look
from shoal_experiments.metric_data import MetricData
from shoal_experiments.observations import Observed
from shoal_experiments.promotion import due_step, ramp_design
from shoal_experiments.reporting import assess
from shoal_experiments.repository import Document, Plan, Ramp
from shoal_experiments.required_units import required_units
from shoal_experiments.sample_size import proportion_sample_size
from shoal_experiments.summaries import Mean, Proportion
from shoal_experiments.verdict import Finding, GuardrailFinding, decide, format_number

ARMS = [{"name": "a", "allocation": 50}, {"name": "b", "allocation": 50}]
THREE = [
    {"name": "a", "allocation": 50},
    {"name": "b", "allocation": 25},
    {"name": "c", "allocation": 25},
]
IN_AB = {"attribute": "x", "values": ["a", "b"]}
LESS = {"name": "m", "better": "decrease"}
START = datetime(2026, 3, 2, tzinfo=UTC)


def design(**fields: Any) -> Design:
    return Design.model_validate(
        {
            "hypothesis": "h",
            "variants": ARMS,
            "primary": {"name": "m"},
            "minimum_effect": 0.02,
            "baseline": 0.1,
            **fields,
        }
    )


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(Design.model_fields)), JSON_VALUES)
def test_any_json_is_a_design_or_a_validation_error(field: str, value: Any) -> None:
    with suppress(ValidationError):
        design(**{field: value})


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"variants": ARMS[:1]}, "at least 2"),
        ({"variants": [ARMS[0], {"name": "b", "allocation": 49}]}, "sum to 100"),
        ({"variants": [ARMS[0], {"name": "a", "allocation": 50}]}, "must differ"),
        (
            {"variants": [{"name": "a", "allocation": 100}, {"name": "b", "allocation": 0}]},
            "at least 0.01 percent",
        ),
        ({"control": "z"}, "not among the variants"),
        ({"minimum_effect": 0}, "must not be zero"),
        ({"minimum_effect": float("nan")}, "finite"),
        ({"secondary": [{"name": "m"}]}, "more than once"),
        ({"variants": {"a": 1}}, "variant a must be an object"),
        (
            {"variants": {"a": {"allocation": 50, "x": 1, "parameters": {}}, "b": {}}},
            "x must be among",
        ),
        ({"metrics": {"primary": "m"}}, "primary must be given once"),
        ({"minimum_effect": None}, "minimum_sample_size instead"),
        ({"primary": {"name": "m", "kind": "ratio"}}, "needs `per`"),
        ({"primary": {"name": "m", "kind": "quantile"}}, "needs `quantile`"),
        ({"primary": {"name": "m", "kind": "retention"}}, "window_days"),
        ({"primary": {"name": "m", "winsorize": 0.9}}, "winsorised"),
        (
            {"primary": {"name": "m", "event": "service.latency_p95", "kind": "mean"}},
            "request metrics",
        ),
        ({"guardrails": [{"name": "g"}]}, "margin"),
        ({"guardrails": [{"name": "g", "margin": 0}]}, "greater than 0"),
        ({"looks": [0.5, 0.2, 1]}, "looks"),
        ({"looks": [0.5]}, "looks"),
        ({"looks": [0.5, 0.5005, 1]}, "at least 0.001 apart"),
        ({"looks": [n / 200 for n in range(1, 201)]}, "most 100"),
        ({"effect": "relative", "baseline": -10}, "above zero"),
        ({"alpha": 0}, "greater than 0"),
        (
            {"primary": {"name": "m", "better": "decrease"}},
            "the primary metric is better",
        ),
        ({"minimum_effect": -0.02}, "give 0.02, or change `better`"),
        ({"targeting": [IN_AB, {**IN_AB, "operator": "not_in"}]}, "no unit can take part"),
        (
            {
                "targeting": [
                    IN_AB,
                    {"attribute": "x", "operator": "not_in", "values": ["a"]},
                    {"attribute": "x", "operator": "not_in", "values": ["b", "c"]},
                ]
            },
            "asks for x in and not in a, b",
        ),
        *(
            ({"traffic": traffic, "layer": layer, "holdout": holdout}, "less than 0.01 percent")
            for traffic, layer, holdout in (
                (1e-9, None, None),
                (100, {"name": "l", "percent": 1e-9}, None),
                (100, None, {"name": "h", "percent": 100}),
            )
        ),
        *(
            (
                {"guardrails": [{"name": "g", "margin": margin, "margin_scale": "absolute"}]},
                "absolute margin of a share must be below 1",
            )
            for margin in (1, 1.01, 2, 1e150)
        ),
        ({"layer": {"name": "ui", "percent": 101}}, "less than or equal to 100"),
        ({"hypothesis": ""}, "at least 1"),
    ],
)
def test_an_invalid_design_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        design(**fields)


def test_designs_at_the_edges_of_the_possible_are_accepted() -> None:
    not_a = {"attribute": "x", "operator": "not_in", "values": ["a"]}
    design(targeting=[IN_AB, not_a, {**IN_AB, "attribute": "y", "operator": "not_in"}])
    design(baseline=0.9, minimum_effect=0.1)
    design(primary=LESS, baseline=0.1, minimum_effect=-0.1)
    design(primary=LESS, baseline=0.1, minimum_effect=-1, effect="relative")
    design(primary={"name": "m", "kind": "mean"}, baseline=-5, minimum_effect=9)
    design(guardrails=[{"name": "g", "margin": 0.99, "margin_scale": "absolute"}])


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.dictionaries(st.text("xyz", min_size=1, max_size=2), st.integers(), max_size=2),
        min_size=2,
        max_size=4,
    ),
    st.integers(1, 90),
)
def test_a_design_means_the_same_in_each_form(payloads: dict[str, Any], days: int) -> None:
    share = 100 / len(payloads)
    listed = [
        {"name": name, "allocation": share, "parameters": payload}
        for name, payload in payloads.items()
    ]
    rest = {"hypothesis": "h", "minimum_effect": 0.1}
    plain = {
        **rest,
        "variants": listed,
        "primary": {"name": "m"},
        "secondary": [{"name": "n"}],
        "duration_days": days,
        "minimum_sample_size": 9,
    }
    named = {name: {"allocation": f"{share!r} %", **p} for name, p in payloads.items()}
    specified = {
        **rest,
        "variants": named,
        "metrics": {"primary": "m", "secondary": ["n"]},
        "duration": f"{days} days",
        "min_sample_size": 9,
    }
    assert Design.model_validate(specified) == Design.model_validate(plain)


def test_the_hash_depends_only_on_the_content() -> None:
    one = design()
    assert one.hash() == Design.model_validate(json.loads(one.model_dump_json())).hash()
    assert one.hash() != design(alpha=0.01).hash()


def test_the_control_is_the_first_variant_unless_it_is_named() -> None:
    assert design().treatments == ["b"]
    assert design(control="b").treatments == ["a"]
    arms = {"new": {"allocation": 50}, "control": {"allocation": 50}}
    assert design(variants=arms).control == "control"


def test_the_sample_size_is_for_the_smallest_arm_after_correction() -> None:
    n = required_units(design(variants=THREE))
    control = proportion_sample_size(0.1, 0.02, alpha=0.025, ratio=0.5)
    assert n == pytest.approx(control / 2, abs=1)
    assert required_units(design(baseline=None)) is None
    assert required_units(design(primary={"name": "m", "kind": "mean"})) is None
    mean = design(primary={"name": "m", "kind": "mean"}, variance=4.0)
    assert required_units(mean) == pytest.approx(157_000, rel=0.01)


def test_sequential_designs_need_more_units() -> None:
    fixed, gs, always = (
        required_units(design(analysis=a)) for a in ("fixed", "group_sequential", "always_valid")
    )
    assert fixed is not None and gs is not None and always is not None
    assert 1.01 < gs / fixed < 1.05 < 1.5 < always / fixed < 2.2
    least = required_units(design(analysis="always_valid", minimum_effect=0.5))
    assert least == 100  # fewer are never shown


@pytest.mark.parametrize(
    ("split", "baseline", "effect", "minimum"),
    [
        (50, 0.1, "relative", 0.3),
        (50, 0.1, "relative", 1.0),
        (90, 0.12, "absolute", 0.03),
        (99, 0.12, "absolute", 0.03),
        (10, 0.12, "absolute", 0.03),
        (50, 0.01, "relative", 1.0),
    ],
)
def test_always_valid_samples_have_the_power_that_was_planned(
    split: float, baseline: float, effect: str, minimum: float
) -> None:
    """By the test that is used, at the planned end: 80 %, its error .3 % here."""
    arms = [{"name": "a", "allocation": split}, {"name": "b", "allocation": 100 - split}]
    plan = design(
        variants=arms,
        baseline=baseline,
        effect=effect,
        minimum_effect=minimum,
        analysis="always_valid",
    )
    per_arm = required_units(plan)
    assert per_arm is not None
    both = plan.planned_units(per_arm, "b")
    n1, n2 = (both - per_arm, per_arm) if split >= 50 else (per_arm, both - per_arm)
    rate = baseline * (1 + minimum) if effect == "relative" else baseline + minimum
    rng = np.random.default_rng(31)
    a, b = rng.binomial(n1, baseline, 20_000), rng.binomial(n2, rate, 20_000)
    pooled = (a + b) / (n1 + n2)
    z = (b / n2 - a / n1) / np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
    power = float((z > always_valid.radius(both, both)).mean())
    assert 0.775 < power < 0.825
    example = Proportion(n1, int(a[0])), Proportion(n2, int(b[0]))
    found = always_valid.compare(*example, units=both, planned=both, effect=plan.effect)
    assert found.statistic == pytest.approx(z[0])


def test_the_duration_is_whole_weeks_for_the_smallest_arm() -> None:
    plan = design(
        variants=THREE,
        traffic=50,
        layer={"name": "l", "percent": 40},
        holdout={"name": "h", "percent": 10},
    )
    assert plan.participation() == pytest.approx(0.18)
    assert plan.whole_weeks(1000, 1000) == 28  # 1000 / (1000 · .25 · .18) = 22.2 days
    with pytest.raises(ValueError, match="traffic, layer and holdout"):
        design(holdout={"name": "h", "percent": 100})


def decided(
    *findings: Finding, guardrails: tuple[GuardrailFinding, ...] = (), ratio: float = 0.5
) -> tuple[str, str | None]:
    v = decide(
        metric="m",
        better="increase",
        confidence=0.95,
        sample_ratio=ratio,
        threshold=0.001,
        findings=findings,
        guardrails=guardrails,
    )
    assert v.reasons and all(r.endswith(".") for r in v.reasons)
    return v.decision, v.winner


GOOD, BAD, FLAT = (
    Finding("b", 0.1, (0.05, 0.15), 0.001, True),
    Finding("b", -0.1, (-0.2, -0.05), 0.001, True),
    Finding("b", 0.01, (-0.1, 0.1), 0.6, False),
)


def guardrail(*, ruled_out: bool, harmed: bool) -> GuardrailFinding:
    return GuardrailFinding("b", "g", ruled_out, harmed, "A reason.")


BEST = Finding("c", 0.2, (0.1, 0.3), 0.001, True)
UNDEFINED = Finding("b", undefined="nothing varies")
UNSURE, HARMED, SAFE = (
    guardrail(ruled_out=False, harmed=False),
    guardrail(ruled_out=False, harmed=True),
    guardrail(ruled_out=True, harmed=False),
)


@pytest.mark.parametrize(
    ("findings", "guardrails", "decision", "winner"),
    [
        ([GOOD], (), "ship", "b"),
        ([BAD], (), "do not ship", None),
        ([FLAT], (), "inconclusive", None),
        ([GOOD], (UNSURE,), "inconclusive", None),
        ([GOOD], (HARMED,), "do not ship", None),
        ([GOOD], (SAFE,), "ship", "b"),
        ([UNDEFINED], (), "inconclusive", None),
        ([GOOD, BEST], (), "ship", "c"),
    ],
)
def test_the_verdict_follows_findings_and_guardrails(
    findings: list[Finding],
    guardrails: tuple[GuardrailFinding, ...],
    decision: str,
    winner: str | None,
) -> None:
    assert decided(*findings, guardrails=guardrails) == (decision, winner)


def test_a_sample_ratio_mismatch_makes_the_verdict_invalid() -> None:
    assert decided(GOOD, ratio=0.0001) == ("invalid", None)


# Reports


def observed(
    counts: dict[str, tuple[int, int]], plan: Design, crossed: int = 0, unusable: int = 0
) -> Observed:
    """(units, successes) by arm on one day, and units seen in all arms."""
    units: list[str | None] = []
    arms: list[str | None] = []
    hits: list[str] = []
    for arm in plan.arms:
        n, successes = counts[arm]
        units += [f"{arm}{i}" for i in range(n)]
        arms += [arm] * n
        hits += [f"{arm}{i}" for i in range(successes)]
        units += [f"crossed{i}" for i in range(crossed)]
        arms += [arm] * crossed
    units, arms = units + [None] * unusable, arms + [None] * unusable
    time = [int(START.timestamp() * 1e6)] * len(units)
    exposures = pa.table({"unit": units, "variant": arms, "time": time}, schema=agg.EXPOSURES)
    one = np.ones(len(hits))
    outcomes = pa.table(
        {
            "component": ["m"] * len(hits),
            "unit": hits,
            "events": one.astype(int),
            "total": one,
            "highest": one,
        },
        schema=agg.OUTCOMES,
    )
    day = date(2026, 3, 2)
    return Observed(agg.exposed_units([exposures], plan.arms), {day: exposures}, {day: outcomes})


def document(plan: Design, per_arm: int = 1000, days: float = 7, **fields: Any) -> Document:
    return Document(
        id="x",
        design=plan,
        status="running",
        hash=plan.hash(),
        started_at=START,
        plan=Plan(per_arm=per_arm, total=2 * per_arm, duration_days=days),
        **fields,
    )


def numbers_in(value: Any, path: str = "") -> list[str]:
    """Paths of p-values, effects and intervals."""
    found = []
    for key, item in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        here = f"{path}.{key}"
        if (
            key in ("p_value", "effect", "interval", "statistic", "value", "harm")
            and "sample_ratio" not in path
        ):
            found.append(here)
        found += numbers_in(item, here)
    return found


COUNTS = {"a": (1000, 100), "b": (1000, 160)}


@pytest.mark.parametrize(("per_arm", "after"), [(1001, 8), (1000, 6.9), (2000, 1)])
def test_nothing_is_shown_before_sample_and_duration_are_reached(
    per_arm: int, after: float
) -> None:
    plan = design(guardrails=[{"name": "g", "margin": 0.1}])
    found, _ = assess(
        document(plan, per_arm), observed(COUNTS, plan), START + timedelta(days=after)
    )
    assert numbers_in(found) == []
    assert found["complete"] is False and found["verdict"]["decision"] == "inconclusive"
    assert found["health"]["units"] == {"a": 1000, "b": 1000}


def test_results_are_shown_at_the_registered_end() -> None:
    plan = design()
    found, _ = assess(document(plan), observed(COUNTS, plan), START + timedelta(days=7))
    row = found["metrics"][0]["comparisons"]["b"]
    assert (
        found["complete"]
        and found["verdict"]["decision"] == "ship"
        and found["verdict"]["winner"] == "b"
    )
    assert (
        row["effect"] == pytest.approx(0.06)
        and row["interval"][0] > 0
        and row["relative"]["effect"] == pytest.approx(0.6)
    )
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("crossed", "decision"), [(0, "ship"), (222, "ship"), (223, "invalid"), (1000, "invalid")]
)
def test_more_than_a_tenth_in_two_variants_is_invalid(crossed: int, decision: str) -> None:
    plan = design()
    found, _ = assess(document(plan), observed(COUNTS, plan, crossed), START + timedelta(days=7))
    reasons = found["verdict"]["reasons"]
    assert found["verdict"]["decision"] == decision
    assert found["health"]["crossovers"]["units"] == crossed
    assert ("no longer comparable" in reasons[0]) == (decision == "invalid")
    assert ("look for the cause" in reasons[-1]) == (crossed > 0)


@pytest.mark.parametrize("per_arm", [1000, 2000])
def test_exposures_left_out_are_a_reason(per_arm: int) -> None:
    plan = design()
    data = observed(COUNTS, plan, unusable=1234)
    found, _ = assess(document(plan, per_arm), data, START + timedelta(days=7))
    assert found["health"]["unusable_exposures"] == 1234
    assert "1,234 exposures are left out" in found["verdict"]["reasons"][-1]


def test_sums_too_large_are_a_reason_before_the_end() -> None:
    plan = design(primary={"name": "m", "kind": "mean"}, variance=1)
    data = observed({"a": (40, 40), "b": (40, 40)}, plan)
    [(day, table)] = data.outcomes.items()
    data.outcomes[day] = table.set_column(3, "total", pa.array([np.inf] * 80))
    found, _ = assess(document(plan, 2), data, START + timedelta(days=8))
    assert found["verdict"]["reasons"][-1] == (
        "The values of 80 units of m are too large to add up."
    )


def test_a_stopped_experiment_below_its_registered_size_shows_nothing() -> None:
    plan = design()
    found, _ = assess(
        document(plan, 2000, stopped_at=START + timedelta(days=8)),
        observed(COUNTS, plan),
        START + timedelta(days=30),
    )
    assert numbers_in(found) == []


def test_a_sample_ratio_mismatch_hides_all_results() -> None:
    plan = design()
    found, _ = assess(
        document(plan, 10),
        observed({"a": (1000, 100), "b": (800, 160)}, plan),
        START + timedelta(days=8),
    )
    assert found["verdict"]["decision"] == "invalid" and found["metrics"] is None


def test_an_always_valid_interval_is_shown_early_and_wider() -> None:
    plan = design(analysis="always_valid")
    early, _ = assess(document(plan, 5000), observed(COUNTS, plan), START + timedelta(days=1))
    fixed, _ = assess(
        document(design(), 1000), observed(COUNTS, design()), START + timedelta(days=8)
    )
    width = [
        r["interval"][1] - r["interval"][0]
        for r in (f["metrics"][0]["comparisons"]["b"] for f in (early, fixed))
    ]
    assert width[0] > width[1]
    assert early["complete"] is False
    few, _ = assess(
        document(plan, 5000),
        observed({"a": (50, 1), "b": (50, 9)}, plan),
        START + timedelta(days=1),
    )
    assert numbers_in(few) == []


def test_a_look_is_taken_when_due_and_shown_between() -> None:
    plan = design(analysis="group_sequential", looks=[0.5, 1])
    none, _ = assess(document(plan, 4000), observed(COUNTS, plan), START + timedelta(days=1))
    assert numbers_in(none) == []
    first, look = assess(document(plan, 2000), observed(COUNTS, plan), START + timedelta(days=1))
    assert look is not None
    assert (look.time, look.information) == (0.5, 0.5) and look.bound == pytest.approx(
        2.9626, abs=1e-3
    )
    more = {"a": (1500, 150), "b": (1500, 150)}
    between, new_look = assess(
        document(plan, 2000, looks=[look]), observed(more, plan), START + timedelta(days=2)
    )
    assert new_look is None and between["metrics"] == first["metrics"]


def test_p_value_interval_and_bound_of_a_look_agree() -> None:
    for hits in range(100, 180, 4):
        plan = design(analysis="group_sequential", looks=[0.5, 1])
        found, look = assess(
            document(plan, 2000),
            observed({"a": (1000, 100), "b": (1000, hits)}, plan),
            START + timedelta(days=1),
        )
        row = found["metrics"][0]["comparisons"]["b"]
        assert look is not None
        assert (
            row["significant"] == (abs(row["statistic"]) >= look.bound) == (row["interval"][0] > 0)
        )


def test_a_look_past_the_end_is_the_last() -> None:
    look = next_look(design(analysis="group_sequential"), 1.3, [0.3, 0.6])
    assert look is not None and look.time == 1
    assert next_look(design(analysis="group_sequential"), 0.3, [0.3]) is None


def test_a_look_that_decides_is_the_last() -> None:
    plan = design(analysis="group_sequential", looks=[0.5, 1])
    first, look = assess(
        document(plan, 2000),
        observed({"a": (1000, 100), "b": (1000, 180)}, plan),
        START + timedelta(days=1),
    )
    assert first["verdict"]["winner"] == "b" and first["complete"]
    later, new_look = assess(
        document(plan, 2000, looks=[look]),
        observed({"a": (2000, 200), "b": (2000, 200)}, plan),
        START + timedelta(days=2),
    )
    assert new_look is None and later["verdict"] == first["verdict"] and later["complete"]


def test_the_first_look_of_a_fixed_test_stays_visible() -> None:
    plan = design()
    first, look = assess(
        document(plan),
        observed({"a": (1000, 100), "b": (1000, 110)}, plan),
        START + timedelta(days=7),
    )
    assert (
        first["verdict"]["decision"] == "inconclusive"
        and look.results["verdict"] == first["verdict"]
    )
    again, new_look = assess(
        document(plan, looks=[look]),
        observed({"a": (1000, 100), "b": (1000, 110)}, plan),
        START + timedelta(days=8),
    )
    assert new_look is None and "first_look" not in again and again["verdict"] == first["verdict"]
    later, new_look = assess(
        document(plan, looks=[look]),
        observed({"a": (1100, 100), "b": (1100, 160)}, plan),
        START + timedelta(days=9),
    )
    assert new_look is None and later["first_look"]["verdict"]["decision"] == "inconclusive"
    assert (
        "The registered look was the first, on 2026-03-09 00:00 UTC with 1,000 units"
        in later["verdict"]["reasons"][0]
    )
    assert (later["verdict"]["decision"], later["verdict"]["winner"]) == ("inconclusive", None)
    assert "would say ship" in later["verdict"]["reasons"][0]


@pytest.mark.parametrize("kind", ["fixed", "group_sequential", "always_valid"])
def test_guardrails_are_corrected_for_the_number_of_looks(kind: str) -> None:
    plan = design(
        analysis=kind,
        looks=[0.5, 1],
        guardrails=[
            {
                "name": "g",
                "kind": "mean",
                "better": "decrease",
                "margin": 1,
                "margin_scale": "absolute",
            }
        ],
    )
    [rule] = plan.guardrails
    arms = {"a": Mean(1000, 10.0, 100.0), "b": Mean(1000, 10.0, 100.0)}
    data = MetricData(dict(arms), {}, {"a": 1000, "b": 1000}, {})
    look = next_look(plan, 0.5, []) if kind == "group_sequential" else None
    row = check_guardrail(plan, rule, arms, data, "b", planned=2000, look=look)
    # One standard error is √.2, the margin 2.24 of them. One look at alpha .05 needs
    # 1.64, O'Brien and Fleming's first of two 2.54.
    assert row["kept"] == (kind == "fixed") == (row["p_value"] < plan.alpha)
    assert row["worst"] == pytest.approx(
        {"fixed": 0.736, "group_sequential": 1.136, "always_valid": 1.26}[kind], abs=0.02
    )


def test_missing_outcomes_are_a_reason_and_no_error() -> None:
    plan = design(primary={"name": "m", "kind": "mean"}, variance=1.0)
    found, _ = assess(
        document(plan, 100),
        observed({"a": (500, 0), "b": (500, 0)}, plan),
        START + timedelta(days=8),
    )
    assert found["verdict"]["decision"] == "inconclusive"
    assert any("No m was logged" in r for r in found["verdict"]["reasons"])
    json.dumps(found, allow_nan=False)


def test_a_guardrail_that_nobody_logged_blocks_with_its_reason() -> None:
    plan = design(
        guardrails=[
            {"name": "refund", "better": "decrease", "margin": 0.2, "margin_scale": "absolute"}
        ]
    )
    found, _ = assess(
        document(plan),
        observed({"a": (1000, 100), "b": (1000, 180)}, plan),
        START + timedelta(days=8),
    )
    assert found["verdict"]["decision"] == "inconclusive"
    assert any("no refund was logged" in reason for reason in found["verdict"]["reasons"])
    row = found["metrics"][1]["comparisons"]["b"]
    assert not row["kept"] and "no refund was logged" in row["undefined"]
    assert "no refund was logged" in found["health"]["guardrails"]["refund"]["b"]["waiting"]


def test_no_harm_at_all_has_no_minus_sign() -> None:
    assert [format_number(-0.0, unit) for unit in ("%", "absolute")] == ["+0 %", "+0"]


def test_one_event_in_a_small_arm_ships_nothing() -> None:
    arms = [{"name": "a", "allocation": 99}, {"name": "b", "allocation": 1}]
    plan = design(variants=arms)
    found, _ = assess(
        document(plan, 40),
        observed({"a": (3960, 0), "b": (40, 1)}, plan),
        START + timedelta(days=8),
    )
    assert found["verdict"]["decision"] == "inconclusive"
    assert any("too few to decide on (1 of the 5" in text for text in found["verdict"]["reasons"])
    assert found["metrics"][0]["comparisons"]["b"]["test"] == "exact unconditional"


def test_three_arms_are_corrected_and_the_best_is_shipped() -> None:
    plan = design(variants=THREE)
    found, _ = assess(
        document(plan, 500),
        observed({"a": (2000, 200), "b": (1000, 130), "c": (1000, 160)}, plan),
        START + timedelta(days=8),
    )
    rows = found["metrics"][0]["comparisons"]
    assert (
        rows["b"]["p_value_adjusted"] == pytest.approx(2 * rows["b"]["p_value"])
        and rows["b"]["confidence"] == 0.975
    )
    assert found["verdict"]["winner"] == "c"


def test_a_growing_ramp_moves_no_unit_back() -> None:
    plan = design(variants=[{"name": "a", "allocation": 50}, {"name": "b", "allocation": 50}])
    seen: set[str] = set()
    from shoal import Assigner

    for step in range(4):
        ramp = Ramp(variant="b", steps=[10, 25, 50, 100], days=4, started_at=START, step=step)
        record = ramp_design(document(plan, ramp=ramp)).record("x~ramp", status="running")
        now = {f"u{i}" for i in range(2000) if Assigner.compile(record).assign(f"u{i}") == "b"}
        assert seen <= now
        seen = now
    assert len(seen) == 2000


def test_the_steps_of_a_ramp_last_equally_long() -> None:
    ramp = Ramp(variant="b", steps=[10, 50, 100], days=3, started_at=START)
    assert [due_step(ramp, START + timedelta(days=d)) for d in (0, 0.9, 1, 2.5, 3, 99)] == [
        0,
        0,
        1,
        2,
        3,
        3,
    ]
