"""Daily tables from events, and statistics of arms from daily tables."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_experiments import aggregation as agg
from shoal_experiments.design import Design
from shoal_experiments.event_fields import FLAG, NUMBER, TEXT, _read_row_by_row, read_fields
from shoal_experiments.metric_data import MetricData, service_levels, summarize, unit_values
from shoal_experiments.observations import SCHEMA
from shoal_experiments.summaries import Mean, Proportion, Ratio

T0 = datetime(2026, 1, 5, tzinfo=UTC)
ARMS = [{"name": "a", "allocation": 50}, {"name": "b", "allocation": 50}]


def event(
    type: str, subject: str | None, hours: float, id: str | None = None, **data: Any
) -> dict[str, Any]:
    time = T0 + timedelta(hours=hours)
    return {
        "id": id or f"{type}-{subject}-{hours}-{json.dumps(data)}",
        "source": "test",
        "type": type,
        "time": time,
        "subject": subject,
        "data": json.dumps(data),
    }


def exposure(unit: str, variant: str, hours: float, experiment: str = "x") -> dict[str, Any]:
    return event(
        agg.EXPOSURE,
        unit,
        hours,
        experiment=experiment,
        variant=variant,
        unit=unit,
        unit_type="user",
        capability=None,
    )


def table(*events: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(events), SCHEMA)


def design(**metric: Any) -> Design:
    return Design.model_validate(
        {
            "hypothesis": "h",
            "variants": ARMS,
            "minimum_effect": 0.1,
            "primary": {"name": "m", "event": "buy", **metric},
        }
    )


def who(*events: dict[str, Any]) -> agg.ExposedUnits:
    return agg.exposed_units([agg.first_exposures(table(*events), "x")], ["a", "b"])


def summary(
    plan: Design, exposed: agg.ExposedUnits, *events: dict[str, Any], now: datetime | None = None
) -> MetricData:
    made = agg.daily_outcomes(table(*events), plan.metrics(), "x", exposed)
    return summarize(
        plan, plan.primary, exposed, [made], (), None if now is None else int(now.timestamp() * 1e6)
    )


TWO = (exposure("u1", "a", 0), exposure("u2", "b", 0))


def test_a_repeated_event_counts_once() -> None:
    twice = event("buy", "u1", 1, id="e1")
    assert agg.deduplicate(table(twice, twice, {**twice, "source": "other"})).num_rows == 2


def test_the_first_exposure_to_the_experiment_counts() -> None:
    found = who(
        exposure("u1", "a", 5), exposure("u1", "a", 2), exposure("u2", "b", 1, experiment="y")
    )
    assert found.units.to_pylist() == ["u1"]
    assert found.time.tolist() == [int((T0 + timedelta(hours=2)).timestamp() * 1e6)]


def test_units_seen_in_two_variants_are_excluded_and_counted() -> None:
    found = who(
        exposure("u1", "a", 0),
        exposure("u1", "b", 1),
        exposure("u2", "b", 0),
        exposure("u3", "gone", 0),
        exposure("u4", "a", 0),
        exposure("u4", "gone", 30),
    )
    assert found.units.to_pylist() == ["u2"]
    assert (found.crossovers, found.unknown) == (2, 2)


@pytest.mark.parametrize(
    "data",
    [
        {"unit": 10001},
        {"unit": None},
        {"unit": ""},
        {"unit": "a\nb"},
        {"unit": "x" * 513},
        {"unit": ["u9"]},
        {"variant": 1},
        {"variant": None},
        {"unit_type": "session"},
        {"unit_type": "martian"},
    ],
)
def test_exposures_without_ids_are_left_out_and_counted(data: dict[str, Any]) -> None:
    fields = {"experiment": "x", "variant": "a", "unit": "u9", "unit_type": "user"} | data
    wrong = [event(agg.EXPOSURE, "u9", hour, **fields) for hour in (1, 2)]
    days = [agg.first_exposures(table(*events), "x") for events in ((*TWO, *wrong), wrong[:1])]
    found = agg.exposed_units(days, ["a", "b"])
    assert found.units.to_pylist() == ["u1", "u2"]
    assert (found.unusable, found.unknown) == (3, 0)


def test_an_exposure_may_leave_out_its_unit_type() -> None:
    bare = {"experiment": "x", "variant": "a", "unit": "é" * 512}
    assert who(event(agg.EXPOSURE, None, 1, **bare)).counts(2) == [1, 0]


def test_crossovers_on_different_days_are_found() -> None:
    days = [agg.first_exposures(table(exposure("u1", v, 24 * i)), "x") for i, v in enumerate("ab")]
    assert agg.exposed_units(days, ["a", "b"]).crossovers == 1


def test_an_experiment_without_exposures_has_no_statistics() -> None:
    found = agg.exposed_units([], ["a", "b"])
    assert found.counts(2) == [0, 0]
    data = summarize(design(), design().primary, found, [])
    assert set(data.undefined) == {"a", "b"}


def test_only_events_after_the_exposure_count() -> None:
    data = summary(
        design(),
        who(*TWO),
        event("buy", "u1", -1),
        event("buy", "u2", 1),
        event("buy", "stranger", 1),
    )
    assert data.arms == {"a": Proportion(1, 0), "b": Proportion(1, 1)}


def test_only_units_whose_window_is_over_count() -> None:
    exposed = who(*TWO, exposure("u3", "a", 47))
    events = (event("buy", "u1", 23), event("buy", "u2", 25), event("buy", "u3", 48))
    data = summary(design(window_days=1), exposed, *events, now=T0 + timedelta(hours=50))
    assert data.arms == {"a": Proportion(1, 1), "b": Proportion(1, 0)}
    assert data.counts == {"a": 1, "b": 1}


def test_retention_needs_an_event_within_its_days() -> None:
    data = summary(
        design(kind="retention", from_day=7, window_days=14),
        who(*TWO),
        event("buy", "u1", 24),
        event("buy", "u2", 24 * 8),
        now=T0 + timedelta(days=15),
    )
    assert data.arms == {"a": Proportion(1, 0), "b": Proportion(1, 1)}


def test_values_are_summed_per_unit_with_zero_for_none() -> None:
    exposed = who(*TWO, exposure("u3", "a", 0), exposure("u4", "b", 0))
    data = summary(
        design(kind="mean", value="price.net"),
        exposed,
        event("buy", "u1", 1, price={"net": 3}),
        event("buy", "u1", 2, price={"net": 4.5}),
        event("buy", "u2", 1, price={"net": 1}),
    )
    assert data.arms == {"a": Mean.of([7.5, 0]), "b": Mean.of([1, 0])}


def test_averages_exclude_units_without_events() -> None:
    exposed = who(*TWO, exposure("u3", "a", 0), exposure("u4", "a", 0))
    data = summary(
        design(kind="mean", aggregate="mean"),
        exposed,
        event("buy", "u1", 1, value=2),
        event("buy", "u1", 2, value=4),
        event("buy", "u3", 1, value=5),
    )
    assert data.arms == {"a": Mean.of([3, 5])}
    assert "two units" in data.undefined["b"]


def test_a_ratio_joins_its_two_sources() -> None:
    exposed = who(*(exposure(f"u{i}", "ab"[i % 2], 0) for i in range(6)))
    events = [event("click", f"u{i}", 1) for i in range(4)] + [
        event("look", f"u{i}", 1, value=2) for i in range(6)
    ]
    data = summary(design(event="click", kind="ratio", per={"event": "look"}), exposed, *events)
    arm = data.arms["a"]
    assert isinstance(arm, Ratio) and arm.estimate().value == pytest.approx(2 / 6)


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("values", [(1e308, 1e308), (1e308, 1e308, -1e308, -1e308)])
def test_a_sum_too_large_is_reported_not_dropped(aggregate: str, values: tuple[float, ...]) -> None:
    exposed = who(*TWO, exposure("u3", "a", 0), exposure("u4", "a", 0))
    events = [event("buy", "u1", 1 + i, value=v) for i, v in enumerate(values)]
    data = summary(design(kind="mean", aggregate=aggregate), exposed, *events)
    assert data.undefined["a"] == "the values of 1 units are too large to add up"
    assert "a" not in data.arms


@pytest.mark.parametrize("value", [1e80, -1e150])
def test_a_huge_value_is_reported_and_breaks_nothing(value: float) -> None:
    pairs = who(exposure("u1", "a", 0), exposure("u2", "a", 0), exposure("u3", "b", 0))
    for kind in ({"kind": "mean"}, {"kind": "ratio", "per": {"event": "buy"}}):
        data = summary(design(**kind), pairs, event("buy", "u1", 1, value=value))
        assert "too large" in data.undefined["a"]


def test_winsorising_says_when_it_leaves_one_value() -> None:
    exposed = who(*(exposure(f"u{i}", "ab"[i % 2], 0) for i in range(100)))
    rare = event("buy", "u1", 1, value=70)
    data = summary(design(kind="mean", winsorize=0.95), exposed, rare)
    assert data.undefined["b"] == (
        "capped at their 0.95-quantile, all units have the value 0: raise `winsorize`, or leave "
        "it out"
    )
    assert not summary(design(kind="mean", winsorize=0.95), exposed).undefined


def test_winsorising_caps_at_the_quantile_over_all_arms() -> None:
    exposed = who(*(exposure(f"u{i}", "ab"[i % 2], 0) for i in range(200)))
    events = [event("buy", f"u{i}", 1, value=1e9 if i == 0 else i) for i in range(200)]
    data = summary(design(kind="mean", winsorize=0.95), exposed, *events)
    arm = data.arms["a"]
    assert isinstance(arm, Mean) and arm.mean < 110


@pytest.mark.parametrize("where", [{"plan": "pro"}, {"deep.flag": True}, {"size": 3}])
def test_conditions_select_events(where: dict[str, Any]) -> None:
    events = (
        event("buy", "u1", 1, plan="pro", deep={"flag": True}, size=3),
        event("buy", "u2", 1, plan="free", deep={"flag": False}, size=4),
        event("buy", "u2", 2),
    )
    data = summary(design(where=where), who(*TWO), *events)
    assert data.arms == {"a": Proportion(1, 1), "b": Proportion(1, 0)}


def test_events_with_invalid_data_are_ignored() -> None:
    bad = {**event("buy", "u1", 1), "data": "not json"}
    data = summary(
        design(kind="proportion"),
        who(*TWO),
        event("buy", None, 1),
        event("buy", "u1", 1, value="much"),
        {**bad, "subject": None},
    )
    assert data.arms == {"a": Proportion(1, 1), "b": Proportion(1, 0)}


def test_events_without_a_number_are_left_out_and_counted() -> None:
    """Where `value` names a field; an event without the field `value` counts 1."""
    numbers = [{"amount": 5.0}, {}, {"amount": None}, {"amount": "50"}, {"amount": [1]}]
    events = [event("buy", "u1", 1 + i, **n) for i, n in enumerate(numbers)]
    pairs = who(exposure("u1", "a", 0), exposure("u2", "a", 0))
    for kind in ({"kind": "mean"}, {"kind": "ratio", "per": {"event": "buy", "value": "amount"}}):
        plan = design(value="amount", **kind)
        data = summary(plan, pairs, *events)
        assert data.unreadable == 4 * (2 if "per" in kind else 1)
    data = summary(design(kind="mean", value="amount"), pairs, *events)
    assert data.arms["a"] == Mean.of([5.0, 0.0])
    data = summary(design(kind="mean"), pairs, event("buy", "u1", 1))
    assert data.arms["a"] == Mean.of([1.0, 0.0]) and data.unreadable == 0
    count = design(kind="mean", aggregate="count", value="amount")
    data = summary(count, pairs, *events)
    assert data.arms["a"] == Mean.of([5.0, 0.0]) and data.unreadable == 0


def test_a_condition_on_the_value_may_have_another_type() -> None:
    events = [
        event("buy", "u1", 1, value="yes", n=3),
        event("buy", "u2", 1, value="no", n=2**53 + 1),
    ]
    assert summary(design(where={"value": "yes"}), who(*TWO), *events).arms == {
        "a": Proportion(1, 1),
        "b": Proportion(1, 0),
    }
    assert summary(design(where={"n": 2**53 + 1}), who(*TWO), event("buy", "u1", 1, n=3)).arms[
        "a"
    ] == Proportion(1, 0)
    assert summary(design(where={"value": 1}), who(*TWO), event("buy", "u1", 1, value=1)).arms[
        "a"
    ] == Proportion(1, 1)


def test_posted_outcomes_belong_to_their_experiment_and_metric() -> None:
    plan = Design.model_validate(
        {
            "hypothesis": "h",
            "variants": ARMS,
            "minimum_effect": 0.1,
            "primary": {"name": "m"},
            "secondary": [{"name": "n"}],
        }
    )
    events = table(
        event("experiment.outcome", "u1", 1, experiment="x", metric="m"),
        event("experiment.outcome", "u2", 1, experiment="x", metric="n"),
        event("experiment.outcome", "u2", 1, experiment="y", metric="m"),
    )
    exposed = who(*TWO)
    made = agg.daily_outcomes(events, plan.metrics(), "x", exposed)
    first, second = (summarize(plan, m, exposed, [made]).arms for m in plan.metrics())
    assert first == {"a": Proportion(1, 1), "b": Proportion(1, 0)}
    assert second == {"a": Proportion(1, 0), "b": Proportion(1, 1)}


def test_cuped_adjusts_units_by_their_past() -> None:
    rng = np.random.default_rng(1)
    units = [f"u{i}" for i in range(400)]
    past = {u: int(rng.poisson(10)) for u in units}
    plan = design(kind="mean", cuped_days=7)
    exposed = who(*(exposure(u, "ab"[i % 2], 0) for i, u in enumerate(units)))
    before = agg.daily_outcomes(
        table(*(event("buy", u, -24, value=n) for u, n in past.items())), plan.metrics(), "x", None
    )
    now = agg.daily_outcomes(
        table(*(event("buy", u, 24, value=n + int(rng.integers(0, 2))) for u, n in past.items())),
        plan.metrics(),
        "x",
        exposed,
    )
    data = summarize(plan, plan.primary, exposed, [now], [before])
    assert (
        data.pairs["a"].covariance
        / math.sqrt(data.pairs["a"].variance_x * data.pairs["a"].variance_y)
        > 0.95
    )


def test_minutes_are_the_units_of_a_request_metric() -> None:
    plan = Design.model_validate(
        {
            "hypothesis": "h",
            "capability": "c",
            "variants": ARMS,
            "minimum_effect": 0.1,
            "primary": {"name": "m"},
            "guardrails": [
                {
                    "name": "slow",
                    "event": "service.latency_p95",
                    "kind": "mean",
                    "better": "decrease",
                    "margin": 0.1,
                }
            ],
        }
    )
    events = [
        event(
            "metric",
            None,
            h,
            metric=f"shoal.variant.{name}",
            value=v + h,
            labels={"experiment": e, "variant": arm, "capability": "c"},
        )
        for h in range(3)
        for e in "xy"
        for arm, v in (("a", 10), ("b", 20))
        for name in ("latency_p95", "requests")
    ]
    day = agg.service_outcomes(table(*events), "x")
    data = summarize(plan, plan.guardrails[0], who(*TWO), [day])
    assert data.arms == {"a": Mean.of([10, 11, 12]), "b": Mean.of([20, 21, 22])}
    assert service_levels(plan, [day])["b"] == {
        "requests": 63,
        "error_rate": None,
        "latency_p50": None,
        "latency_p95": 21,
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["u1", "u2", "u3", "u9"]), st.integers(-30, 60), st.integers(1, 9)
        ),
        max_size=30,
    ),
    st.integers(0, 30),
)
def test_daily_tables_add_up_to_one_table_of_all_events(
    rows: list[tuple[str, int, int]], cut: int
) -> None:
    plan = design(kind="mean")
    exposed = who(*TWO, exposure("u3", "a", 20))
    events = [event("buy", u, h, value=v) for u, h, v in rows]
    parts = [
        agg.daily_outcomes(table(*part), plan.metrics(), "x", exposed)
        for part in (events[:cut], events[cut:])
    ]
    whole = agg.daily_outcomes(table(*events), plan.metrics(), "x", exposed)
    assert (
        unit_values(parts, "m", exposed).total.tolist()
        == unit_values([whole], "m", exposed).total.tolist()
    )


def test_arrow_and_row_by_row_reading_agree() -> None:
    texts = [
        "null",
        None,
        '{"v": true}',
        '{"v": 2, "s": "x", "o": {"f": true}}',
        "[1]",
        '{"o": 3}',
        '"a"',
        '{"v": null}',
        "{",
        '{"s": "\\n é"}',
    ]
    kinds = {"v": NUMBER, "s": TEXT, "o.f": FLAG}
    for subset in (texts, texts[3:4] * 3, texts[9:], []):
        data = pa.chunked_array([pa.array(subset, pa.string())])
        assert {k: v.to_pylist() for k, v in read_fields(data, kinds).items()} == {
            k: v.to_pylist() for k, v in _read_row_by_row(data, kinds).items()
        }
