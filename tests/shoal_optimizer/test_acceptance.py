"""Accepted plans, and the lists of plans, recommendations and outcomes."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal import Client, Conflict, Invalid, NotFound

NOW = datetime.now(UTC)


@pytest.fixture
def client(shoal_app: Callable[..., Any]) -> Client:
    return shoal_app("optimizer").client(f"acme-{secrets.token_hex(4)}")


def task(**fields: Any) -> dict[str, Any]:
    deadline = (NOW + timedelta(days=21)).isoformat()
    return {"estimated_hours": 20, "deadline": deadline, "team_size": 1} | fields


def outcome(**fields: Any) -> dict[str, Any]:
    hours = {"estimated_hours": 20, "actual_hours": 20}
    return {"people": ["ana"], **hours, "finished_at": NOW.isoformat()} | fields


@pytest.fixture
def planned(client: Client) -> tuple[Any, dict[str, Any]]:
    """A tenant whose two tasks are planned for its two people."""
    api = client.optimizer
    api.add_people(body=[{"id": "ana", "skills": {"Go": 4}}, {"id": "bo", "skills": {"C": 4}}])
    api.add_tasks(body=[task(id="g", skills=["Go"]), task(id="c", skills=["C"], priority=5)])
    plan = api.plan()
    assert {row["task"]: row["team"] for row in plan["assignments"]} == {"g": ["ana"], "c": ["bo"]}
    return api, plan


def states(api: Any) -> dict[str, str]:
    return {row["id"]: row["state"] for row in api.list_tasks()["tasks"]}


def test_a_plan_is_accepted_in_one_step(planned: tuple[Any, dict[str, Any]]) -> None:
    api, plan = planned
    first = api.accept_plan(id=plan["id"])
    assert first == {"plan": plan["id"], "accepted": ["c", "g"], "refused": []}
    before = api.list_tasks()
    assert [(row["id"], row["team"], row["state"]) for row in before["tasks"]] == [
        ("c", ["bo"], "assigned"),
        ("g", ["ana"], "assigned"),
    ]
    assert api.accept_plan(id=plan["id"]) == first
    assert api.list_tasks() == before


def deleted_person(api: Any) -> str:
    api.delete_person(id="ana")
    return "deleted"


def grown_task(api: Any) -> str:
    api.put_task(id="g", body=task(skills=["Go"], estimated_hours=21))
    return "changed"


def lost_skill(api: Any) -> str:
    api.put_person(id="ana", body={"skills": {"Rust": 4}})
    return "Go"


def work_elsewhere(api: Any) -> str:
    api.put_person(id="ana", body={"skills": {"Go": 4}, "workload": 79})
    return "limit"


def finished_task(api: Any) -> str:
    api.add_outcomes(body=outcome(task="g"))
    return "done"


def assigned_otherwise(api: Any) -> str:
    override = {"people": ["bo"], "override": True}
    api.assign(id=api.recommend(id="g")["id"], body=override)
    return "assigned"


def deleted_task(api: Any) -> str:
    api.delete_task(id="g")
    return "deleted"


@pytest.mark.parametrize(
    "change",
    [
        deleted_person,
        grown_task,
        lost_skill,
        work_elsewhere,
        finished_task,
        assigned_otherwise,
        deleted_task,
    ],
)
def test_what_no_longer_fits_refuses_the_whole_plan(
    planned: tuple[Any, dict[str, Any]], change: Callable[[Any], str]
) -> None:
    api, plan = planned
    why = change(api)
    before = states(api)
    with pytest.raises(Conflict) as refused:
        api.accept_plan(id=plan["id"])
    [error] = refused.value.errors
    assert error["location"] == "g" and why in error["message"]
    assert states(api) == before
    answer = api.accept_plan(id=plan["id"], partial=True)
    assert answer["accepted"] == ["c"] and [row["task"] for row in answer["refused"]] == ["g"]
    assert states(api) == before | {"c": "assigned"}


def test_some_tasks_of_a_plan_can_be_accepted(planned: tuple[Any, dict[str, Any]]) -> None:
    api, plan = planned
    with pytest.raises(Invalid):
        api.accept_plan(id=plan["id"], tasks=["g", "other"])
    assert api.accept_plan(id=plan["id"], tasks=["g"])["accepted"] == ["g"]
    assert states(api) == {"c": "open", "g": "assigned"}


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 12), st.integers(1, 12), st.integers(1, 2)),
        min_size=1,
        max_size=8,
    )
)
def test_accepted_plans_break_no_rule(shoal_app: Callable[..., Any], rows: list[Any]) -> None:
    """Also where the plan uses up everybody's hours, and some were committed before."""
    api = shoal_app("optimizer").client(f"acme-{secrets.token_hex(4)}").optimizer
    api.add_people(body=[{"id": "ana"}, {"id": "bo", "workload": 30}, {"id": "cy"}])

    def body(n: int, row: tuple[int, int, int, int]) -> dict[str, Any]:
        hours, start, length, size = row
        window = {
            "start": (NOW + timedelta(days=start)).isoformat(),
            "deadline": (NOW + timedelta(days=start + length)).isoformat(),
        }
        return (
            task(id=f"t{n:02}", estimated_hours=hours, team_size={"min": 1, "max": size}) | window
        )

    half = len(rows) // 2
    made = [body(n, row) for n, row in enumerate(rows)]
    for part in (made[:half], made[half:]):
        if part:
            api.add_tasks(body=part)
        plan = api.plan(body={"time_limit": 1})
        answer = api.accept_plan(id=plan["id"])
        assert set(answer["accepted"]) == {row["task"] for row in plan["assignments"]}
    broken = {row["id"]: row["broken"] for row in api.list_tasks()["tasks"] if row["broken"]}
    assert broken == {}


def test_plans_and_recommendations_are_listed_latest_first(client: Client) -> None:
    api = client.optimizer
    api.put_person(id="ana", body={})
    for id in ("a", "b"):
        api.put_task(id=id, body=task())
    plans = [api.plan()["id"] for _ in range(3)]
    made = [api.recommend(id=id)["id"] for id in ("a", "b", "a")]

    def pages(operation: Any, kind: str, **query: Any) -> list[str]:
        found, cursor = [], None
        while True:
            page = operation(limit=2, cursor=cursor, **query)
            found += [row["id"] for row in page[kind]]
            if (cursor := page["cursor"]) is None:
                return found

    assert set(pages(api.list_plans, "plans")) == set(plans)
    assert pages(api.list_plans, "plans") == sorted(plans, reverse=True)
    listed = pages(api.list_recommendations, "recommendations")
    assert listed == sorted(made, reverse=True)
    of_a = pages(api.list_recommendations, "recommendations", task="a")
    assert of_a == [id for id in listed if id != made[1]]


def test_outcomes_are_listed_corrected_and_deleted(shoal_app: Callable[..., Any]) -> None:
    app, tenant = shoal_app("optimizer"), f"acme-{secrets.token_hex(4)}"
    app.members("open", ["eve"], tenant)
    api, eve = app.client(tenant).optimizer, app.client(tenant, user="eve").optimizer
    api.put_person(id="ana", body={})
    api.put_task(id="t", body=task(board_id="open"))
    api.put_task(id="u", body=task())
    api.add_outcomes(
        body=[
            outcome(id="a", task="t", quality=0.2),
            outcome(id="b", people=["bo"]),
            outcome(id="c", task="at"),
        ]
    )
    assert [row["id"] for row in api.list_outcomes()["outcomes"]] == ["a", "b", "c"]
    assert [row["id"] for row in api.list_outcomes(task="t")["outcomes"]] == ["a"]
    assert [row["id"] for row in api.list_outcomes(person="ana")["outcomes"]] == ["a", "c"]
    assert [row["id"] for row in eve.list_outcomes()["outcomes"]] == ["a"]
    with pytest.raises(NotFound):
        eve.get_outcome(id="b")
    with pytest.raises(NotFound):
        eve.delete_outcome(id="b")
    scores = [api.candidates(id="u")["candidates"][0]["past_success"]]
    eve.put_outcome(id="a", body=outcome(task="t", quality=1))
    assert api.get_outcome(id="a")["quality"] == 1
    scores.append(api.candidates(id="u")["candidates"][0]["past_success"])
    for id in ("a", "b", "c"):
        api.delete_outcome(id=id)
    scores.append(api.candidates(id="u")["candidates"][0]["past_success"])
    assert scores[0] < scores[1] and scores[2] == 0.5
    with pytest.raises(NotFound):
        api.delete_outcome(id="a")
