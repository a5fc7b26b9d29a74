import itertools
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from shoal import Event, assignment_bucket
from shoal.local.sample import TENANTS, Task, Workspace, workspace

NOW = datetime(2026, 11, 23, 9, 7, 12, tzinfo=UTC)


@pytest.fixture(scope="module", params=TENANTS)
def sample(request: pytest.FixtureRequest) -> Workspace:
    return workspace(request.param, seed=7, now=NOW)


@pytest.fixture(scope="module")
def events(sample: Workspace) -> list[dict[str, Any]]:
    return list(sample.events())


@pytest.fixture(scope="module")
def points(sample: Workspace) -> list[dict[str, Any]]:
    return list(sample.metrics())


def test_the_same_arguments_give_the_same_workspace(
    sample: Workspace, events: list[dict[str, Any]], points: list[dict[str, Any]]
) -> None:
    again = workspace(sample.tenant, seed=7, now=NOW)
    assert again == sample
    assert list(again.events()) == events
    assert list(again.metrics()) == points
    assert list(itertools.islice(again.trial.events(), 500)) == list(
        itertools.islice(sample.trial.events(), 500)
    )


def test_another_seed_gives_another_workspace(sample: Workspace) -> None:
    assert workspace(sample.tenant, seed=8, now=NOW).texts != sample.texts


def test_the_workspace_moves_with_now(sample: Workspace) -> None:
    later = workspace(sample.tenant, seed=7, now=NOW + timedelta(days=10))
    assert max(i.updated_at for i in later.texts) > NOW
    assert [i.title for i in later.texts if i.type == "item"] != []


@pytest.mark.parametrize("hour", [0, 23])
def test_now_may_be_any_hour_of_any_weekday(hour: int) -> None:
    for day in range(0, 7, 3):
        now = datetime(2027, 2, 26, hour, 1, tzinfo=UTC) + timedelta(days=day)
        made = workspace("acme", seed=day, now=now)
        assert all(now - timedelta(days=94) < i.updated_at < now for i in made.texts)


def test_an_unknown_tenant_is_refused() -> None:
    with pytest.raises(ValueError, match="acme, globex"):
        workspace("initech", seed=1, now=NOW)


def test_a_now_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        workspace("acme", seed=1, now=datetime(2026, 11, 23))


def test_texts_are_hundreds_of_items_ready_to_post(sample: Workspace) -> None:
    items = list(sample.items())
    assert 600 <= len(items) <= 1000
    assert len({i["id"] for i in items}) == len(items)
    assert set(Counter(i["type"] for i in items)) == {"item", "update", "doc", "file"}
    for item in items:
        assert set(item) == {
            "id",
            "board_id",
            "type",
            "title",
            "text",
            "updated_at",
            "url",
            "metadata",
        }
        assert datetime.fromisoformat(item["updated_at"]).tzinfo


def test_texts_read_well(sample: Workspace) -> None:
    for item in sample.texts:
        for text in (item.title, item.text):
            assert text and not re.search(r"[{}|]| {2}", text), text
            assert not text[0].islower(), text
    assert len({i.text for i in sample.texts}) > 0.97 * len(sample.texts)


def test_replies_follow_their_item_and_come_from_board_members(
    sample: Workspace,
) -> None:
    members = {board.id: board.members for board in sample.boards}
    first = {item.id: item for item in sample.texts}
    for item in sample.texts:
        assert item.metadata["author"] in members[item.board_id]
        if item.type == "update":
            assert item.updated_at > first[item.metadata["thread"]].updated_at


def test_the_tenants_share_no_text() -> None:
    acme, globex = (workspace(tenant, seed=7, now=NOW) for tenant in TENANTS)

    def sentences(of: Workspace) -> set[str]:
        return {
            s for i in of.texts for s in re.split(r"(?<=[.!?])\s+|\n", i.text) if len(s.split()) > 3
        }

    assert not sentences(acme) & sentences(globex)
    assert not {b.id for b in acme.boards} & {b.id for b in globex.boards}


def test_people_see_different_boards(sample: Workspace) -> None:
    ids = {person.id for person in sample.people}
    assert all(set(board.members) <= ids and len(board.members) >= 2 for board in sample.boards)
    sees = {who: frozenset(b.id for b in sample.boards if who in b.members) for who in ids}
    assert all(sees.values())
    assert len(set(sees.values())) > len(ids) / 2
    assert min(len(board.members) for board in sample.boards) <= 4


def test_example_queries_come_from_members_of_the_board(sample: Workspace) -> None:
    members = {board.id: board.members for board in sample.boards}
    assert 5 <= len(sample.queries) <= 6
    assert all(q.user in members[q.board_id] for q in sample.queries)


def test_events_are_ordered_cloudevents_of_ninety_days(
    sample: Workspace, events: list[dict[str, Any]]
) -> None:
    events = [Event.model_validate(e) for e in events]
    assert 8_000 < len(events) < 30_000
    assert len({e.id for e in events}) == len(events)
    assert all(a.time <= b.time for a, b in itertools.pairwise(events))
    assert NOW - timedelta(days=91) < events[0].time and events[-1].time <= NOW
    people = {person.id for person in sample.people}
    assert {e.subject for e in events} == people
    assert all(e.data["user_id"] == e.subject for e in events)


def test_events_do_not_change_items(events: list[dict[str, Any]]) -> None:
    assert not {e["type"] for e in events} & {"item.created", "item.updated", "item.deleted"}


def test_the_shipped_features_can_be_computed_from_events(
    sample: Workspace, events: list[dict[str, Any]]
) -> None:
    counts = Counter(e["type"] for e in events)
    assert (
        min(
            counts[t]
            for t in ("board.created", "automation.created", "automation.run", "board.opened")
        )
        > 30
    )
    durations = [e["data"]["duration"] for e in events if e["type"] == "session.ended"]
    assert min(durations) >= 60 and 600 < np.mean(durations) < 3600
    recent = Counter(
        e["subject"]
        for e in events
        if datetime.fromisoformat(e["time"]) > NOW - timedelta(minutes=5)
    )
    assert len(recent) >= 3
    boards = {board.id for board in sample.boards}
    for e in events:
        assert e["data"].get("board_id", "").split("-plan-")[0] in boards | {""}


def test_metrics_cover_ninety_days_hourly_without_gaps(points: list[dict[str, Any]]) -> None:
    requests = [p for p in points if p["metric"] == "requests"]
    times = [datetime.fromisoformat(p["time"]) for p in requests]
    assert len(requests) > 89 * 24 and len(points) == 4 * len(requests)
    assert times[0] > NOW - timedelta(days=89.9), "too old for anomalies to accept"
    assert {b - a for a, b in itertools.pairwise(times)} == {timedelta(hours=1)}
    assert times[-1] + timedelta(hours=1) <= NOW
    assert all(np.isfinite(p["value"]) and p["value"] >= 0 for p in points)


def test_incidents_show_in_their_metrics(sample: Workspace, points: list[dict[str, Any]]) -> None:
    series: dict[str, dict[datetime, float]] = {}
    for p in points:
        series.setdefault(p["metric"], {})[datetime.fromisoformat(p["time"])] = p["value"]
    for incident in sample.incidents:
        if incident.kind == "level_shift":
            continue
        for metric in incident.metrics:
            values = series[metric]
            during = [values[t] for t in values if incident.start <= t < incident.end]
            same_hours = [
                values[t - timedelta(days=7)] for t in values if incident.start <= t < incident.end
            ]
            assert during and abs(np.log(np.mean(during) / np.mean(same_hours))) > 0.25, incident
    assert any(NOW - i.end < timedelta(days=2) for i in sample.incidents if i.kind == "outage")


def test_the_level_shift_stays(sample: Workspace, points: list[dict[str, Any]]) -> None:
    [shift] = [i for i in sample.incidents if i.kind == "level_shift"]
    requests = [
        (datetime.fromisoformat(p["time"]), p["value"]) for p in points if p["metric"] == "requests"
    ]
    before = np.median([v for t, v in requests if t < shift.start])
    after = np.median([v for t, v in requests if t >= shift.start])
    assert 1.2 < after / before < 1.6


def test_most_but_not_all_tasks_can_be_staffed(sample: Workspace) -> None:
    def is_possible(task: Task) -> bool:
        return all(
            sum(p.skills.get(n.skill, 0) >= n.level for p in sample.people) >= n.people
            for n in task.skills
        )

    impossible = [task.title for task in sample.tasks if not is_possible(task)]
    assert len(sample.tasks) >= 30 and 1 <= len(impossible) <= 4, impossible
    assert all(task.deadline > NOW and task.deadline.weekday() < 5 for task in sample.tasks)
    assert all(1 <= task.team_min <= task.team_max for task in sample.tasks)


def test_people_have_the_facts_that_planning_needs(sample: Workspace) -> None:
    for person in sample.people:
        assert person.skills and all(1 <= level <= 5 for level in person.skills.values())
        assert (
            0 <= person.workload <= 100
            and 0 < person.hours_per_week <= 60
            and person.cost_per_hour > 0
        )
        assert person.working_hours[0] < person.working_hours[1]
    assert len({p.timezone for p in sample.people}) >= 6
    assert (
        max(p.workload for p in sample.people) > 60 and min(p.workload for p in sample.people) < 40
    )
    assert any(p.leave for p in sample.people)


def test_outcomes_differ_between_people(sample: Workspace) -> None:
    ids = {person.id for person in sample.people}
    late = 0
    for outcome in sample.outcomes:
        assert set(outcome.people) <= ids and outcome.people
        assert 0 <= outcome.quality <= 1 and outcome.actual_hours > 0 and outcome.completed_at < NOW
        late += outcome.completed_at > outcome.deadline
    assert 0.1 < late / len(sample.outcomes) < 0.6


def test_the_trial_uses_the_routers_assignment() -> None:
    trial = workspace("acme", seed=7, now=NOW).trial
    events = [Event.model_validate(e) for e in trial.events()]
    exposures = [e for e in events if e.type == "experiment.exposure"]
    arm = {e.subject: e.data["variant"] for e in exposures}
    seen = {e.subject: e.time for e in exposures}
    won = Counter(arm[e.subject] for e in events if e.type == trial.outcome)
    assert Counter(arm.values()) == {"control": 5234, "example-invoice": 5189}
    assert won == {"control": 644, "example-invoice": 732}
    assert all(
        (assignment_bucket(trial.id, unit) < 5000) == (name == "control")
        for unit, name in arm.items()
    )
    assert all(seen[e.subject] <= e.time < trial.end for e in events)
    assert len({(e.source, e.id) for e in events}) == len(events)
