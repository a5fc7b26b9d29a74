"""Scenarios: planned beside the real records, compared, and adopted or thrown away."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shoal import Conflict, Forbidden, Invalid, NotFound

NOW = datetime.now(UTC)
HIRE = {"people": [{"id": "cy", "skills": {"Go": 4}}]}


def days(count: int) -> str:
    return (NOW + timedelta(days=count)).isoformat()


@pytest.fixture
def api(shoal_app: Callable[..., Any]) -> Any:
    """A tenant with more work than its two people can do in a week."""
    api = shoal_app("optimizer").client(f"acme-{secrets.token_hex(4)}").optimizer
    api.add_people(body=[{"id": id, "skills": {"Go": 3}} for id in ("ana", "bo")])
    rows = [{"id": f"t{n}", "estimated_hours": 30, "deadline": days(7)} for n in range(3)]
    api.add_tasks(body=[row | {"skills": ["Go"], "team_size": 1} for row in rows])
    return api


def left_out(plan: dict[str, Any]) -> int:
    return len(plan["left_out"])


def records(api: Any) -> Any:
    return api.list_people()["people"], api.list_tasks()["tasks"]


@pytest.mark.parametrize(
    ("scenario", "missing"),
    [
        (HIRE, 0),
        ({"tasks": [{"task": "t0", "deadline": days(28)}]}, 0),
        ({"tasks": [{"task": "t0", "estimated_hours": 1}]}, 0),
        ({"leave": [{"person": "ana", "from": days(-1)[:10], "to": days(9)[:10]}]}, 2),
        ({"remove": ["ana", "bo"]}, 3),
        ({"parameters": {"workload_limit": 1}}, 3),
    ],
)
def test_a_scenario_is_planned_and_changes_nothing(
    api: Any, scenario: dict[str, Any], missing: int
) -> None:
    before = records(api)
    assert left_out(api.plan()) == 1
    api.put_scenario(name="what-if", body=scenario)
    assert left_out(api.plan(scenario="what-if")) == missing
    assert left_out(api.plan()) == 1
    assert records(api) == before


def test_an_adopted_scenario_is_made_with_its_plan(api: Any) -> None:
    leave = {"person": "bo", "from": "2030-05-01", "to": "2030-05-02"}
    moved = {"task": "t1", "deadline": days(9), "priority": 5}
    api.put_scenario(name="new", body=HIRE | {"leave": [leave], "tasks": [moved]})
    real, plan = api.plan(), api.plan(scenario="new")
    score = api.score_plan(id=plan["id"], against=real["id"])
    change = {row["constraint"]: row["change"] for row in score["constraints"]}
    assert change["unassigned"] < 0
    assert sum(change.values()) == pytest.approx(plan["objective"] - real["objective"])
    answer = api.accept_plan(id=plan["id"])
    assert len(answer["accepted"]) == 3
    people, tasks = records(api)
    assert [row["id"] for row in people] == ["ana", "bo", "cy"]
    assert people[1]["leave"] == [{"from": leave["from"], "to": leave["to"]}]
    assert tasks[1]["priority"] == 5 and {row["state"] for row in tasks} == {"assigned"}
    assert all(row["broken"] == [] for row in tasks)
    assert set(api.accept_plan(id=plan["id"])["accepted"]) == set(answer["accepted"])
    assert records(api) == (people, tasks)


def test_a_plan_that_no_longer_fits_adopts_nothing(api: Any) -> None:
    api.put_scenario(name="new", body=HIRE)
    plan = api.plan(scenario="new")
    api.put_task(id="t0", body={"estimated_hours": 31, "deadline": days(7), "skills": ["Go"]})
    before = records(api)
    with pytest.raises(Conflict):
        api.accept_plan(id=plan["id"])
    assert records(api) == before


def test_scenarios_are_checked_listed_and_thrown_away(api: Any) -> None:
    backwards = {"person": "ana", "from": "2030-05-02", "to": "2030-05-01"}
    for wrong, location in (
        ({"parameters": {"workload_limit": 500}}, "parameters.workload_limit"),
        ({"people": [{"name": "without id"}]}, ""),
        ({"leave": [backwards]}, "leave.0"),
    ):
        with pytest.raises(Invalid) as refused:
            api.put_scenario(name="wrong", body=wrong)
        assert refused.value.errors[0]["location"].startswith(location)
    stranger = {"person": "x", "from": "2030-05-01", "to": "2030-05-02"}
    api.put_scenario(name="b", body={"leave": [stranger]})
    with pytest.raises(Invalid):
        api.plan(scenario="b")
    assert api.list_scenarios()["scenarios"] == ["b"]
    api.delete_scenario(name="b")
    with pytest.raises(NotFound):
        api.plan(scenario="b")


def test_a_user_does_not_plan_with_scenarios(shoal_app: Callable[..., Any]) -> None:
    app, tenant = shoal_app("optimizer"), f"acme-{secrets.token_hex(4)}"
    app.members("b", ["eve"], tenant)
    app.client(tenant).optimizer.put_scenario(name="hire", body=HIRE)
    with pytest.raises(Forbidden):
        app.client(tenant, user="eve").optimizer.plan(scenario="hire")
