"""Experiments that would measure each other's effects, and controls that change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import product
from typing import Any

import pytest

from shoal import Client, Conflict, ExperimentRecord
from shoal_experiments.collisions import check_collisions

from .lab import PLAIN, WARM, Lab

HALF = {"name": "both", "percent": 50}


def warm(**fields: Any) -> dict[str, Any]:
    return PLAIN | {"capability": "warmth", "variants": WARM} | fields


def begin(lab: Lab, id: str, **fields: Any) -> None:
    lab.client.experiments.draft(id=id, body=warm(**fields))
    lab.client.experiments.start(id=id)


def test_one_parameter_is_varied_once_at_a_time(lab: Lab) -> None:
    experiments = lab.client.experiments
    begin(lab, "x", layer=HALF)
    with pytest.raises(Conflict, match="'x' already varies warmth"):
        begin(lab, "y")
    begin(lab, "z", layer=HALF)
    for days in (0, 4):  # at once, and over a ramp
        with pytest.raises(Conflict, match="'z' varies warmth too"):
            experiments.promote(id="x", body={"variant": "warm", "override": "t", "days": days})
    assert experiments.get(id="x")["status"] == "running"
    experiments.stop(id="z")
    experiments.promote(id="x", body={"variant": "warm", "override": "t", "days": 4})
    with pytest.raises(Conflict, match="'x~ramp' already varies warmth"):
        experiments.start(id="y")


def record(id: str, layer: Any, unit: str, range: Any, name: str | None) -> ExperimentRecord:
    arms = [{"name": "a", "allocation": 50, "parameters": {name: 1} if name else {}}]
    return ExperimentRecord.model_validate(
        {
            "id": id,
            "capability": "warmth" if name else None,
            "unit": unit,
            "variants": [*arms, {"name": "b", "allocation": 50}],
            "layer": layer,
            "layer_range": range if layer else None,
        }
    )


def test_experiments_share_units_only_with_different_parameters() -> None:
    """By the definition: some request would get both variants of one parameter."""
    options = list(
        product((None, "l", "m"), ("user", "session"), ((0, 50), (50, 100)), ("w", "v", None))
    )
    for one, other in product(options, options):
        a, b = record("a", *one), record("b", *other)
        same_layer = a.layer is not None and a.layer == b.layer
        exclusive = same_layer and a.unit == b.unit and a.layer_range != b.layer_range
        varies_same = one[3] is not None and one[3] == other[3]
        wrong = (varies_same and not exclusive) or (same_layer and not exclusive)
        try:
            check_collisions(a, [b])
        except Conflict:
            assert wrong, (one, other)
        else:
            assert not wrong, (one, other)


def test_of_two_started_at_once_one_is_refused(lab: Lab) -> None:
    ids = ["x", "y"]
    for id in ids:
        lab.client.experiments.draft(id=id, body=warm())

    def start(id: str) -> str:
        client: Client = lab.app.client(lab.name)
        try:
            return str(client.experiments.start(id=id)["status"])
        except Conflict:
            return "refused"

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(start, ids))
    assigned = {e["id"] for e in lab.client.platform.list_experiments()["experiments"]}
    assert found.count("running") <= 1
    assert assigned == {id for id, status in zip(ids, found, strict=True) if status == "running"}
    assert [lab.document(id).status for id in ids] == [
        "running" if status == "running" else "draft" for status in found
    ]


def test_a_control_that_changes_makes_the_verdict_invalid(lab: Lab) -> None:
    lab.start("x", 0, capability="warmth", variants=WARM)
    for arm in ("cool", "warm"):
        lab.log(*(lab.exposure("x", f"{arm}{i}", arm, -0.0001) for i in range(9)))
    lab.log(*(lab.event("buy", f"warm{i}", -0.0002) for i in range(9)))
    lab.client.platform.put_parameters(capability="warmth", body={"warmth": 0.7, "depth": 2})
    report = lab.client.experiments.results(id="x")
    assert report["verdict"]["decision"] == "invalid" and report["metrics"] is not None
    assert "value of warmth changed while" in report["verdict"]["reasons"][0]
    found = lab.client.experiments.get(id="x")
    assert found["history"][-1]["what"] == (
        "the tenant's values changed: depth from 1 to 2, warmth from 0.5 to 0.7"
    )
    assert (found["values"], found["changed_control"]) == (
        {"warmth": 0.7, "depth": 2},
        ["warmth"],
    )
    with pytest.raises(Conflict, match="override"):
        lab.client.experiments.promote(id="x", variant="warm")


@pytest.mark.parametrize("is_read_meanwhile", [False, True])
def test_a_control_put_back_before_anyone_reads_is_invalid(
    lab: Lab, is_read_meanwhile: bool
) -> None:
    lab.client.platform.put_parameters(capability="warmth", body={"warmth": 0.4})
    lab.start("x", 0, capability="warmth", variants=WARM)
    for body in ({"warmth": 0.2}, {"warmth": 0.4, "depth": 1}):
        lab.client.platform.put_parameters(capability="warmth", body=body)
        if is_read_meanwhile:
            lab.client.experiments.results(id="x")
    for arm in ("cool", "warm"):
        lab.log(*(lab.exposure("x", f"{arm}{i}", arm, -0.0001) for i in range(9)))
    lab.log(*(lab.event("buy", f"warm{i}", -0.0002) for i in range(9)))
    assert lab.client.experiments.results(id="x")["verdict"]["decision"] == "invalid"
    found = lab.client.experiments.get(id="x")
    changes = [c for c in found["history"] if c["what"].startswith("the tenant's values")]
    assert found["changed_control"] == ["warmth"]
    assert [c["what"].partition(": ")[2] for c in changes] == (
        ["warmth from 0.4 to 0.2", "warmth from 0.2 to 0.4"]
        if is_read_meanwhile
        else ["warmth, and back to 0.4"]
    )
    times = lab.client.platform.get_parameters(capability="warmth")["changed_at"]
    assert list(times) == ["warmth"]
    assert datetime.fromisoformat(changes[-1]["at"]) == datetime.fromisoformat(times["warmth"])


def test_an_assignment_altered_elsewhere_makes_the_verdict_invalid(lab: Lab) -> None:
    begin(lab, "x")
    lab.client.platform.delete_experiment(id="x")
    assert lab.client.experiments.results(id="x")["verdict"]["decision"] != "ship"
    assert lab.client.experiments.get(id="x")["changed_assignment"] is True


def test_a_rollback_keeps_what_was_changed_since(lab: Lab) -> None:
    begin(lab, "x")
    lab.client.experiments.promote(id="x", body={"variant": "warm", "override": "for the test"})
    lab.client.platform.put_parameters(capability="warmth", body={"warmth": 0.9, "depth": 4})
    lab.client.experiments.rollback(id="x")
    assert lab.client.platform.get_parameters(capability="warmth")["own"] == {"depth": 4}


def test_an_id_is_its_units_own_and_a_value_of_a_share_is_refused(lab: Lab) -> None:
    lab.start("p", 0, primary={"name": "bought"})
    rows = [{"unit": unit, "id": "1"} for unit in ("u1", "u2", "u1")]
    rows.append({"unit": "u3", "value": 0})  # type: ignore[dict-item]
    answer = lab.client.experiments.add_outcomes(id="p", body=rows)
    assert answer["accepted"] == 2 + 1 and len(answer["rejected"]) == 1


def test_a_parameter_that_nobody_varies_may_change(lab: Lab) -> None:
    begin(lab, "x")
    lab.client.platform.put_parameters(capability="warmth", body={"depth": 2})
    lab.app.job("experiments.aggregate", tenant=lab.name)
    found = lab.client.experiments.get(id="x")
    assert found["changed_control"] == []
    assert found["history"][-1]["what"] == "the tenant's values changed: depth from 1 to 2"
    lab.client.experiments.stop(id="x")
    lab.client.platform.put_parameters(capability="warmth", body={"warmth": 0.1})
    lab.client.experiments.results(id="x")
    assert lab.client.experiments.get(id="x")["changed_control"] == []
