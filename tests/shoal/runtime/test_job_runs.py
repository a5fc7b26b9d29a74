"""The book of runs, on a real Redis."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from shoal import Conflict, Job, NotFound, Unavailable
from shoal.runtime import job_runs
from shoal.runtime.job_runs import Runs, due


@pytest.fixture
def runs(redis_url: str) -> Iterator[Runs]:
    book = Runs(redis_url)
    book._redis.flushall()
    yield book


def test_a_run_is_claimed_by_one_only(runs: Runs) -> None:
    made = runs.add("search.load", tenant="acme", arguments={"path": "x", "n": [1, None]})
    claimed = runs.claim()
    assert (
        claimed is not None
        and claimed.id == made.id
        and claimed.state == "running"
        and claimed.attempt == 1
    )
    assert claimed.arguments == {"path": "x", "n": [1, None]}
    assert runs.claim() is None


def test_its_state_is_what_anyone_reads_later(runs: Runs, redis_url: str) -> None:
    run = runs.add("a.b")
    runs.claim()
    runs.finish(run.id, "succeeded", result={"rows": 3})
    again = Runs(redis_url).get(run.id)
    assert (again.state, again.result) == ("succeeded", {"rows": 3}) and again.finished is not None


def test_a_run_whose_process_died_is_tried_again_and_then_given_up(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.add("a.b")
    monkeypatch.setattr(job_runs, "DEAD", -1.0)
    for attempt in range(1, job_runs.ATTEMPTS + 1):
        claimed = runs.claim()
        assert claimed is not None and claimed.attempt == attempt
        assert [r.id for r in runs.reap()] == [run.id]
    assert runs.claim() is None
    assert runs.get(run.id).state == "failed" and "died 3 times" in (runs.get(run.id).error or "")


def test_a_run_that_beats_is_left_alone(runs: Runs) -> None:
    run = runs.add("a.b")
    runs.claim()
    assert runs.beat(run.id) is False and runs.reap() == []


def test_cancelling(runs: Runs) -> None:
    queued, running = runs.add("a.b"), None
    assert runs.cancel(queued.id).state == "cancelled" and runs.claim() is None
    running = runs.add("a.b")
    runs.claim()
    runs.cancel(running.id)
    assert runs.beat(running.id) is True
    runs.finish(running.id, "cancelled")
    with pytest.raises(Conflict):
        runs.cancel(running.id)


def test_an_unknown_run_is_not_found(runs: Runs) -> None:
    with pytest.raises(NotFound):
        runs.get("nope")


def test_redis_away_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        Runs("redis://127.0.0.1:1/0").add("a.b")


def test_a_scheduled_run_is_queued_once_by_all_workers(runs: Runs, redis_url: str) -> None:
    other = Runs(redis_url)
    runs.claim()
    first, second = datetime(2026, 11, 22, 3, tzinfo=UTC), datetime(2026, 11, 23, 3, tzinfo=UTC)
    assert not runs.schedule("a.b", first), "seen for the first time: nothing is made up for"
    assert runs.schedule("a.b", second)
    assert (
        not other.schedule("a.b", second)
        and not runs.schedule("a.b", second)
        and not runs.schedule("a.b", first)
    )
    claimed = other.claim()
    assert claimed is not None and (claimed.job, claimed.scheduled_for) == ("a.b", second)
    assert runs.claim() is None


def test_old_runs_are_forgotten(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runs, "KEEP", 3)
    ids = []
    for _ in range(5):
        ids.append(runs.add("a.b").id)
        runs.claim()
        runs.finish(ids[-1], "succeeded")
        time.sleep(0.002)
    assert [r.id for r in runs.recent()] == ids[:1:-1]


def test_only_finished_runs_are_forgotten(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runs, "KEEP", 2)
    running = runs.add("a.b", tenant="globex")
    assert runs.claim() is not None
    waiting = [runs.add("a.b", tenant="globex")] + [
        runs.add("a.b", tenant="acme") for _ in range(5)
    ]
    for run in waiting[1:]:
        runs.cancel(run.id)
    assert [r.id for r in runs.active()] == [running.id, waiting[0].id]
    assert len(runs.recent(tenant="acme")) == 2 and len(runs.recent(tenant="globex")) == 2


def test_a_run_that_is_gone_from_the_book_stops_nothing(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (runs.add("a.b") for _ in range(3))
    runs.claim()
    for run in (first, second):
        runs._redis.delete(f"{job_runs.PREFIX}run:{run.id}")
    assert [r.id for r in runs.active()] == [third.id]
    monkeypatch.setattr(job_runs, "DEAD", -1.0)
    assert runs.reap() == [] and runs.reap() == []
    claimed = runs.claim()
    assert claimed is not None and claimed.id == third.id
    runs.update(first.id, state="running")
    runs.finish(first.id, "succeeded")
    assert runs.beat(first.id) is True, "its process is told to stop"
    with pytest.raises(NotFound):
        runs.get(first.id)


def test_an_erased_tenants_runs_are_forgotten(runs: Runs) -> None:
    mine = [runs.add("a.b", tenant="acme", arguments={"employee": "Ana"}) for _ in range(3)]
    other = runs.add("a.b", tenant="globex")
    runs.claim()
    assert runs.unfinished("acme") == 3
    assert runs.forget("acme") == 3
    assert runs.unfinished("acme") == 0 and runs.recent(tenant="acme") == []
    assert runs.beat(mine[0].id) is True
    assert [r.id for r in runs.active()] == [other.id]
    assert not [key for key in runs._redis.scan_iter() for run in mine if run.id in key]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-23T02:59:00+00:00", "2026-11-23T03:00:00+01:00"),
        ("2026-11-23T01:59:59+00:00", "2026-11-22T03:00:00+01:00"),
        ("2026-11-23T02:00:00+00:00", "2026-11-23T03:00:00+01:00"),
        ("2026-07-01T01:30:00+00:00", "2026-07-01T03:00:00+02:00"),
    ],
)
def test_a_schedule_is_local_time_in_its_zone(now: str, expected: str) -> None:
    job = Job("x", lambda job: None, cron="0 3 * * *", timezone="Europe/Berlin")
    assert due(job, ZoneInfo("UTC"), datetime.fromisoformat(now)) == datetime.fromisoformat(
        expected
    )


def test_the_platforms_zone_is_used_where_the_job_has_none() -> None:
    job = Job("x", lambda job: None, cron="0 3 * * *")
    when = due(job, ZoneInfo("Asia/Jerusalem"), datetime(2026, 11, 23, 12, tzinfo=UTC))
    assert when is not None and when.utcoffset() and when.hour == 3


def test_a_job_without_a_schedule_is_never_due() -> None:
    assert due(Job("x", lambda job: None), ZoneInfo("UTC"), datetime.now(UTC)) is None
