"""What a solve reads: records, and features and embeddings where they are available."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from fastapi import APIRouter, Body, Depends

from shoal import Capability, Malformed, NotFound, RowError, requires
from shoal_optimizer.inputs import STEP, rounded_now
from shoal_optimizer.intake import read_records
from shoal_optimizer.records import Task
from shoal_optimizer.store import KINDS, RecordStore

DEADLINE = (datetime.now(UTC) + timedelta(days=21)).isoformat()


MODEL = ["first"]
"""The letter by which the model of `stand_in_search` compares words."""


def stand_in_search(services: Any) -> APIRouter:
    """`search` as the optimizer uses it: a shared letter is a shared meaning."""
    router = APIRouter()

    @router.post(
        "/embed",
        openapi_extra={"x-shoal-safe": True},
        dependencies=[Depends(requires("read:own"))],
    )
    async def embed(texts: list[str] = Body(embed=True)) -> dict[str, Any]:
        letter = {"first": 0, "last": -1}[MODEL[0]]
        return {
            "model": MODEL[0],
            "vectors": [
                [1.0 if text[letter] == other else 0.0 for other in "abcdefghijklmnopqrstuvwxyz"]
                for text in texts
            ],
        }

    return router


def stand_in_features(services: Any) -> APIRouter:
    """`features` with one feature of one person."""
    router = APIRouter()

    @router.post(
        "/batch",
        openapi_extra={"x-shoal-safe": True},
        dependencies=[Depends(requires("read:tenant"))],
    )
    async def batch(body: dict[str, Any]) -> dict[str, Any]:
        [name] = body["features"]
        if name != "past_success_report":
            raise NotFound("no such feature")
        return {
            "results": [{"features": {name: 0.9 if id == "ana" else None}} for id in body["ids"]]
        }

    return router


def test_skills_match_by_meaning_and_success_comes_from_features(
    shoal_app: Callable[..., Any],
) -> None:
    others = [
        Capability("search", "", routes=stand_in_search),
        Capability("features", "", routes=stand_in_features),
    ]
    app, tenant = shoal_app("optimizer", capabilities=others), f"acme-{secrets.token_hex(4)}"
    client, member = app.client(tenant), app.client(tenant, "editor", "ana")
    app.members("b", ["ana"], tenant)
    client.optimizer.put_person(id="ana", body={"skills": {"Quantitative finance": 3}})
    client.optimizer.put_person(id="bo", body={"skills": {"Botany": 3}})
    task = {"estimated_hours": 5, "deadline": DEADLINE, "skills": ["Quants"], "type": "report"}
    client.optimizer.put_task(id="t", body={**task, "board_id": "b"})
    # a user may not read others' features: the optimizer reads them as the service
    ana, bo = member.optimizer.candidates(id="t")["candidates"]
    assert (ana["past_success"], bo["past_success"]) == (0.9, 0.5)
    assert (
        ana["skills"][0]["how"] == "meaning" and ana["skills"][0]["found"] == "Quantitative finance"
    )
    # Likeness ranks, and does not satisfy a requirement unless the tenant says so.
    assert ana["score"] > bo["score"] and not ana["skills"][0]["enough"]
    assert client.optimizer.recommend(id="t")["status"] == "infeasible"
    broken = client.optimizer.check_team(id="t", body={"people": ["ana"]})["violations"]
    assert [violation["rule"] for violation in broken] == ["skill"]


def test_a_question_does_not_change_the_answers_to_later_ones(
    shoal_app: Callable[..., Any],
) -> None:
    others = [Capability("search", "", routes=stand_in_search)]
    app, tenant = shoal_app("optimizer", capabilities=others), f"acme-{secrets.token_hex(4)}"
    api = app.client(tenant).optimizer
    api.put_person(id="ana", body={"skills": {"Quantitative finance": 3, "Botany": 3}})
    for id, skill in (("a", "Quants"), ("b", "Biology")):
        task = {"estimated_hours": 5, "deadline": DEADLINE, "skills": [skill]}
        api.put_task(id=id, body=task)
    found = [api.candidates(id=id)["candidates"][0]["skills"][0]["found"] for id in ("a", "b")]
    assert found == ["Quantitative finance", "Botany"]


def test_another_model_is_not_compared_with_the_former(
    shoal_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = rounded_now()
    monkeypatch.setattr("shoal_optimizer.inputs.rounded_now", lambda: moment)
    others = [Capability("search", "", routes=stand_in_search)]
    app, tenant = shoal_app("optimizer", capabilities=others), f"acme-{secrets.token_hex(4)}"
    api = app.client(tenant).optimizer
    api.put_person(id="ana", body={"skills": {"Quantitative finance": 3, "Economics": 3}})
    deadline = {"estimated_hours": 5, "deadline": DEADLINE}
    api.put_task(id="t", body=deadline | {"skills": ["Quants"]})

    def found() -> str:
        return str(api.candidates(id="t")["candidates"][0]["skills"][0]["found"])

    assert found() == "Quantitative finance"
    monkeypatch.setattr(f"{__name__}.MODEL", ["last"])
    moment += STEP
    assert found() == "Economics"
    monkeypatch.setattr(f"{__name__}.MODEL", ["first"])
    api.put_task(id="u", body=deadline | {"skills": ["Botany"]})  # a name that is new
    api.candidates(id="u")
    assert found() == "Quantitative finance"


def test_synonyms_need_no_embeddings(shoal_app: Callable[..., Any]) -> None:
    client = shoal_app("optimizer").client(f"acme-{secrets.token_hex(4)}")
    client.optimizer.put_person(id="ana", body={"skills": {"machine-learning": 3}})
    client.optimizer.put_task(
        id="t", body={"estimated_hours": 5, "deadline": DEADLINE, "skills": ["ML"]}
    )
    assert client.optimizer.candidates(id="t")["candidates"][0]["skills"][0]["how"] == "synonym"


def test_events_store_people_tasks_and_outcomes(shoal_app: Callable[..., Any]) -> None:
    app, tenant = shoal_app("optimizer"), f"acme-{secrets.token_hex(4)}"
    client = app.client(tenant)
    ana = {"skills": {"Go": 3}, "workload": 10}
    task = {"estimated_hours": 5, "deadline": DEADLINE, "skills": ["Go"]}
    outcome = {
        "people": ["ana"],
        "estimated_hours": 5,
        "actual_hours": 5,
        "quality": 1,
        "days_early": 1,
    }
    events = [
        {"id": "1", "type": "person.updated", "subject": "ana", "data": ana},
        {"id": "2", "type": "task.updated", "subject": "t", "data": task},
        {"id": "3", "type": "person.updated", "subject": "bo", "data": {"workload": 900}},
        {"id": "4", "type": "task.completed", "data": outcome},
    ]
    events = [event | {"source": "hr"} for event in events]
    for _ in range(2):
        app.stream("optimizer.records", events, tenant)
    moment = datetime.now(UTC).replace(microsecond=0)
    elsewhere = moment.astimezone(timezone(timedelta(hours=5)))
    done = outcome | {"task": "t", "people": ["cy", "di"], "finished_at": moment.isoformat()}
    client.optimizer.add_outcomes(body=done)
    client.optimizer.add_outcomes(body=done | {"finished_at": elsewhere.isoformat()})
    client.optimizer.add_outcomes(body=done | {"id": "own"})
    body = {"id": "5", "type": "task.completed", "subject": "t", "source": "hr", "data": done}
    app.stream("optimizer.records", [body], tenant)
    people = ("cy", "di")
    for id in people:
        client.optimizer.put_person(id=id, body=ana | {"workload": 0})
    client.optimizer.put_task(id="u", body=task | {"team_size": 2})
    answer = client.optimizer.recommend(id="u")
    assert set(answer["team"]) == set(people) and answer["history"]["similar_tasks"] == 1
    assert {member["similar_tasks"] for member in answer["members"]} == {1}
    for id in people:
        client.optimizer.delete_person(id=id)
    row = client.optimizer.candidates(id="t")["candidates"]
    assert [r["person"] for r in row] == ["ana"] and row[0]["past_success"] > 0.5


def test_alternative_forms_of_fields_are_accepted(shoal_app: Callable[..., Any]) -> None:
    client = shoal_app("optimizer").client(f"acme-{secrets.token_hex(4)}")
    client.optimizer.put_person(
        id="ana",
        body={
            "timezone": "Europe/Lisbon",
            "hours_per_week": 30,
            "working_hours": ["08:00", "14:00"],
            "leave": [{"start": "2026-01-01", "end": "2026-01-02"}],
        },
    )
    assert client.optimizer.get_person(id="ana")["capacity_hours"] == 30
    client.optimizer.put_task(
        id="t",
        body={
            "estimated_hours": 5,
            "start": "2026-01-05",
            "deadline": DEADLINE,
            "team_min": 1,
            "team_max": 2,
            "priority": "high",
        },
    )
    assert client.optimizer.get_task(id="t")["priority"] == 4
    outcome = {
        "task_id": "t",
        "people": ["ana"],
        "estimated_hours": 5,
        "actual_hours": 6,
        "deadline": DEADLINE,
        "completed_at": datetime.now(UTC).isoformat(),
    }
    assert client.optimizer.add_outcomes(body=[outcome]) == {"accepted": 1, "rejected": []}
    assert client.optimizer.get_task(id="t")["state"] == "done"


def test_an_outcome_has_the_type_of_its_task(shoal_app: Callable[..., Any]) -> None:
    api = shoal_app("optimizer").client(f"acme-{secrets.token_hex(4)}").optimizer
    api.put_person(id="ana", body={})
    hours = {"estimated_hours": 5, "actual_hours": 5}
    for id in ("t", "u"):
        task = {"estimated_hours": 5, "deadline": DEADLINE, "type": "audit"}
        api.put_task(id=id, body=task)
    finished = {"people": ["ana"], "task": "t", "finished_at": datetime.now(UTC).isoformat()}
    api.add_outcomes(body=hours | finished)
    assert api.recommend(id="u")["members"][0]["similar_tasks"] == 1


def test_a_spreadsheets_export_is_read() -> None:
    text = '\ufeffid;estimated_hours;deadline;skills\nt;12,5;2030-05-12;"Python:4; Rust"\n'
    [row] = read_records(text.encode(), "text/csv")
    task = Task.model_validate(row)
    assert (task.estimated_hours, task.deadline.isoformat()) == (12.5, "2030-05-12T23:59:59+00:00")
    assert {need.skill: need.level for need in task.skills} == {"Python": 4, "Rust": 3}


def test_skills_that_are_separated_by_commas_are_rejected() -> None:
    [row] = read_records(b'id,skills\na,"Python:4, Rust:2"\n', "text/csv")
    assert isinstance(row, RowError) and "Python:4; Rust:2" in row.error


@pytest.mark.parametrize(
    ("body", "content_type"), [(b"{", "application/json"), (b'a,b\n1,"2', "text/csv")]
)
def test_a_body_of_another_type_is_malformed(body: bytes, content_type: str) -> None:
    with pytest.raises(Malformed):
        read_records(body, content_type)


@pytest.mark.parametrize(
    ("body", "content_type", "index"),
    [(b"id\nana\nbo,2\n", "text/csv", 1), (b"{}\n{", "application/x-ndjson", 1)],
)
def test_an_unreadable_row_leaves_the_others_readable(
    body: bytes, content_type: str, index: int
) -> None:
    rows = read_records(body, content_type)
    assert [n for n, row in enumerate(rows) if isinstance(row, RowError)] == [index]


def test_a_recreated_tenant_has_none_of_its_former_people(
    shoal_app: Callable[..., Any],
) -> None:
    """The same number of changes as before the erasure is not the same version."""
    app, tenant = shoal_app("optimizer"), f"acme-{secrets.token_hex(4)}"
    api, online = app.client(tenant).optimizer, app.context(tenant, "optimizer").stores.online

    def seen(name: str) -> list[str]:
        api.put_person(id=name, body={})
        api.put_task(id="t", body={"estimated_hours": 5, "deadline": DEADLINE})
        return [row["person"] for row in api.candidates(id="t")["candidates"]]

    assert seen("ana") == ["ana"]
    for kind in (*KINDS, "version"):
        app.run(online.delete(RecordStore.key(kind)))
    assert seen("bo") == ["bo"]
