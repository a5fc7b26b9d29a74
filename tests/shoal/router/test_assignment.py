"""Assignment: the formula, its guarantees, and the validation of experiments."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmh3 import hash as murmur3
from pydantic import ValidationError
from scipy.stats import chi2

from shoal.contract.experiments import (
    Condition,
    ExperimentRecord,
    Holdout,
    Variant,
    overlapping_experiments,
)
from shoal.router import assignment
from shoal.router.assignment import Assigner, Plan, assignment_bucket

UNITS = [f"user-{i}" for i in range(20_000)]
HALVES = (Variant(name="control", allocation=50), Variant(name="treatment", allocation=50))


def experiment(id: str = "ranking", **fields: object) -> ExperimentRecord:
    return ExperimentRecord.model_validate(
        {"id": id, "variants": HALVES, "status": "running", **fields}
    )


def p_uniform(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.size - 1))


def test_the_docstring_example_holds() -> None:
    assert doctest.testmod(assignment).failed == 0


@given(st.text(max_size=20), st.text(max_size=20))
def test_the_bucket_follows_the_documented_formula(experiment_id: str, unit_id: str) -> None:
    assert (
        assignment_bucket(experiment_id, unit_id)
        == murmur3(f"{experiment_id}:{unit_id}", signed=False) % 10_000
    )


def test_known_buckets_never_change() -> None:
    assert [
        assignment_bucket(e, u) for e, u in (("ranking", "user-1"), ("a:b", "c"), ("50%", "ü:1"))
    ] == KNOWN


KNOWN = [8947, 8997, 2137]


@given(
    st.text(
        alphabet=st.characters(blacklist_characters="/", blacklist_categories=["Z", "C"]),
        min_size=1,
        max_size=20,
    ),
    st.text(max_size=20),
)
def test_the_bucket_decides_the_variant(experiment_id: str, unit_id: str) -> None:
    arms = (
        Variant(name="a", allocation=10),
        Variant(name="b", allocation=0.5),
        Variant(name="c", allocation=89.5),
    )
    b = assignment_bucket(experiment_id, unit_id)
    expected = "a" if b < 1000 else "b" if b < 1050 else "c"
    assert Assigner.compile(experiment(experiment_id, variants=arms)).assign(unit_id) == expected


def test_three_thirds_share_all_buckets_exactly() -> None:
    arms = [{"name": n, "allocation": a} for n, a in (("a", 33.33), ("b", 33.33), ("c", 33.34))]
    assert experiment(variants=arms).shares() == {"a": 0.3333, "b": 0.3333, "c": 0.3334}


def test_assign_many_equals_assign_for_each() -> None:
    for record in (experiment(), experiment(traffic=40)):
        compiled = Assigner.compile(record)
        assert compiled.assign_many(UNITS[:500]) == [compiled.assign(unit) for unit in UNITS[:500]]


def test_buckets_are_uniform() -> None:
    counts = np.bincount(
        [assignment_bucket("uniform", unit) // 100 for unit in UNITS], minlength=100
    )
    assert p_uniform(counts) > 0.001


def test_experiments_are_independent_of_each_other() -> None:
    pairs = [
        assignment_bucket("one", unit) // 1000 * 10 + assignment_bucket("two", unit) // 1000
        for unit in UNITS
    ]
    assert p_uniform(np.bincount(pairs, minlength=100)) > 0.001


def test_inclusion_is_independent_of_the_variant() -> None:
    chosen = [
        v for v in Assigner.compile(experiment(traffic=30)).assign_many(UNITS) if v is not None
    ]
    assert p_uniform(np.array([chosen.count("control"), chosen.count("treatment")])) > 0.001
    assert len(chosen) / len(UNITS) == pytest.approx(0.3, abs=0.015)


@given(st.floats(0, 100), st.floats(0, 100))
def test_more_traffic_moves_no_unit(one: float, other: float) -> None:
    narrow, wide = (
        Assigner.compile(experiment(traffic=t)).assign_many(UNITS[:300])
        for t in sorted((one, other))
    )
    assert all(before in (None, after) for before, after in zip(narrow, wide, strict=True))


def test_traffic_zero_and_full() -> None:
    assert set(Assigner.compile(experiment(traffic=0)).assign_many(UNITS[:300])) == {None}
    assert None not in Assigner.compile(experiment(traffic=100)).assign_many(UNITS[:300])


def test_experiments_of_one_layer_exclude_each_other() -> None:
    compiled = [
        Assigner.compile(experiment(name, layer="ui", layer_range=span))
        for name, span in (("first", (0, 3000)), ("second", (3000, 10_000)))
    ]
    for unit in UNITS[:2000]:
        assert [a.assign(unit) is None for a in compiled].count(True) == 1


def test_overlaps_in_a_layer_are_found() -> None:
    records = [
        experiment("a", layer="ui", layer_range=(0, 5000)),
        experiment("b", layer="ui", layer_range=(4999, 6000)),
        experiment("c", layer="ui", layer_range=(6000, 7000)),
        experiment("d", layer="other", layer_range=(0, 10_000)),
        experiment("e"),
    ]
    assert overlapping_experiments(records) == [("a", "b")]


def test_a_holdout_excludes_the_same_units_from_all_its_experiments() -> None:
    holdout = Holdout(name="2026", percent=20)
    out = [
        {u for u in UNITS if Assigner.compile(experiment(name, holdout=holdout)).assign(u) is None}
        for name in ("one", "two")
    ]
    assert out[0] == out[1]
    assert len(out[0]) / len(UNITS) == pytest.approx(0.2, abs=0.015)


def test_a_plan_assigns_the_units_that_the_caller_has() -> None:
    plan = Plan(
        [
            experiment("user-level"),
            experiment("tenant-level", unit="tenant"),
            experiment("session-level", unit="session"),
            experiment("draft", status="draft"),
        ]
    )
    assert len(plan) == 3
    chosen = plan.assign({"user": "ana", "tenant": "acme", "session": None})
    assert [a.experiment for a in chosen] == ["user-level", "tenant-level"]


def test_a_plan_returns_the_parameters_of_the_variants() -> None:
    arms = [
        {"name": "a", "allocation": 0},
        {"name": "b", "allocation": 100, "parameters": {"warmth": 0.9}},
    ]
    [chosen] = Plan([experiment(variants=arms)]).assign({"user": "ana"})
    assert (chosen.variant, chosen.parameters) == ("b", {"warmth": 0.9})


@pytest.mark.parametrize(
    ("operator", "attributes", "meets"),
    [
        ("in", {"role": "editor"}, True),
        ("in", {"role": ("reader", "editor")}, True),
        ("in", {"role": "admin"}, False),
        ("in", {}, False),
        ("in", {"role": None}, False),
        ("not_in", {"role": "editor"}, False),
        ("not_in", {"role": "admin"}, True),
        ("not_in", {}, True),
    ],
)
def test_targeting_selects_callers_by_their_attributes(
    operator: str, attributes: dict[str, object], meets: bool
) -> None:
    condition = Condition(attribute="role", operator=operator, values=("editor",))
    assert (
        bool(Plan([experiment(targeting=[condition])]).assign({"user": "ana"}, attributes)) is meets
    )


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"variants": HALVES[:1]}, "at least 2"),
        ({"variants": ()}, "at least 2"),
        (
            {"variants": [{"name": "a", "allocation": 50}, {"name": "b", "allocation": 49.9}]},
            "sum to 100",
        ),
        (
            {"variants": [{"name": "a", "allocation": 50}, {"name": "a", "allocation": 50}]},
            "must differ",
        ),
        (
            {"variants": [{"name": "a", "allocation": -1}, {"name": "b", "allocation": 101}]},
            "greater than",
        ),
        (
            {"variants": [{"name": "a", "allocation": "nan"}, {"name": "b", "allocation": 50}]},
            "finite",
        ),
        ({"id": "a/b"}, "pattern"),
        ({"id": ""}, "at least 1"),
        ({"traffic": 100.1}, "less than"),
        ({"layer": "ui"}, "go together"),
        ({"layer_range": (0, 10)}, "go together"),
        ({"layer": "ui", "layer_range": (5, 5)}, "start < end"),
        ({"layer": "ui", "layer_range": (0, 10_001)}, "start < end"),
        ({"unit": "board"}, "user"),
        ({"surprise": 1}, "xtra"),
    ],
)
def test_an_invalid_experiment_is_rejected(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        experiment(**fields)


def test_a_record_survives_a_round_trip_through_json() -> None:
    record = experiment(
        targeting=[{"attribute": "role", "values": ["editor"]}], layer="ui", layer_range=(0, 10)
    )
    assert ExperimentRecord.model_validate_json(record.model_dump_json()) == record


def test_bucket_ranges_equal_growthbooks(shared: Path) -> None:
    data = shared / "ab/growthbook_cases.json"
    cases = json.loads(data.read_text())
    checked = 0
    for _, (count, coverage, weights), ranges in cases["getBucketRange"]:
        weights = weights or [1 / count] * count
        if coverage != 1 or len(weights) != count or abs(sum(weights) - 1) > 1e-6:
            continue  # we reject such weights, and hash the traffic separately
        arms = [{"name": str(i), "allocation": 100 * w} for i, w in enumerate(weights)]
        edges = experiment(variants=arms).edges()
        assert edges == [0] + [round(high * 10_000) for _, high in ranges]
        checked += 1
    assert checked >= 3


@given(
    st.sampled_from(["control", "treatment"]),
    st.sampled_from([0, 10, 100]),
    st.fixed_dictionaries(
        {
            "traffic": st.sampled_from([7, 100]),
            "layer": st.sampled_from([None, "l"]),
            "holdout": st.sampled_from([None, {"name": "h", "percent": 30}]),
        }
    ),
)
def test_kept_units_keep_and_others_follow_the_record(
    variant: str, percent: float, fields: dict[str, object]
) -> None:
    layer_range = (2000, 7000) if fields["layer"] else None
    earlier = experiment("old", layer_range=layer_range, **fields)
    arms = [
        {"name": "treatment", "allocation": percent},
        {"name": "control", "allocation": 100 - percent},
    ]
    later = experiment("new", variants=arms)
    before, alone = (Assigner.compile(r) for r in (earlier, later))
    kept = Assigner.compile(later.keeping(variant, earlier))
    expected = [
        variant if before.assign(unit) == variant else alone.assign(unit) for unit in UNITS[:500]
    ]
    assert kept.assign_many(UNITS[:500]) == expected == [kept.assign(u) for u in UNITS[:500]]
