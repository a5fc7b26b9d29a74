"""Daily tables, history, looks and ramps, with the real lake, event log and Redis."""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from shoal import (
    Conflict,
    Event,
    Invalid,
    TenantContext,
    Unavailable,
)
from shoal.router.metering import BOUNDS, metric_events
from shoal.testing import wait_until
from shoal_experiments import (
    collisions,
    cuped,
    lifecycle,
    promotion,
    ramps,
    reporting,
    transitions,
)
from shoal_experiments.repository import Document
from shoal_experiments.summaries import Mean, Pair, Proportion

from .lab import ARMS, PLAIN, WARM, Lab


def test_a_day_is_recomputed_only_for_new_events(lab: Lab) -> None:
    lab.start("x", 3)
    lab.archive(
        lab.exposure("x", "u1", "a", 2.9),
        lab.exposure("x", "u2", "b", 1.9),
        lab.event("buy", "u1", 2.5),
        lab.event("buy", "u2", 1.5),
    )
    assert lab.observe("x")[0] == ["exposures/3", "exposures/2", "outcomes/3", "outcomes/2"]
    assert lab.observe("x")[0] == []
    lab.archive(
        lab.event("buy", "u3", 1.2), lab.event("buy", "u2", 1.5)
    )  # a stranger's, late; and one that was there
    made, observed = lab.observe("x")
    assert made == ["exposures/2", "outcomes/2"]
    [rows] = [
        t.to_pylist()
        for day, t in observed.outcomes.items()
        if (lab.midnight.date() - day).days == 2
    ]
    assert [(r["unit"], r["events"]) for r in rows] == [("u2", 1)]
    assert lab.observe("x")[0] == []


def test_a_new_exposure_recomputes_outcomes_of_later_days(lab: Lab) -> None:
    lab.start("x", 3)
    lab.archive(
        lab.exposure("x", "u1", "a", 2.9), lab.event("buy", "u1", 1.5), lab.event("buy", "u2", 1.5)
    )
    lab.observe("x")
    lab.archive(
        lab.exposure("x", "u2", "b", 2.8)
    )  # came late; its unit's purchase was already archived
    made, observed = lab.observe("x")
    assert made == ["exposures/3", "outcomes/3", "outcomes/2"]
    assert sorted(r["unit"] for t in observed.outcomes.values() for r in t.to_pylist()) == [
        "u1",
        "u2",
    ]


def test_events_not_yet_archived_count_but_are_not_stored(lab: Lab) -> None:
    lab.start("x", 2)
    lab.archive(lab.exposure("x", "u1", "a", 1.9))
    lab.log(
        lab.exposure("x", "u1", "a", 1.9),
        lab.exposure("x", "u2", "b", 1.8),
        lab.event("buy", "u2", 1.5),
    )
    for _ in range(2):
        made, observed = lab.observe("x")
        assert made == ["exposures/2", "outcomes/2"] and observed.exposed.counts(2) == [1, 1]


def test_an_event_sent_again_on_another_day_counts_once(lab: Lab) -> None:
    """Whether its days are archived or not, and in whatever order they are computed."""
    lab.start("x", 4, primary={"name": "spent", "event": "buy", "kind": "mean"}, variance=1.0)
    first = lab.event("buy", "u1", 2.9, value=5.0)
    lab.archive(lab.exposure("x", "u1", "a", 3.9), lab.exposure("x", "u2", "b", 3.9), first)
    again = {**first, "time": lab.midnight - timedelta(days=1.5)}
    other = lab.event("buy", "u1", 1.4, value=7.0)
    lab.archive(again, other)

    def spent() -> dict[int, float]:
        _, observed = lab.observe("x")
        return {
            (lab.midnight.date() - day).days: sum(table["total"].to_pylist())
            for day, table in observed.outcomes.items()
            if table.num_rows
        }

    assert spent() == {3: 5.0, 2: 7.0}
    assert spent() == {3: 5.0, 2: 7.0}  # as kept
    lab.log({**first, "time": lab.midnight}, {**other, "time": lab.midnight})
    assert spent() == {3: 5.0, 2: 7.0}
    # an earlier one that arrives late takes the place of the later one
    lab.archive({**other, "time": lab.midnight - timedelta(days=2.9)})
    assert spent() == {3: 12.0}


def test_an_id_of_a_deleted_experiment_counts_in_its_successor(lab: Lab) -> None:
    lab.start("x", 0)
    order = {"unit": "u1", "metric": "bought", "id": "order-1"}
    assigned = lab.client.experiments.assignment(id="x", unit="u1")["variant"]
    lab.client.experiments.add_outcomes(id="x", body=[order])
    lab.client.experiments.stop(id="x")
    lab.client.experiments.delete(id="x")
    lab.client.experiments.draft(id="x", body=PLAIN | {"primary": {"name": "bought"}})
    lab.client.experiments.start(id="x")
    assert lab.client.experiments.assignment(id="x", unit="u1")["variant"] == assigned
    lab.client.experiments.add_outcomes(id="x", body=[order])
    lab.client.experiments.add_outcomes(id="x", body=[order])
    _, observed = lab.observe("x")
    assert [sum(t["events"].to_pylist()) for t in observed.outcomes.values()] == [1]


def test_a_reused_id_logs_exposures_of_units_seen_before(lab: Lab) -> None:
    """Where a capability's parameter is varied, and the replica has seen the unit."""
    users = [f"u{i}" for i in range(4)]
    for _ in range(2):
        body = PLAIN | {"capability": "warmth", "variants": WARM}
        lab.client.experiments.draft(id="w", body=body)
        lab.client.experiments.start(id="w")

        def count() -> int:
            for user in users:
                lab.app.client(lab.name, user=user).warmth.level()
            return sum(lab.client.experiments.results(id="w")["health"]["units"].values())

        wait_until(lambda: count() == len(users))
        lab.client.experiments.stop(id="w")
        lab.client.experiments.delete(id="w")


def test_exposures_to_an_unknown_variant_are_reported(lab: Lab) -> None:
    lab.start("x", 0)
    exposed(lab, "x", (1, 1), (1, 1))
    lab.log(
        lab.exposure("x", "u1", "a", -0.0001),
        lab.exposure("x", "u2", "b", -0.0001),
        lab.exposure("x", "u3", "c", -0.0001),
        lab.exposure("x", "u4", "B", -0.0001),
        lab.exposure("x", "u4", "b", -0.0001),
    )
    report = lab.client.experiments.results(id="x")
    health = report["health"]
    assert health["units"] == {"a": 2, "b": 2}
    assert (health["unknown_variants"]["units"], health["crossovers"]["units"]) == (2, 1)
    assert "2 units were exposed to a variant" in str(report["verdict"]["reasons"])


def test_deleting_an_experiment_deletes_its_daily_tables(lab: Lab) -> None:
    lab.start("x", 2)
    lab.archive(lab.exposure("x", "u1", "a", 1.9), lab.event("buy", "u1", 1.5))
    lab.observe("x")
    lab.client.experiments.stop(id="x")
    assert any(t.startswith("experiment_") for t in lab.app.run(lab.ctx.stores.lake.tables()))
    lab.client.experiments.delete(id="x")
    assert not any(t.startswith("experiment_") for t in lab.app.run(lab.ctx.stores.lake.tables()))


def test_cuped_reads_the_past_from_the_lake(lab: Lab) -> None:
    rng = np.random.default_rng(6)
    arm = {f"u{i}": "ab"[i % 2] for i in range(300)}
    before = {u: float(rng.gamma(4, 5)) for u in arm}
    after = {u: before[u] + float(rng.normal(0, 2)) + (1 if arm[u] == "b" else 0) for u in arm}
    lab.archive(
        *(lab.event("buy", u, 2.5 + i % 3, value=v / 2) for u, v in before.items() for i in (0, 1))
    )
    lab.archive(
        *(lab.exposure("x", u, a, 0.9) for u, a in arm.items()),
        *(lab.event("buy", u, 0.5, value=v) for u, v in after.items()),
    )
    lab.start(
        "x",
        1,
        primary={"name": "spent", "event": "buy", "kind": "mean", "cuped_days": 7},
        variance=100.0,
    )
    metric = lab.client.experiments.results(id="x")["metrics"][0]
    correlation = np.corrcoef([before[u] for u in arm], [after[u] - (arm[u] == "b") for u in arm])[
        0, 1
    ]
    assert metric["cuped"] == {
        "days": 7,
        "interval_factor": pytest.approx(np.sqrt(1 - correlation**2), rel=0.02),
    }
    plain = [Mean.of([after[u] for u in arm if arm[u] == name]).estimate().error for name in "ab"]
    ours = [metric["arms"][name]["standard_error"] for name in "ab"]
    assert ours == pytest.approx([e * metric["cuped"]["interval_factor"] for e in plain], rel=0.1)
    low, high = metric["comparisons"]["b"]["interval"]
    assert low < 1 < high and high - low < 2


def test_each_metric_has_its_own_past_to_the_minute(lab: Lab) -> None:
    """Against moments computed here: 3 and 14 days before a start at noon."""
    rng = np.random.default_rng(7)
    arm = {f"u{i}": "ab"[i % 2] for i in range(40)}
    at = (1.6, 4.4, 4.6, 15.4, 15.6)  # the start is at 1.5
    past = {u: rng.gamma(2, 5, len(at)) for u in arm}
    after = {u: float(v.sum() + rng.normal()) for u, v in past.items()}
    metric = {"event": "buy", "kind": "mean"}
    lab.archive(
        *(
            lab.event("buy", u, t, value=v)
            for u, vs in past.items()
            for t, v in zip(at, vs, strict=True)
        )
    )
    lab.archive(
        *(lab.exposure("x", u, a, 1.4) for u, a in arm.items()),
        *(lab.event("buy", u, 1.2, value=v) for u, v in after.items()),
    )
    lab.start(
        "x",
        1.5,
        primary={"name": "short", "cuped_days": 3, **metric},
        secondary=[{"name": "long", "cuped_days": 14, **metric}],
        variance=1.0,
    )
    for row, counted in zip(lab.client.experiments.results(id="x")["metrics"], (2, 4), strict=True):
        pairs = {
            name: Pair.of(
                [after[u] for u in arm if arm[u] == name],
                [past[u][:counted].sum() for u in arm if arm[u] == name],
            )
            for name in "ab"
        }
        expected = [mean.mean for mean in cuped.adjust(pairs).values()]
        assert [row["arms"][name]["value"] for name in "ab"] == pytest.approx(expected)


# Before the start


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"baseline": 1.5, "minimum_effect": 0.1}, "baseline"),
        ({"baseline": 0.95, "minimum_effect": 0.1}, "minimum_effect"),
        ({"baseline": -0.5, "minimum_sample_size": 9}, "baseline"),
        ({"baseline": 0.5, "minimum_effect": 0.9, "minimum_sample_size": 9}, "minimum_effect"),
        ({"baseline": 0.5, "minimum_effect": 1.1, "effect": "relative"}, "minimum_effect"),
    ],
)
def test_an_impossible_sample_names_the_field_at_fault(
    lab: Lab, fields: dict[str, Any], location: str
) -> None:
    with pytest.raises(Invalid) as refused:
        lab.client.experiments.draft(id="x", body=PLAIN | {"minimum_sample_size": None} | fields)
        lab.client.experiments.start(id="x")
    assert [fault["location"] for fault in refused.value.errors] == [location]


@pytest.mark.parametrize("variants", [{"a": 1}, {}, 3, 1.5, True, False, None, "a", [1], [[]]])
def test_variants_that_are_no_list_are_refused(lab: Lab, variants: Any) -> None:
    with pytest.raises(Invalid, match="variants"):
        lab.client.experiments.draft(id="x", body=PLAIN | {"variants": variants})


def test_baseline_units_and_duration_come_from_history(lab: Lab) -> None:
    """Two hundred people open boards over ten days, a quarter of them buy later; then
    nobody has to say a baseline.
    """
    opened = [lab.event("board.opened", f"u{i}", 13 - i % 10) for i in range(200)]
    bought = [lab.event("buy", f"u{i}", 13 - i % 10 - 0.5) for i in range(0, 200, 4)]
    noise = [lab.event("item.updated", f"item-{i}", 5) for i in range(500)] + [
        lab.event("metric", "u999", 5, metric="m", value=1)
    ]
    lab.archive(*opened, *bought, *noise)
    body = {
        "hypothesis": "h",
        "variants": ARMS,
        "primary": {"name": "buys", "event": "buy"},
        "minimum_effect": 0.1,
    }
    plan = lab.client.experiments.draft(id="x", body=body)["plan"]
    assert plan["baseline"] == pytest.approx(0.25) and plan["units_per_day"] == pytest.approx(
        200 / 14
    )
    told = lab.client.experiments.sample_size(
        metric="proportion", baseline=0.25, minimum_effect=0.1
    )["per_arm"]
    assert plan["per_arm"] == told and plan["duration_days"] == 7 * np.ceil(
        2 * told / (200 / 14) / 7
    )


def test_the_variance_comes_from_the_latest_logged_events(lab: Lab) -> None:
    values = {f"u{i}": float(i) for i in range(60)}
    lab.archive(*(lab.event("buy", u, 3, value=v) for u, v in list(values.items())[:30]))
    lab.log(*(lab.event("buy", u, 2, value=v) for u, v in list(values.items())[30:]))
    body = {
        "hypothesis": "h",
        "variants": ARMS,
        "primary": {"name": "spent", "event": "buy", "kind": "mean"},
        "minimum_effect": 0.1,
        "effect": "relative",
    }
    plan = lab.client.experiments.draft(id="x", body=body)["plan"]
    assert (plan["baseline"], plan["variance"]) == pytest.approx(
        (np.mean(list(values.values())), np.var(list(values.values()), ddof=1))
    )


def test_the_sample_of_a_quantile_follows_from_its_error(lab: Lab) -> None:
    values = -np.log(1 - (np.arange(2000) + 0.5) / 2000)
    lab.archive(*(lab.event("buy", f"u{i}", 3, value=float(v)) for i, v in enumerate(values)))
    metric = {"name": "p90", "event": "buy", "kind": "quantile", "quantile": 0.9}
    plan = lab.client.experiments.draft(
        id="x", body={"hypothesis": "h", "variants": ARMS, "primary": metric, "minimum_effect": 0.2}
    )["plan"]
    # q (1 - q) / f² of the exponential's 90 % quantile: .09 / .1² = 9
    assert plan["baseline"] == pytest.approx(np.log(10), rel=0.01) and plan[
        "variance"
    ] == pytest.approx(9, rel=0.05)


def test_starting_without_history_asks_for_a_baseline(lab: Lab) -> None:
    lab.archive(lab.event("board.opened", "u1", 3))
    body = {
        "hypothesis": "h",
        "variants": ARMS,
        "primary": {"name": "buys", "event": "buy"},
        "minimum_effect": 0.1,
    }
    assert lab.client.experiments.draft(id="x", body=body)["plan"] is None
    with pytest.raises(Invalid, match="baseline"):
        lab.client.experiments.start(id="x")


# Looking early


def exposed(lab: Lab, id: str, a: tuple[int, int], b: tuple[int, int], first: int = 0) -> None:
    """(units, buyers) by arm, in the log."""
    events = []
    for arm, (units, buyers) in (("a", a), ("b", b)):
        events += [lab.exposure(id, f"{arm}{first + i}", arm, -0.0001) for i in range(units)]
        events += [lab.event("buy", f"{arm}{first + i}", -0.0002) for i in range(buyers)]
    lab.log(*events)


def test_a_group_sequential_test_shows_only_its_looks(lab: Lab) -> None:
    lab.start("x", 0, analysis="group_sequential", looks=[0.5, 1], minimum_sample_size=100)
    exposed(lab, "x", (40, 4), (40, 8))
    early = lab.client.experiments.results(id="x")
    assert (
        early["metrics"] is None
        and early["looks"] == []
        and "first look is at 50 %" in early["verdict"]["reasons"][0]
    )
    exposed(lab, "x", (20, 2), (20, 4), first=100)
    with ThreadPoolExecutor(6) as pool:  # readers who ask at once are shown one and the same look
        answers = list(pool.map(lambda _: lab.client.experiments.results(id="x"), range(6)))
    assert all(
        answer["looks"] == answers[0]["looks"] and answer["metrics"] == answers[0]["metrics"]
        for answer in answers
    )
    [look] = answers[0]["looks"]
    assert look["information"] == 0.6 and len(lab.document("x").looks) == 1
    assert answers[0]["metrics"][0]["comparisons"]["b"]["effect"] == pytest.approx(0.1)
    exposed(lab, "x", (20, 0), (20, 20), first=200)
    assert lab.client.experiments.results(id="x")["metrics"] == answers[0]["metrics"]
    exposed(lab, "x", (20, 0), (20, 20), first=300)
    end = lab.client.experiments.results(id="x")
    assert len(end["looks"]) == 2 and end["complete"] and end["verdict"]["winner"] == "b"
    assert lab.client.experiments.promote(id="x")["status"] == "promoted"


def test_a_look_taken_by_another_reader_is_shown(lab: Lab) -> None:
    lab.start("x", 0, analysis="group_sequential", looks=[0.5, 1], minimum_sample_size=100)
    exposed(lab, "x", (60, 6), (60, 12))
    stale = lab.document("x")
    first = lab.app.run(reporting.report(lab.ctx, stale))
    exposed(lab, "x", (5, 5), (5, 0), first=100)
    second = lab.app.run(reporting.report(lab.ctx, stale))
    assert (
        second["looks"] == first["looks"]
        and second["metrics"] == first["metrics"]
        and len(lab.document("x").looks) == 1
    )


def test_an_always_valid_test_shows_intervals_from_100_units(lab: Lab) -> None:
    lab.start("x", 0, analysis="always_valid", minimum_sample_size=1000)
    exposed(lab, "x", (99, 10), (120, 60))
    assert lab.client.experiments.results(id="x")["metrics"] is None
    exposed(lab, "x", (21, 2), (0, 0), first=200)
    found = lab.client.experiments.results(id="x")
    row = found["metrics"][0]["comparisons"]["b"]
    assert (
        row["effect"] == pytest.approx(0.4)
        and row["interval"][0] > 0
        and found["verdict"]["winner"] == "b"
        and not found["complete"]
    )
    json.dumps(found, allow_nan=False)


# Ramps


def ramping(lab: Lab, **fields: Any) -> None:
    lab.start("w", 0, capability="warmth", variants=WARM, **fields)
    lab.client.experiments.promote(
        id="w",
        body={"variant": "warm", "override": "for the test", "days": 4, "steps": [10, 50, 100]},
    )


def begun(lab: Lab, days_ago: float) -> None:
    """As if the ramp had begun then."""

    def earlier(document: Document) -> dict[str, Any]:
        assert document.ramp is not None
        return {
            "ramp": document.ramp.model_copy(
                update={"started_at": datetime.now(UTC) - timedelta(days=days_ago)}
            )
        }

    lab.change("w", earlier)


def shares(lab: Lab) -> list[float]:
    found = [
        e for e in lab.client.platform.list_experiments()["experiments"] if e["id"] == "w~ramp"
    ]
    return [v["allocation"] for e in found for v in e["variants"]]


def test_the_job_moves_a_ramp_until_it_is_complete(lab: Lab) -> None:
    ramping(lab)
    assert shares(lab) == [10, 90]
    assert lab.app.job("experiments.ramps", tenant=lab.name)[0]["ramps"][f"{lab.name}/w"].endswith(
        "over 4 days"
    )
    assert shares(lab) == [10, 90]
    begun(lab, 1.5)
    lab.app.job("experiments.ramps", tenant=lab.name)
    assert (
        shares(lab) == [50, 50]
        and lab.client.experiments.get(id="w")["history"][-1]["what"] == "ramp at 50 percent"
    )
    begun(lab, 4.1)
    lab.app.job("experiments.ramps", tenant=lab.name)
    assert shares(lab) == [] and lab.client.experiments.get(id="w")["status"] == "promoted"
    assert lab.client.platform.get_parameters(capability="warmth")["own"] == {"warmth": 0.9}
    wait_until(lambda: lab.client.warmth.level() == {"warmth": 0.9})  # a replica's copy is renewed
    lab.client.experiments.rollback(id="w")
    assert lab.client.platform.get_parameters(capability="warmth")["own"] == {}


def test_each_step_of_a_ramp_has_its_own_numbers(lab: Lab) -> None:
    ramping(lab, guardrails=REFUNDS)
    lab.change("w", lambda d: {"ramp": moved(d, {0: 1.0, 2: 0.5})})
    early = [(f"{arm}{i}", arm, 0.9) for arm in ("cool", "warm") for i in range(2)]
    late = [("late1", "warm", 0.4), ("cool0", "cool", 0.3)]
    lab.log(*(lab.exposure("w~ramp", *exposure) for exposure in early + late))
    lab.log(*(lab.event("buy", unit, 0.2) for unit in ("cool0", "warm0", "warm1", "late1")))
    lab.log(lab.event("refund", "cool1", 0.2))
    first, second = lab.client.experiments.results(id="w")["ramp"]
    assert (first["percent"], second["percent"]) == (10, 100)
    assert (first["units"], second["units"]) == ({"cool": 2, "warm": 2}, {"cool": 0, "warm": 1})
    assert first["values"] == {
        "buys": {"cool": 0.5, "warm": 1.0},
        "refunds": {"cool": 0.5, "warm": 0.0},
    }
    assert second["values"]["buys"] == {"cool": None, "warm": 1.0}


def moved(document: Document, reached: dict[int, float]) -> Any:
    """The ramp as if its steps had begun so many days ago."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    times = {step: midnight - timedelta(days=days) for step, days in reached.items()}
    assert document.ramp is not None
    return document.ramp.model_copy(update={"started_at": times[0], "reached": times})


REFUNDS = [
    {
        "name": "refunds",
        "event": "refund",
        "better": "decrease",
        "margin": 0.05,
        "margin_scale": "absolute",
    }
]


@pytest.mark.parametrize(("refunds", "status"), [(90, "rolled back"), (12, "promoting")])
def test_a_ramp_is_rolled_back_only_when_harm_is_shown(lab: Lab, refunds: int, status: str) -> None:
    ramping(lab, guardrails=REFUNDS)
    begun(lab, 1)
    events = [
        lab.exposure("w~ramp", f"{arm}{i}", arm, -0.0001)
        for arm in ("warm", "cool")
        for i in range(300)
    ]
    events += [lab.event("refund", f"cool{i}", -0.0002) for i in range(10)] + [
        lab.event("refund", f"warm{i}", -0.0002) for i in range(refunds)
    ]
    lab.log(*events)
    lab.app.job("experiments.ramps", tenant=lab.name)
    after = lab.client.experiments.get(id="w")
    assert after["status"] == status
    if status == "rolled back":
        assert "refunds" in after["ramp"]["reason"] and shares(lab) == []
        assert lab.client.platform.get_parameters(capability="warmth")["own"] == {}
        with pytest.raises(Conflict):
            lab.client.experiments.rollback(id="w")


def test_a_latency_guardrail_rolls_back_a_slow_winner(lab: Lab) -> None:
    guardrail = {
        "name": "slow",
        "event": "service.latency_p95",
        "kind": "mean",
        "better": "decrease",
        "margin": 0.1,
    }
    ramping(lab, guardrails=[guardrail])
    begun(lab, 1.2)  # so that all the minutes are in it at any time of day
    rng = np.random.default_rng(8)

    now = int(lab.midnight.timestamp()) // 60
    minutes: list[Event] = []
    for n in range(200):  # as the router accounts for a minute of ten requests to each arm
        buckets = {
            arm: bisect_left(BOUNDS, level * float(rng.lognormal(0, 0.3)))
            for arm, level in (("cool", 0.1), ("warm", 0.2))
        }
        minutes += metric_events(
            "warmth",
            now - n,
            {f"{k}/w~ramp/{arm}".encode(): b"10" for arm, b in buckets.items() for k in ("n", b)},
            1,
        )
    lab.app.run(lab.ctx.stores.events.append(minutes))
    lab.log(*(lab.exposure("w~ramp", f"{arm}1", arm, -0.0001) for arm in ("cool", "warm")))
    lab.app.job("experiments.ramps", tenant=lab.name)
    assert lab.client.experiments.get(id="w")["status"] == "rolled back"
    admin, deadline = (
        lab.app.client(lab.name, "admin").platform,
        time.monotonic() + 20,
    )  # the audit log is a moment behind
    while "DELETE /platform/experiments/{id}" not in {
        e["action"] for e in admin.list_audit(limit=1000)["entries"]
    }:
        assert time.monotonic() < deadline, "the audit log says nothing of it"
        time.sleep(0.05)


def test_a_transition_is_undone_when_its_action_fails(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.start("w", 0, capability="warmth", variants=WARM)
    working = transitions.platform_operations

    class Failing:
        def __init__(self, ctx: TenantContext) -> None:
            self._operations = working(ctx)

        def __getattr__(self, name: str) -> Any:
            if name in ("put_parameters", "put_experiment", "delete_experiment"):
                raise Unavailable("the directory is unavailable")
            return getattr(self._operations, name)

    def use(operations: Any) -> None:
        for module in (collisions, lifecycle, promotion, transitions):
            monkeypatch.setattr(module, "platform_operations", operations)

    experiments = lab.client.experiments
    experiments.draft(id="v", body=PLAIN)
    use(Failing)
    for change in (
        lambda: experiments.stop(id="w"),
        lambda: experiments.promote(id="w", variant="warm", override="x"),
        lambda: experiments.promote(id="w", variant="warm", override="x", days=2),
        lambda: experiments.start(id="v"),
    ):
        with pytest.raises(Unavailable):
            change()
    assert (lab.document("w").status, lab.document("v").status) == ("running", "draft")
    use(working)
    assert experiments.promote(id="w", variant="warm", override="x")["status"] == "promoted"
    use(Failing)
    with pytest.raises(Unavailable):
        experiments.rollback(id="w")
    assert lab.document("w").status == "promoted"


def test_the_error_of_one_ramp_does_not_stop_others(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramping(lab)
    begun(lab, 1.5)
    lab.start("p", 0)
    lab.client.experiments.stop(id="p")
    lab.change(
        "p",
        lambda d: {
            "status": "promoting",
            "ramp": lab.document("w").ramp,
            "created_at": d.created_at - timedelta(days=1),
        },
    )
    healthy = ramps.harm_of_ramp

    async def look(ctx: TenantContext, document: Document, now: datetime) -> str:
        if document.id == "p":
            raise Unavailable("the lake is unavailable")
        return await healthy(ctx, document, now)

    monkeypatch.setattr(ramps, "harm_of_ramp", look)
    done = lab.app.job("experiments.ramps", tenant=lab.name)[0]["ramps"]
    assert done == {
        f"{lab.name}/p": "not checked: the lake is unavailable",
        f"{lab.name}/w": "ramp at 50 percent",
    }


def test_retention_windows_end_correctly_across_days(lab: Lab) -> None:
    metric = {
        "name": "back",
        "event": "visit",
        "kind": "retention",
        "from_day": 1,
        "window_days": 2,
    }
    lab.start("x", 5, primary=metric)
    lab.archive(
        lab.exposure("x", "u1", "a", 4.9),
        lab.event("visit", "u1", 4.5),
        lab.event("visit", "u1", 3.5),
        lab.exposure("x", "u2", "b", 4.9),
        lab.event("visit", "u2", 4.5),
        lab.event("visit", "u2", 2.5),
        lab.exposure("x", "u3", "a", 4.8),
        lab.exposure("x", "u4", "b", 4.8),
        lab.event("visit", "u4", 3.0),
    )
    arms = lab.client.experiments.results(id="x")["metrics"][0]["arms"]
    assert {n: Proportion(v["n"], v["successes"]) for n, v in arms.items()} == {
        "a": Proportion(2, 1),
        "b": Proportion(2, 1),
    }
