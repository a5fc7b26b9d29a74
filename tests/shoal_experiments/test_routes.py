"""Experiments over HTTP: real Redis, the real Router, the real event log."""

from __future__ import annotations

import random
import time
from itertools import count
from typing import Any

import httpx
import pytest

from shoal import Assigner, Client, Conflict, Forbidden, Invalid, NotFound

numbers = count()
HALVES = [{"name": "blue", "allocation": 50}, {"name": "green", "allocation": 50}]


def design(**fields: Any) -> dict[str, Any]:
    return {
        "hypothesis": "Green is seen sooner.",
        "variants": HALVES,
        "primary": {"name": "bought"},
        "minimum_effect": 0.1,
        "baseline": 0.2,
        "duration_days": 0,
        "minimum_sample_size": 25,
        **fields,
    }


def warm(**fields: Any) -> dict[str, Any]:
    variants = [
        {"name": "cool", "allocation": 50},
        {"name": "warm", "allocation": 50, "parameters": {"warmth": 0.9}},
    ]
    return design(capability="greeting", variants=variants, **fields)


@pytest.fixture
def id() -> str:
    return f"test-{next(numbers)}"


def started(client: Client, id: str, body: dict[str, Any]) -> dict[str, Any]:
    client.experiments.draft(id=id, body=body)
    return client.experiments.start(id=id)


def run(
    client: Client, id: str, rates: dict[str, float], units: int = 90, metric: str = "bought"
) -> None:
    """Assign units and post what they did."""
    rng = random.Random(7)
    arms = {
        f"{id}-u{i}": client.experiments.assignment(id=id, unit=f"{id}-u{i}")["variant"]
        for i in range(units)
    }
    rows = [
        {"unit": u, "metric": metric, "id": f"{u}-{metric}"}
        for u, arm in arms.items()
        if rng.random() < rates[arm]
    ]
    answer = client.experiments.add_outcomes(id=id, body=rows)
    assert answer == {"accepted": len(rows), "rejected": []}


def wait_for(condition: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.2)
    return value


def test_the_calculators_agree_with_the_documentation(acme: Client) -> None:
    arms = {"a": {"n": 5234, "successes": 644}, "b": {"n": 5189, "successes": 732}}
    found = acme.experiments.analyze(metric="proportion", control="a", arms=arms)["comparisons"][
        "b"
    ]
    assert found["effect"] == pytest.approx(0.018, abs=1e-3) and found["p_value"] == pytest.approx(
        0.0066, abs=1e-4
    )
    assert (
        found["interval"] == pytest.approx([0.005, 0.031], abs=1e-4)
        and found["significant"] is True
    )
    assert (
        acme.experiments.sample_size(metric="mean", baseline=1, minimum_effect=0.5, variance=1)[
            "per_arm"
        ]
        == 64
    )
    assert acme.experiments.bounds(times=[0.5, 1])["looks"][1]["z"] == pytest.approx(
        1.9686, abs=1e-3
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "analyze",
            {
                "metric": "proportion",
                "control": "a",
                "arms": {"a": {"n": 3, "successes": 9}, "b": {"n": 1, "successes": 1}},
            },
        ),
        (
            "analyze",
            {
                "metric": "mean",
                "control": "a",
                "arms": {
                    "a": {"n": 3, "mean": 1, "variance": 0},
                    "b": {"n": 3, "mean": 1, "variance": 0},
                },
            },
        ),
        (
            "analyze",
            {
                "metric": "mean",
                "control": "a",
                "arms": {
                    "a": {"n": 1, "mean": 1, "variance": 1},
                    "b": {"n": 3, "mean": 1, "variance": 0},
                },
            },
        ),
        ("sample-size", {"metric": "proportion", "baseline": 0.1, "minimum_effect": 0}),
        ("sample-size", {"metric": "proportion", "baseline": 0.1, "minimum_effect": 0.95}),
        ("sample-size", {"metric": "mean", "baseline": 0.1, "minimum_effect": 1}),
        ("bounds", {"times": [1, 0.5]}),
    ],
)
def test_invalid_numbers_are_reported_with_their_location(
    served: Any, path: str, body: dict[str, Any]
) -> None:
    headers = {"Authorization": f"Bearer {served.keys['acme']['reader']}"}
    answer = httpx.post(f"{served.address}/experiments/{path}", json=body, headers=headers)
    assert (
        answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    )
    assert answer.json()["errors"][0]["message"] and "location" in answer.json()["errors"][0]


@pytest.mark.parametrize(
    "body",
    [b'{"metric":"mean","baseline":NaN,"minimum_effect":1,"variance":1}', b"[", b"null", b'"x"'],
)
def test_an_invalid_body_is_refused(served: Any, body: bytes) -> None:
    headers = {
        "Authorization": f"Bearer {served.keys['acme']['reader']}",
        "content-type": "application/json",
    }
    answer = httpx.post(f"{served.address}/experiments/sample-size", content=body, headers=headers)
    assert answer.status_code in (400, 422) and "problem" in answer.headers["content-type"]


def test_an_experiment_from_draft_to_promotion(served: Any, acme: Client, id: str) -> None:
    drafted = acme.experiments.draft(
        id=id,
        body=design(
            guardrails=[
                {"name": "refund", "better": "decrease", "margin": 0.2, "margin_scale": "absolute"}
            ]
        ),
    )
    assert drafted["status"] == "draft" and drafted["plan"]["per_arm"] == 25
    running = acme.experiments.start(id=id)
    assert running["status"] == "running" and len(running["hash"]) == 64
    run(acme, id, {"blue": 0.1, "green": 0.8})
    acme.experiments.add_outcomes(id=id, body=[{"unit": f"{id}-u0", "metric": "refund"}])
    report = acme.experiments.results(id=id)
    assert report["verdict"] == {**report["verdict"], "decision": "ship", "winner": "green"}
    assert sum(report["health"]["units"].values()) == 90
    promoted = acme.experiments.promote(id=id)
    assert promoted["status"] == "promoted" and [
        c["what"].split()[0] for c in promoted["history"]
    ] == ["drafted", "started:", "promoted"]
    assert acme.experiments.assignment(id=id, unit="someone")["variant"] == "green"
    with Client(served.address, served.keys["acme"]["admin"]) as admin:
        wanted = {
            f"{verb} /experiments/{{id}}{end}"
            for verb, end in (("PUT", ""), ("POST", "/start"), ("POST", "/promote"))
        }
        wait_for(
            lambda: (
                wanted
                <= {
                    e["action"]
                    for e in admin.platform.list_audit(limit=1000)["entries"]
                    if e["path"].startswith(f"/experiments/{id}")
                }
            )
        )


SPECIFIED = {
    "hypothesis": "The second model recommends better.",
    "variants": {
        "control": {"model": "rec_v1", "allocation": "50%"},
        "treatment": {"model": "rec_v2", "allocation": "50%"},
    },
    "metrics": {
        "primary": "automation_adoption_rate",
        "secondary": ["click_rate", "retention_7d"],
    },
    "duration": "14 days",
    "min_sample_size": 10000,
}


def test_the_specification_is_accepted_as_it_stands(acme: Client, id: str) -> None:
    body = {"experiment_id": id, **SPECIFIED}
    with pytest.raises(Invalid) as refused:
        acme.experiments.draft(id=f"{id}-other", body=body)
    assert refused.value.errors[0]["location"] == "experiment_id"
    running = started(acme, id, body)
    assert (running["plan"]["per_arm"], running["plan"]["duration_days"]) == (10000, 14)
    found = [acme.experiments.assignment(id=id, unit=f"u{i}") for i in range(20)]
    models = {"control": {"model": "rec_v1"}, "treatment": {"model": "rec_v2"}}
    assert all(a["parameters"] == models[a["variant"]] for a in found)
    promoted = acme.experiments.promote(id=id, variant="treatment", override="for the test")
    assert (promoted["winner"], promoted["promoted"]) == ("treatment", {"model": "rec_v2"})
    for answer in (acme.experiments.assignment(id=id, unit=f"u{i}") for i in range(20)):
        assert (answer["variant"], answer["parameters"]) == ("treatment", {"model": "rec_v2"})
    acme.experiments.rollback(id=id)
    assert acme.experiments.assignment(id=id, unit="u1")["variant"] is None


def test_assignment_over_http_equals_offline_assignment(acme: Client, id: str) -> None:
    """Traffic, a layer, a holdout and unequal arms at once; and a unit's answer never
    changes.
    """
    arms = [{"name": "blue", "allocation": 70}, {"name": "green", "allocation": 30}]
    body = design(
        variants=arms,
        traffic=60,
        layer={"name": f"layer-{id}", "percent": 80},
        holdout={"name": "all", "percent": 10},
    )
    document = started(acme, id, body)
    keys = ("variants", "traffic", "holdout")
    record = {
        "id": id,
        **{k: document["design"][k] for k in keys},
        "layer": f"layer-{id}",
        "layer_range": document["layer_range"],
    }
    units = [f"u{i}" for i in range(200)]
    offline = Assigner.compile(record).assign_many(units)
    assert [
        acme.experiments.assignment(id=id, unit=u, expose=False)["variant"] for u in units
    ] == offline
    assert (
        0.25 < offline.count(None) / 200 < 0.85
        and offline.count("blue") > offline.count("green") > 0
    )
    assert sum(acme.experiments.results(id=id)["health"]["units"].values()) == 0


def test_a_reused_id_starts_without_old_data(acme: Client, id: str) -> None:
    for _ in range(2):
        started(acme, id, design())
        run(acme, id, {"blue": 0.1, "green": 0.8}, units=60)
        assert sum(acme.experiments.results(id=id)["health"]["units"].values()) == 60
        acme.experiments.stop(id=id)
        acme.experiments.delete(id=id)


def test_only_targeted_units_take_part(acme: Client, id: str) -> None:
    started(
        acme,
        id,
        design(
            targeting=[
                {"attribute": "plan", "values": ["pro", "team"]},
                {"attribute": "country", "operator": "not_in", "values": ["nl"]},
            ]
        ),
    )
    asked = {
        "pro": ["plan:pro"],
        "free": ["plan:free"],
        "nobody": [],
        "dutch": ["plan:pro", "country:nl"],
        "belgian": ["plan:team", "country:be"],
    }
    found = {
        name: acme.experiments.assignment(id=id, unit=name, attribute=a)["variant"] is not None
        for name, a in asked.items()
    }
    assert found == {"pro": True, "free": False, "nobody": False, "dutch": False, "belgian": True}
    with pytest.raises(Invalid, match="name:value") as refused:
        acme.experiments.assignment(id=id, unit="u", attribute=["plan"])
    assert refused.value.errors[0]["location"] == "query.attribute"


def test_posting_outcomes_twice_changes_nothing(acme: Client, id: str) -> None:
    started(acme, id, design())
    run(acme, id, {"blue": 0.1, "green": 0.8})
    once = acme.experiments.results(id=id)["metrics"][0]["comparisons"]
    run(acme, id, {"blue": 0.1, "green": 0.8})
    assert acme.experiments.results(id=id)["metrics"][0]["comparisons"] == once


def test_one_order_may_be_an_outcome_of_several_metrics(acme: Client, id: str) -> None:
    started(acme, id, design(secondary=[{"name": "revenue", "kind": "mean"}]))
    arms = {f"u{i}": acme.experiments.assignment(id=id, unit=f"u{i}")["variant"] for i in range(90)}
    rows = [
        {"unit": u, "metric": m, "id": f"order-{u}", "value": v}
        for u in arms
        for m, v in (("bought", 1), ("revenue", 20 + len(u)))
    ]
    assert acme.experiments.add_outcomes(id=id, body=rows)["accepted"] == 180
    found = {m["metric"]: m["arms"] for m in acme.experiments.results(id=id)["metrics"]}
    assert all(arm["value"] > 20 for arm in found["revenue"].values())
    assert all(arm["value"] == 1 for arm in found["bought"].values())


def test_only_health_is_shown_before_the_registered_end(acme: Client, id: str) -> None:
    started(acme, id, design(duration_days=14))
    run(acme, id, {"blue": 0.1, "green": 0.8})
    report = acme.experiments.results(id=id)
    assert (
        report["metrics"] is None
        and report["timeline"] is None
        and report["verdict"]["decision"] == "inconclusive"
    )
    assert (
        "effect" not in str(report["health"]) and report["health"]["units_per_arm"]["smallest"] > 25
    )
    with pytest.raises(Conflict, match="override"):
        acme.experiments.promote(id=id, variant="green")


def test_transitions_from_the_wrong_state_are_refused(acme: Client, id: str) -> None:
    with pytest.raises(NotFound):
        acme.experiments.start(id="nobody-drafted-this")
    acme.experiments.draft(id=id, body=design())
    with pytest.raises(Conflict, match="draft"):
        acme.experiments.stop(id=id)
    with pytest.raises(Invalid, match="draft"):
        acme.experiments.results(id=id)
    with pytest.raises(Invalid, match="draft"):
        acme.experiments.add_outcomes(id=id, body=[{"unit": "u"}])
    acme.experiments.start(id=id)
    for again in (
        lambda: acme.experiments.start(id=id),
        lambda: acme.experiments.draft(id=id, body=design()),
        lambda: acme.experiments.delete(id=id),
    ):
        with pytest.raises(Conflict, match="running"):
            again()
    acme.experiments.stop(id=id)
    with pytest.raises(Conflict):
        acme.experiments.stop(id=id)
    acme.experiments.delete(id=id)
    with pytest.raises(NotFound):
        acme.experiments.get(id=id)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (design(variants=HALVES[:1]), "variants"),
        (design(variants=[HALVES[0], {"name": "green", "allocation": 40}]), "sum to 100"),
        (design(minimum_effect=0), "minimum_effect"),
        (
            warm()
            | {
                "variants": [
                    HALVES[0],
                    {"name": "hot", "allocation": 50, "parameters": {"warmth": 7}},
                ]
            },
            "variants.1.parameters.warmth",
        ),
        (
            warm()
            | {
                "variants": [
                    HALVES[0],
                    {"name": "hot", "allocation": 50, "parameters": {"heat": 1}},
                ]
            },
            "variants.1.parameters.heat",
        ),
        (design(capability="nothing"), "nothing"),
        (design(baseline=0.95), "1.05"),
    ],
)
def test_invalid_designs_are_reported_with_their_location(
    acme: Client, id: str, body: dict[str, Any], where: str
) -> None:
    body = {**body, "minimum_sample_size": None}
    with pytest.raises((Invalid, NotFound)) as caught:
        acme.experiments.draft(id=id, body=body)
    assert where in str(caught.value) + str(caught.value.errors)


def test_starting_without_a_sample_size_explains_what_is_missing(acme: Client, id: str) -> None:
    acme.experiments.draft(
        id=id,
        body=design(
            baseline=None,
            minimum_sample_size=None,
            primary={"name": "never", "event": "never.logged"},
        ),
    )
    with pytest.raises(Invalid, match=r"no 'never' .* was logged"):
        acme.experiments.start(id=id)


def test_a_metric_that_is_never_logged_is_reported(acme: Client, id: str) -> None:
    running = started(
        acme, id, design(primary={"name": "x", "event": "never.logged"}, minimum_sample_size=2)
    )
    assert "never.logged" in running["warnings"][0]
    for i in range(30):
        acme.experiments.assignment(id=id, unit=f"u{i}")
    report = acme.experiments.results(id=id)
    assert report["verdict"]["decision"] == "inconclusive" and "No x was logged" in str(
        report["verdict"]["reasons"]
    )


def test_experiments_in_a_layer_are_exclusive_and_limited(acme: Client, id: str) -> None:
    layer = f"layer-{id}"
    ids = [f"{id}-{n}" for n in "abc"]
    for name, percent in zip(ids, (60, 40, 1), strict=True):
        acme.experiments.draft(id=name, body=design(layer={"name": layer, "percent": percent}))
    for name in ids[:2]:
        acme.experiments.start(id=name)
    with pytest.raises(Conflict, match="100 percent are taken"):
        acme.experiments.start(id=ids[2])
    for i in range(40):
        assert [
            acme.experiments.assignment(id=name, unit=f"u{i}", expose=False)["variant"] is None
            for name in ids[:2]
        ].count(True) == 1
    for name in ids[:2]:
        acme.experiments.stop(id=name)


def test_invalid_outcomes_are_rejected_individually(acme: Client, id: str) -> None:
    started(acme, id, design())
    rows = [
        {"unit": "u"},
        {"unit": ""},
        {"value": 1},
        {"unit": "u", "metric": "other"},
        {"unit": "u", "value": "much"},
        7,
        {"unit": "u", "surprise": 1},
        {"unit": 10001},
        *({"unit": "u", "value": value} for value in ("1", "1_0", True)),
        *({"unit": "u", "time": time} for time in (5, 1795907350.5, "5", "1795907350.1", True)),
        *({"unit": "u", "time": time} for time in ("2026-03-02", "2026-03-02T09:00:00")),
    ]
    answer = acme.experiments.add_outcomes(id=id, body=rows)
    rejected = [r["index"] for r in answer["rejected"]]
    assert answer["accepted"] == 1 and rejected == list(range(1, len(rows)))
    assert "bought" in answer["rejected"][2]["error"]


def test_readers_cannot_expose_others(served: Any, acme: Client, id: str) -> None:
    started(acme, id, design())
    with Client(served.address, served.keys["acme"]["reader"]) as reader:
        for expose in (None, True):
            asked = {} if expose is None else {"expose": expose}
            with pytest.raises(Forbidden):
                reader.experiments.assignment(id=id, unit="somebody", **asked)
        seen = reader.experiments.assignment(id=id, unit="somebody", expose=False)
    assert seen["variant"] in ("blue", "green")
    assert set(acme.experiments.results(id=id)["health"]["units"].values()) == {0}


def test_an_override_is_a_reason_in_words(acme: Client, id: str) -> None:
    started(acme, id, design())
    for override in ("", " ", "\u200b", "\u2060\u00ad", "...", "\u2800"):
        with pytest.raises(Conflict, match="needs an `override` with the reason"):
            acme.experiments.promote(id=id, variant="green", override=override)
    assert acme.experiments.get(id=id)["status"] == "running"


def test_a_parameter_is_varied_exposed_and_promoted(served: Any, acme: Client, id: str) -> None:
    started(acme, id, warm(primary={"name": "smiled", "event": "smile"}, minimum_sample_size=15))
    seen = [f"{id}-{i}" for i in range(60)]
    arm = {u: acme.experiments.assignment(id=id, unit=u)["variant"] for u in seen}
    for user in seen:
        warmth = 0.9 if arm[user] == "warm" else 0.5
        with Client(served.address, served.keys["acme"]["editor"], user=user) as client:
            wait_for(lambda c=client, w=warmth: c.greeting.hello(name="x")["warmth"] == w)
    wait_for(lambda: sum(acme.experiments.results(id=id)["health"]["units"].values()) >= 55)
    smiles = [
        {"specversion": "1.0", "id": f"smile-{u}", "source": "test", "type": "smile", "subject": u}
        for i, u in enumerate(seen)
        if (arm[u] == "warm") == (i % 10 > 1)
    ]
    acme.platform.append_events(body=smiles)
    report = acme.experiments.results(id=id)
    assert report["verdict"]["winner"] == "warm", report
    with pytest.raises(Conflict, match="already varies warmth"):
        started(acme, f"{id}-too", warm())
    acme.experiments.promote(id=id)
    assert acme.platform.get_parameters(capability="greeting")["own"] == {"warmth": 0.9}
    acme.experiments.rollback(id=id, reason="changed our minds")
    assert acme.platform.get_parameters(capability="greeting")["own"] == {}


def test_a_ramp_assigns_a_share_and_can_be_rolled_back(acme: Client, id: str) -> None:
    started(acme, id, warm())
    promoted = acme.experiments.promote(
        id=id, body={"variant": "warm", "override": "for the test", "days": 4, "steps": [20, 100]}
    )
    assert (
        promoted["status"] == "promoting"
        and "against the verdict" in promoted["history"][-1]["what"]
    )
    ramp = next(
        e for e in acme.platform.list_experiments()["experiments"] if e["id"] == f"{id}~ramp"
    )
    assert [(v["name"], v["allocation"]) for v in ramp["variants"]] == [("warm", 20), ("cool", 80)]
    assert acme.experiments.rollback(id=id)["status"] == "rolled back"
    assert f"{id}~ramp" not in str(acme.platform.list_experiments())


def test_a_product_experiment_is_ramped_too(acme: Client, id: str) -> None:
    variants = [{**v, "parameters": {"colour": v["name"]}} for v in HALVES]
    started(acme, id, design(variants=variants))
    request = {"variant": "green", "override": "for the test", "days": 4, "steps": [20, 100]}
    acme.experiments.promote(id=id, body=request)
    ramp = [{"name": "green", "allocation": 20}, {"name": "blue", "allocation": 80}]
    assigner = Assigner.compile({"id": f"{id}~ramp", "variants": ramp})
    before = Assigner.compile({"id": id, "variants": HALVES})
    for i in range(30):
        found = acme.experiments.assignment(id=id, unit=f"u{i}")
        had_it = before.assign(f"u{i}") == "green"
        assert found["variant"] == ("green" if had_it else assigner.assign(f"u{i}"))
        assert found["parameters"] == {"colour": found["variant"]}
    acme.experiments.rollback(id=id)
    assert acme.experiments.assignment(id=id, unit="u0")["variant"] is None


def test_another_tenant_sees_nothing(served: Any, acme: Client, id: str) -> None:
    acme.experiments.draft(id=id, body=design())
    with Client(served.address, served.keys["globex"]["admin"]) as other:
        assert id not in str(other.experiments.list_experiments())
        with pytest.raises(NotFound):
            other.experiments.get(id=id)


def test_a_reader_cannot_change_experiments(served: Any, acme: Client, id: str) -> None:
    acme.experiments.draft(id=id, body=design())
    with Client(served.address, served.keys["acme"]["reader"]) as reader:
        assert reader.experiments.get(id=id)["status"] == "draft"
        for change in (
            lambda: reader.experiments.start(id=id),
            lambda: reader.experiments.draft(id=id, body=design()),
        ):
            with pytest.raises(Exception, match="role"):
                change()


def test_the_list_is_paginated(acme: Client, id: str) -> None:
    for n in range(3):
        acme.experiments.draft(id=f"{id}-{n}", body=design())
    first = acme.experiments.list_experiments(limit=2)
    rest = acme.experiments.list_experiments(limit=1000, cursor=first["cursor"])
    assert (
        len(first["experiments"]) == 2
        and rest["cursor"] is None
        and rest["experiments"][-1]["id"] == f"{id}-2"
    )
    with pytest.raises(Invalid):
        acme.experiments.list_experiments(cursor="nobody")


def test_concurrent_starts_start_an_experiment_once(acme: Client, id: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    acme.experiments.draft(id=id, body=design())

    def start(_: int) -> str:
        try:
            return str(acme.experiments.start(id=id)["status"])
        except Conflict:
            return "refused"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(start, range(4))) == ["refused"] * 3 + ["running"]
