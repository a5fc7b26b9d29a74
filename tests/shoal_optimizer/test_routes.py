"""The optimizer over HTTP, behind the real router and on a real Redis."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from shoal import Client, Conflict, Invalid, NotFound
from shoal.testing import wait_until

DEADLINE = (datetime.now(UTC) + timedelta(days=21)).isoformat()


@pytest.fixture
def client(shoal_app: Callable[..., Any]) -> Client:
    return shoal_app("optimizer").client(f"acme-{secrets.token_hex(4)}")


def person(**fields: Any) -> dict[str, Any]:
    return {
        "skills": {"Python": 4},
        "workload": 20,
        "capacity_hours": 40,
        "time_zone": "Europe/Lisbon",
        "cost_per_hour": 50,
    } | fields


def task(**fields: Any) -> dict[str, Any]:
    return {
        "title": "Sign-in",
        "estimated_hours": 20,
        "deadline": DEADLINE,
        "skills": [{"skill": "Python", "level": 3}],
    } | fields


@pytest.fixture
def staffed(client: Client) -> Client:
    client.optimizer.put_person(id="ana", body=person(name="Ana"))
    client.optimizer.put_person(id="bo", body=person(name="Bo", workload=40))
    client.optimizer.put_person(id="cy", body=person(name="Cy", skills={"Rust": 5}))
    client.optimizer.put_task(id="t", body=task())
    return client


def test_people_and_tasks_can_be_put_read_listed_deleted(staffed: Client) -> None:
    assert staffed.optimizer.get_person(id="ana")["name"] == "Ana"
    assert [p["id"] for p in staffed.optimizer.list_people(limit=2)["people"]] == ["ana", "bo"]
    page = staffed.optimizer.list_people(limit=2)
    rest = staffed.optimizer.list_people(cursor=page["cursor"])
    assert [p["id"] for p in page["people"] + rest["people"]] == ["ana", "bo", "cy"]
    assert rest["cursor"] is None
    staffed.optimizer.delete_person(id="cy")
    with pytest.raises(NotFound):
        staffed.optimizer.get_person(id="cy")
    assert staffed.optimizer.get_task(id="t")["state"] == "open"


def test_records_are_answered_with_the_names_of_requests(client: Client) -> None:
    leave = [{"from": "2026-05-01", "to": "2026-05-02"}]
    sent = client.optimizer.put_person(id="ana", body=person(leave=leave))
    assert sent["leave"] == leave
    assert client.optimizer.put_person(id="ana", body=sent) == sent
    made = client.optimizer.put_task(id="t", body=task(team_size={"min": 1, "max": 3}))
    assert made["team_size"] == {"min": 1, "max": 3}
    assert client.optimizer.put_task(id="t", body=made) == made


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"workload": 101}, "workload"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"capacity_hours": -1}, "capacity_hours"),
        ({"skills": {"Python": 9}}, "skills.Python"),
        ({"id": "somebody-else"}, "id"),
        ({"leave": [{"from": "2026-05-02", "to": "2026-05-01"}]}, "leave.0"),
    ],
)
def test_an_invalid_person_is_rejected_with_its_location(
    client: Client, fields: dict[str, Any], location: str
) -> None:
    with pytest.raises(Invalid) as refused:
        client.optimizer.put_person(id="ana", body=person(**fields))
    assert refused.value.errors[0]["location"].startswith(location)


@pytest.mark.parametrize(
    "fields",
    [
        {"estimated_hours": -3},
        {"deadline": "soon"},
        {"team_size": {"min": 3, "max": 2}},
        {"skills": ["a", "A"]},
    ],
)
def test_an_invalid_task_is_rejected(client: Client, fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        client.optimizer.put_task(id="t", body=task(**fields))


def test_candidates_show_the_parts_of_their_score(staffed: Client) -> None:
    rows = staffed.optimizer.candidates(id="t")["candidates"]
    assert [row["person"] for row in rows] == ["ana", "bo", "cy"]
    first = rows[0]
    expected = (
        0.5 * first["skill_match"] + 0.3 * first["availability"] + 0.2 * first["past_success"]
    )
    assert first["score"] == pytest.approx(expected, abs=1e-5)
    assert first["skills"][0]["how"] == "exact"


def test_a_recommendation_is_proved_and_explained(staffed: Client) -> None:
    answer = staffed.optimizer.recommend(id="t")
    assert (answer["status"], answer["team"], answer["gap"]) == ("optimal", ["ana"], 0.0)
    assert answer["members"][0]["role"] == "lead" and answer["sentences"]


def load_of(client: Client, person: str, **window: Any) -> float:
    """Their load in the window of a new task, in percent."""
    client.optimizer.put_task(id="probe", body=task(**window))
    rows = client.optimizer.candidates(id="probe")["candidates"]
    client.optimizer.delete_task(id="probe")
    return float(next(row["workload"] for row in rows if row["person"] == person))


def days(count: float) -> str:
    return (datetime.now(UTC) + timedelta(days=count)).isoformat()


def test_accepting_commits_hours_only_once(staffed: Client) -> None:
    answer = staffed.optimizer.recommend(id="t")
    accepted = staffed.optimizer.accept(id=answer["id"])
    after = load_of(staffed, "ana")
    assert accepted["state"] == "accepted" and accepted["committed"] == {"ana": 20}
    assert after > 20 and load_of(staffed, "bo") == 40
    assert staffed.optimizer.accept(id=answer["id"])["decided"] == accepted["decided"]
    assert load_of(staffed, "ana") == after
    assert staffed.optimizer.get_task(id="t")["team"] == ["ana"]
    assert staffed.optimizer.get_person(id="ana")["workload"] == 20


def test_tasks_of_different_weeks_go_to_one_person(client: Client) -> None:
    """Candidates, recommendation, plan, acceptance and violations agree on that."""
    api = client.optimizer
    api.put_person(id="ana", body=person(workload=0))
    for n in (1, 2):
        window = {"start": days(7 * n), "deadline": days(7 * n + 7)}
        api.put_task(id=f"t{n}", body=task(estimated_hours=30, team_size=1, **window))
    assert len(api.plan(body={"time_limit": 5})["assignments"]) == 2
    api.accept(id=api.recommend(id="t1")["id"])
    assert api.candidates(id="t2")["candidates"][0]["workload"] == 0
    assert api.check_team(id="t2", body={"people": ["ana"]})["violations"] == []
    [planned] = api.plan(body={"time_limit": 5})["assignments"]
    assert planned["task"] == "t2" and planned["team"] == ["ana"]
    api.accept(id=api.recommend(id="t2")["id"])
    api.put_task(id="t3", body=task(estimated_hours=30, team_size=1, **window))
    [row] = api.candidates(id="t3")["candidates"]
    assert row["workload"] == pytest.approx(75, abs=0.1) and row["availability"] < 0.26
    assert api.recommend(id="t3")["status"] == "infeasible"
    [broken] = api.check_team(id="t3", body={"people": ["ana"]})["violations"]
    assert broken["rule"] == "workload"
    assert api.plan(body={"time_limit": 5})["left_out"][0]["task"] == "t3"


def test_two_recommendations_for_the_same_hours_are_not_both_accepted(client: Client) -> None:
    api = client.optimizer
    api.put_person(id="ana", body=person(workload=0))
    for id in ("a", "b"):
        api.put_task(id=id, body=task(estimated_hours=60, team_size=1))
    first, second = api.recommend(id="a"), api.recommend(id="b")
    api.accept(id=first["id"])
    with pytest.raises(Conflict) as refused:
        api.accept(id=second["id"])
    assert refused.value.errors[0]["rule"] == "workload"


def test_a_person_written_again_keeps_their_commitments(staffed: Client) -> None:
    staffed.optimizer.accept(id=staffed.optimizer.recommend(id="t")["id"])
    before = load_of(staffed, "ana")
    staffed.optimizer.put_person(id="ana", body=person(name="Ana B."))
    assert load_of(staffed, "ana") == before


def test_a_task_that_grows_commits_more_hours(staffed: Client) -> None:
    staffed.optimizer.accept(id=staffed.optimizer.recommend(id="t")["id"])
    before = load_of(staffed, "ana") - 20
    staffed.optimizer.put_task(id="t", body=task(estimated_hours=40))
    assert load_of(staffed, "ana") - 20 == pytest.approx(2 * before, abs=0.1)


def test_accepting_conflicts_when_a_member_has_changed(staffed: Client) -> None:
    answer = staffed.optimizer.recommend(id="t")
    staffed.optimizer.put_person(id="ana", body=person(name="Ana", workload=21))
    with pytest.raises(Conflict) as refused:
        staffed.optimizer.accept(id=answer["id"])
    assert refused.value.errors[0]["location"] == "team.ana"
    assert staffed.optimizer.get_task(id="t")["state"] == "open"


def test_alternatives_never_repeat_and_come_to_an_end(staffed: Client) -> None:
    staffed.optimizer.put_task(id="t", body=task(team_size={"min": 1, "max": 2}))
    answer = staffed.optimizer.recommend(id="t")
    seen = [frozenset(answer["team"])]
    while (answer := staffed.optimizer.alternative(id=answer["id"]))["team"]:
        seen.append(frozenset(answer["team"]))
    assert answer["status"] == "none" and len(seen) == len(set(seen)) == 5  # a, b, ab, ac, bc


def test_a_manual_assignment_is_checked_unless_overridden(staffed: Client) -> None:
    answer = staffed.optimizer.recommend(id="t")
    with pytest.raises(Invalid) as refused:
        staffed.optimizer.assign(id=answer["id"], body={"people": ["cy"]})
    assert refused.value.errors[0]["rule"] == "skill" and refused.value.errors[0]["amount"] == 1
    done = staffed.optimizer.assign(
        id=answer["id"], body={"people": ["cy"], "override": True, "reason": "she learns"}
    )
    assert done["state"] == "assigned" and done["violations"] and done["override"]


def test_an_assigned_team_is_the_one_described(client: Client) -> None:
    api = client.optimizer
    for id, rate in (("la", 10), ("lb", 20), ("lc", 90)):
        api.put_person(id=id, body=person(name=id.title(), cost_per_hour=rate, workload=0))
    api.put_task(id="t", body=task(team_size=1, estimated_hours=8))
    answer = api.recommend(id="t")
    assert answer["team"] == ["la"]
    done = api.assign(id=answer["id"], body={"people": ["lc", "lb"], "override": True})
    assert set(done["team"]) == {"lb", "lc"} and done["lead"] == done["team"][0]
    assert [(row["person"], row["hours"]) for row in done["members"]] == [
        (id, 4) for id in done["team"]
    ]
    assert done["criteria"]["cost"]["value"] == 4 * (20 + 90)
    assert done["bound"] is None and "trade_offs" not in done
    assert done == api.get_recommendation(id=done["id"])
    again = api.assign(id=answer["id"], body={"people": ["lb", "lc"], "override": True})
    assert again["decided"] == done["decided"]


def test_somebody_without_time_can_be_assigned_all_the_same(staffed: Client) -> None:
    api = staffed.optimizer
    api.put_person(id="bo", body=person(leave=week_of_leave()))
    answer = api.recommend(id="t")
    done = api.assign(id=answer["id"], body={"people": ["bo"], "override": True})
    assert done["members"][0]["workload_after"] is None
    assert "has no working time before the deadline" in done["members"][0]["reasons"]


def test_wishes_for_a_team_are_kept_by_alternatives(staffed: Client) -> None:
    api = staffed.optimizer
    api.put_person(id="di", body=person(workload=60))
    api.put_task(id="t", body=task(team_size={"min": 1, "max": 2}))
    assert api.recommend(id="t", exclude=["ana"])["team"] == ["bo"]
    pair = api.recommend(id="t", include=["cy"])
    assert set(pair["team"]) == {"ana", "cy"} and pair["include"] == ["cy"]
    other = api.alternative(id=pair["id"], replace=["ana"])
    assert set(other["team"]) == {"bo", "cy"} and other["exclude"] == ["ana"]
    for field, wishes in (
        ("include", {"include": ["nobody"]}),
        ("include", {"include": ["bo"], "exclude": ["bo"]}),
        ("replace", {"replace": ["di"]}),
    ):
        with pytest.raises(Invalid) as refused:
            api.alternative(id=pair["id"], **wishes)
        assert refused.value.errors[0]["location"] == field
    none = api.recommend(id="t", exclude=["ana", "bo", "di"])
    assert none["status"] == "infeasible" and "a team without" in none["conflict"]["message"]
    assert "allow Ana" in [way["message"] for way in none["relaxations"]]


def test_people_of_a_team_that_do_not_exist_are_named(staffed: Client) -> None:
    with pytest.raises(Invalid) as refused:
        staffed.optimizer.check_team(id="t", body={"people": ["nobody", "cy", "none"]})
    assert refused.value.errors == [
        {"location": "people.0", "message": "no person 'nobody'"},
        {"location": "people.2", "message": "no person 'none'"},
    ]


def test_a_priority_of_another_name_lists_the_names(staffed: Client) -> None:
    with pytest.raises(Invalid) as refused:
        staffed.optimizer.put_task(id="t2", body=task(priority="urgent"))
    assert refused.value.errors[0]["location"] == "priority"
    assert "lowest, low, medium, high, critical" in refused.value.errors[0]["message"]


def test_an_outcome_frees_workload_and_counts_as_experience(staffed: Client) -> None:
    answer = staffed.optimizer.recommend(id="t")
    staffed.optimizer.accept(id=answer["id"])
    outcome = {
        "task": "t",
        "people": ["ana"],
        "estimated_hours": 20,
        "actual_hours": 20,
        "days_early": 2,
    }
    staffed.optimizer.add_outcomes(body=outcome | {"finished_at": datetime.now(UTC).isoformat()})
    assert load_of(staffed, "ana") == 20
    staffed.optimizer.put_task(id="u", body=task())
    again = staffed.optimizer.recommend(id="u")
    assert "completed 1 similar task, 2 days early on average" in again["members"][0]["reasons"]


def test_an_impossible_task_has_a_conflict_and_relaxations(staffed: Client) -> None:
    staffed.optimizer.put_task(id="t", body=task(skills=[{"skill": "Cobol"}]))
    answer = staffed.optimizer.recommend(id="t")
    assert answer["status"] == "infeasible" and answer["conflict"]["message"] == "nobody has Cobol"
    assert answer["relaxations"][0]["message"] == "do without Cobol"


def test_a_plan_assigns_tasks_and_explains_unassigned_ones(staffed: Client) -> None:
    staffed.optimizer.put_task(id="u", body=task(skills=[{"skill": "Rust"}]))
    staffed.optimizer.put_task(id="v", body=task(skills=[{"skill": "Cobol"}]))
    plan = staffed.optimizer.plan(body={"time_limit": 5})
    assert plan["status"] == "optimal"
    assert {row["task"]: row["team"] for row in plan["assignments"]} == {"t": ["ana"], "u": ["cy"]}
    assert [(row["task"], row["why"]) for row in plan["left_out"]] == [("v", "nobody has Cobol")]


def test_pins_are_satisfied_and_contradicting_ones_named(staffed: Client) -> None:
    plan = staffed.optimizer.plan(body={"pins": [{"task": "t", "person": "bo"}]})
    assert plan["assignments"][0]["team"] == ["bo"]
    refused = staffed.optimizer.plan(
        body={"pins": [{"task": "t", "person": "cy"}], "one_each": True}
    )
    assert refused["status"] == "infeasible" and refused["contradiction"] == [
        {"task": "t", "person": "cy"}
    ]
    with pytest.raises(Invalid):
        staffed.optimizer.plan(
            body={
                "pins": [{"task": "t", "person": "bo"}, {"task": "t", "person": "bo", "pin": "out"}]
            }
        )


def test_a_plan_can_be_polled_and_cancelled(staffed: Client) -> None:
    started = staffed.optimizer.plan(body={"wait": False})
    assert started["state"] == "running"
    assert staffed.optimizer.cancel_plan(id=started["id"])["state"] in (
        "cancelling",
        "done",
        "cancelled",
    )
    assert staffed.optimizer.get_plan(id=started["id"])["id"] == started["id"]


def test_csv_rows_are_accepted_or_rejected_one_by_one(shoal_app: Callable[..., Any]) -> None:
    app, tenant = shoal_app("optimizer"), f"acme-{secrets.token_hex(4)}"
    text = "id,skills,workload,time_zone\nana,Python:4; Rust:2,10,Europe/Lisbon\nbo,Go,abc,UTC\n"
    headers = {"authorization": f"Bearer {app.key(tenant)}", "content-type": "text/csv"}
    answer = httpx.post(f"{app.address}/optimizer/people", content=text, headers=headers).json()
    assert (
        answer["accepted"] == 1
        and answer["rejected"][0]["index"] == 1
        and "workload" in answer["rejected"][0]["error"]
    )
    assert app.client(tenant).optimizer.get_person(id="ana")["skills"] == {"Python": 4, "Rust": 2}


def test_a_tenant_without_people_gets_empty_answers(client: Client) -> None:
    client.optimizer.put_task(id="t", body=task())
    assert client.optimizer.candidates(id="t")["candidates"] == []
    assert client.optimizer.recommend(id="t")["conflict"]["message"] == "there are no people"
    assert client.optimizer.plan()["left_out"][0]["task"] == "t"


def test_another_tenant_sees_no_records(shoal_app: Callable[..., Any]) -> None:
    app = shoal_app("optimizer")
    app.client("acme").optimizer.put_task(id="t", body=task())
    with pytest.raises(NotFound):
        app.client("globex").optimizer.recommend(id="t")


def outcome(**fields: Any) -> dict[str, Any]:
    return {
        "people": ["ana"],
        "estimated_hours": 20,
        "actual_hours": 20,
        "finished_at": datetime.now(UTC).isoformat(),
    } | fields


def test_a_task_on_a_hidden_board_cannot_be_changed(
    shoal_app: Callable[..., Any],
) -> None:
    app, tenant = shoal_app("optimizer"), f"acme-{secrets.token_hex(4)}"
    app.members("secret", ["boss"], tenant)
    app.members("open", ["eve"], tenant)
    owner, eve = app.client(tenant), app.client(tenant, user="eve")
    owner.optimizer.put_task(id="s", body=task(board_id="secret"))
    owner.optimizer.add_outcomes(body=outcome(id="o", task="s2"))
    owner.optimizer.put_task(id="s2", body=task(board_id="secret"))
    answer = eve.optimizer.add_tasks(
        body=[
            task(id="s", title="mine", board_id="open"),
            task(id="new", board_id="open"),
            task(id="other", board_id="secret"),
            task(id="nobodys"),
        ]
    )
    assert answer["accepted"] == 1 and [row["index"] for row in answer["rejected"]] == [0, 2, 3]
    assert len({row["error"] for row in answer["rejected"]}) == 1
    for body in (
        outcome(task="s"),
        outcome(id="o", task="new"),
        outcome(),
        outcome(task="unknown"),
    ):
        with pytest.raises(NotFound):
            eve.optimizer.add_outcomes(body=body)
    answer = eve.optimizer.add_outcomes(body=[outcome(task="s"), outcome(task="new")])
    assert answer["accepted"] == 1 and answer["rejected"][0]["error"] == "task: 's' not found"
    for refused in (
        lambda: eve.optimizer.put_task(id="s", body=task(board_id="open")),
        lambda: eve.optimizer.put_task(id="nobodys", body=task()),
        lambda: eve.optimizer.delete_task(id="s"),
    ):
        with pytest.raises(NotFound):
            refused()
    kept = owner.optimizer.get_task(id="s")
    assert (kept["title"], kept["state"], kept["board_id"]) == ("Sign-in", "open", "secret")
    assert owner.optimizer.get_task(id="new")["state"] == "done"


def test_a_plan_hides_tasks_of_boards_unseen(shoal_app: Callable[..., Any]) -> None:
    app, tenant = shoal_app("optimizer"), f"acme-{secrets.token_hex(4)}"
    app.members("open", ["eve"], tenant)
    owner, eve = app.client(tenant), app.client(tenant, user="eve")
    owner.optimizer.put_person(id="ana", body=person())
    tasks = {
        f"{name}-{n}": task(title=f"{name} {n}", board_id="open", estimated_hours=40, team_size=1)
        for name in ("kept", "moved")
        for n in range(4)
    }
    for id, body in tasks.items():
        owner.optimizer.put_task(id=id, body=body)
    plan = eve.optimizer.plan(body={"time_limit": 2})
    assert "moved" in str(eve.optimizer.get_plan(id=plan["id"])["result"])
    for id, body in tasks.items():
        if id.startswith("moved"):
            owner.optimizer.put_task(id=id, body=body | {"board_id": "secret"})
    shown = eve.optimizer.get_plan(id=plan["id"])["result"]
    assert "moved" not in str(shown) and "kept" in str(shown)
    assert "moved" in str(owner.optimizer.get_plan(id=plan["id"])["result"])


def assigned(shoal_app: Callable[..., Any]) -> tuple[Any, str, Any]:
    """The app, a tenant whose one person is assigned to a task, and its operations."""
    app, tenant = shoal_app("optimizer"), f"acme-{secrets.token_hex(4)}"
    api = app.client(tenant).optimizer
    api.put_person(id="ana", body=person())
    api.put_task(id="t", body=task())
    api.accept(id=api.recommend(id="t")["id"])
    return app, tenant, api


@pytest.mark.parametrize("how", ["put", "import", "event"])
def test_a_replaced_task_keeps_its_team_until_done(shoal_app: Callable[..., Any], how: str) -> None:
    app, tenant, api = assigned(shoal_app)
    if how == "put":
        api.put_task(id="t", body=task(title="Sign-on"))
    elif how == "import":
        api.add_tasks(body=[task(id="t", title="Sign-on")])
    else:
        app.stream(
            "optimizer.records",
            [
                {
                    "id": "1",
                    "source": "board",
                    "type": "task.updated",
                    "subject": "t",
                    "data": task(title="Sign-on"),
                }
            ],
            tenant,
        )
    held = api.get_task(id="t")
    assert (held["title"], held["state"], held["team"]) == ("Sign-on", "assigned", ["ana"])
    assert held["assigned_at"]
    assert load_of(app.client(tenant), "ana") > 20
    api.add_outcomes(body=outcome(task="t"))
    assert load_of(app.client(tenant), "ana") == 20


@pytest.mark.parametrize("how", ["delete", "event", "open"])
def test_a_deleted_or_reopened_task_frees_its_workload(
    shoal_app: Callable[..., Any], how: str
) -> None:
    app, tenant, api = assigned(shoal_app)
    if how == "delete":
        api.delete_task(id="t")
    elif how == "event":
        app.stream(
            "optimizer.records",
            [{"id": "1", "source": "board", "type": "task.deleted", "subject": "t", "data": {}}],
            tenant,
        )
    else:
        assert api.put_task(id="t", body=task(state="open"))["team"] == []
    assert load_of(app.client(tenant), "ana") == 20


def test_accepting_conflicts_when_the_requirements_have_changed(staffed: Client) -> None:
    answer = staffed.optimizer.recommend(id="t")
    staffed.optimizer.put_task(id="t", body=task(skills=[{"skill": "Rust", "level": 5}]))
    with pytest.raises(Conflict) as refused:
        staffed.optimizer.accept(id=answer["id"])
    assert refused.value.errors[0]["location"] == "task"
    staffed.optimizer.put_task(id="t", body=task(title="Another title"))
    assert staffed.optimizer.accept(id=answer["id"])["state"] == "accepted"


@pytest.mark.parametrize("cursor", ["²", "-1", "9" * 5000])
def test_an_invalid_cursor_is_rejected(staffed: Client, cursor: str) -> None:
    with pytest.raises(Invalid):
        staffed.optimizer.candidates(id="t", cursor=cursor)


def week_of_leave() -> list[dict[str, str]]:
    return [{"from": days(-1)[:10], "to": days(30)[:10]}]


def broken_by_leave(api: Any) -> None:
    api.put_person(id="ana", body=person(leave=week_of_leave()))


def broken_by_deletion(api: Any) -> None:
    api.delete_person(id="ana")


def broken_by_import(api: Any) -> None:
    api.add_people(body=[{"id": "ana", **person(skills={})}])


def broken_by_growth(api: Any) -> None:
    api.put_task(id="t", body=task(estimated_hours=400))


def broken_by_deadline(api: Any) -> None:
    api.put_task(id="t", body=task(deadline=days(0.5)))


def broken_by_override(api: Any) -> None:
    api.put_task(id="u", body=task(estimated_hours=90))
    override = {"people": ["ana"], "override": True, "reason": "urgent"}
    api.assign(id=api.recommend(id="u")["id"], body=override)


@pytest.mark.parametrize(
    "change",
    [
        broken_by_leave,
        broken_by_deletion,
        broken_by_import,
        broken_by_growth,
        broken_by_deadline,
        broken_by_override,
    ],
)
def test_a_later_change_marks_the_assignment_it_breaks(
    shoal_app: Callable[..., Any], change: Callable[[Any], None]
) -> None:
    app, tenant, api = assigned(shoal_app)
    assert api.get_task(id="t")["broken"] == []
    change(api)
    assert api.get_task(id="t")["broken"]
    if change is broken_by_override:
        assert api.get_task(id="u")["broken"] == []  # the override waived it
        api.delete_task(id="u")
    elif change in (broken_by_growth, broken_by_deadline):
        api.put_task(id="t", body=task())
    else:
        api.put_person(id="ana", body=person())
    assert api.get_task(id="t")["broken"] == []
    log = app.context(tenant, "optimizer").stores.events

    async def types_of_events() -> list[str]:
        return [event.type async for _, event in log.read() if event.subject == "t"]

    types = app.run(types_of_events())
    assert types[-2:] == ["optimizer.broken", "optimizer.mended"]


def test_a_repair_changes_as_few_people_as_possible(shoal_app: Callable[..., Any]) -> None:
    app, tenant = shoal_app("optimizer"), f"acme-{secrets.token_hex(4)}"
    api = app.client(tenant).optimizer
    for id, rate in (("ana", 10), ("bo", 10), ("cy", 60), ("di", 70)):
        api.put_person(id=id, body=person(cost_per_hour=rate, workload=0))
    api.put_task(id="t", body=task(team_size=2, estimated_hours=30))
    with_ana = api.recommend(id="t")
    assert set(with_ana["team"]) == {"ana", "bo"}
    api.accept(id=with_ana["id"])
    with pytest.raises(Conflict):
        api.recommend(id="t")
    api.put_person(id="bo", body=person(cost_per_hour=10, leave=week_of_leave()))
    repair = api.recommend(id="t")
    assert repair["objective"] < 1 and repair["gap"] == pytest.approx(0, abs=1e-6)
    assert repair["repairs"] == {"team": with_ana["team"], "leave": ["bo"], "join": ["cy"]}
    api.accept(id=repair["id"])
    mended = api.get_task(id="t")
    assert set(mended["team"]) == {"ana", "cy"} and mended["broken"] == []


def test_a_past_deadline_cannot_be_accepted(client: Client) -> None:
    client.optimizer.put_person(id="ana", body=person())
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    client.optimizer.put_task(id="t", body=task(estimated_hours=0.0001, deadline=soon))
    answer = client.optimizer.recommend(id="t")
    wait_until(lambda: datetime.now(UTC).isoformat() > soon)
    with pytest.raises(Conflict):
        client.optimizer.accept(id=answer["id"])
