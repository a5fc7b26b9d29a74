"""Job runs, on a real Redis."""

import time
from datetime import UTC, datetime

import pytest

from shoal import Conflict, LimitExceeded, NotFound, Unavailable
from shoal.runtime import job_runs
from shoal.runtime.job_runs import JobRuns
from shoal.tenants.keyspace import PREFIX


@pytest.fixture
def runs(redis_url: str) -> JobRuns:
    made = JobRuns(redis_url)
    made._redis.flushall()
    return made


def test_a_run_is_claimed_only_once(runs: JobRuns) -> None:
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


def test_any_client_reads_how_a_run_ended(runs: JobRuns, redis_url: str) -> None:
    run = runs.add("a.b")
    runs.claim()
    runs.finish(run.id, "succeeded", result={"rows": 3})
    again = JobRuns(redis_url).get(run.id)
    assert (again.state, again.result) == ("succeeded", {"rows": 3}) and again.finished is not None


def test_a_lost_run_is_retried_and_then_fails(
    runs: JobRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.add("a.b")
    monkeypatch.setattr(job_runs, "LOST_SECONDS", -1.0)
    for attempt in range(1, job_runs.MAX_ATTEMPTS + 1):
        claimed = runs.claim()
        assert claimed is not None and claimed.attempt == attempt
        assert [r.id for r in runs.requeue_lost()] == [run.id]
    assert runs.claim() is None
    assert runs.get(run.id).state == "failed" and "died 3 times" in (runs.get(run.id).error or "")


def test_a_run_with_a_heartbeat_is_not_lost(runs: JobRuns) -> None:
    run = runs.add("a.b")
    runs.claim()
    assert runs.heartbeat(run.id) is False and runs.requeue_lost() == []


def test_a_run_is_cancelled_while_queued_or_running(runs: JobRuns) -> None:
    queued, running = runs.add("a.b"), None
    assert runs.cancel(queued.id).state == "cancelled" and runs.claim() is None
    running = runs.add("a.b")
    runs.claim()
    runs.cancel(running.id)
    assert runs.heartbeat(running.id) is True
    runs.finish(running.id, "cancelled")
    with pytest.raises(Conflict):
        runs.cancel(running.id)


def test_an_unknown_run_is_not_found(runs: JobRuns) -> None:
    with pytest.raises(NotFound):
        runs.get("nope")


def test_an_unreachable_redis_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        JobRuns("redis://127.0.0.1:1/0").add("a.b")


def test_a_scheduled_run_is_queued_once_by_all_workers(runs: JobRuns, redis_url: str) -> None:
    other = JobRuns(redis_url)
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


def test_the_oldest_finished_runs_are_deleted(
    runs: JobRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runs, "MAX_FINISHED", 3)
    ids = []
    for _ in range(5):
        ids.append(runs.add("a.b").id)
        runs.claim()
        runs.finish(ids[-1], "succeeded")
        time.sleep(0.002)
    assert [r.id for r in runs.recent()] == ids[:1:-1]


def test_unfinished_runs_are_never_deleted(runs: JobRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runs, "MAX_FINISHED", 2)
    running = runs.add("a.b", tenant="globex")
    assert runs.claim() is not None
    waiting = [runs.add("a.b", tenant="globex")] + [
        runs.add("a.b", tenant="acme") for _ in range(5)
    ]
    for run in waiting[1:]:
        runs.cancel(run.id)
    assert [r.id for r in runs.unfinished()] == [running.id, waiting[0].id]
    assert len(runs.recent(tenant="acme")) == 2 and len(runs.recent(tenant="globex")) == 2


def test_a_deleted_run_stops_no_other(runs: JobRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (runs.add("a.b") for _ in range(3))
    runs.claim()
    for run in (first, second):
        runs._redis.delete(f"{PREFIX}run:{run.id}")
    assert [r.id for r in runs.unfinished()] == [third.id]
    monkeypatch.setattr(job_runs, "LOST_SECONDS", -1.0)
    assert runs.requeue_lost() == [] and runs.requeue_lost() == []
    claimed = runs.claim()
    assert claimed is not None and claimed.id == third.id
    runs.update(first.id, state="running")
    runs.finish(first.id, "succeeded")
    assert runs.heartbeat(first.id) is True, "its process is told to stop"
    with pytest.raises(NotFound):
        runs.get(first.id)


def test_the_runs_of_a_tenant_are_forgotten(runs: JobRuns) -> None:
    mine = [runs.add("a.b", tenant="acme", arguments={"employee": "Ana"}) for _ in range(3)]
    other = runs.add("a.b", tenant="globex")
    runs.claim()
    assert runs.count_unfinished("acme") == 3
    assert runs.forget_tenant("acme") == 3
    assert runs.count_unfinished("acme") == 0 and runs.recent(tenant="acme") == []
    assert runs.heartbeat(mine[0].id) is True
    assert [r.id for r in runs.unfinished()] == [other.id]
    assert not [key for key in runs._redis.scan_iter() for run in mine if run.id in key]


def test_tenants_take_turns(runs: JobRuns) -> None:
    """However many runs one tenant queues first, each other is next in turn."""
    for tenant in ("acme", "acme", "acme", "globex", "zeta", "globex"):
        runs.add("a.b", tenant=tenant)
    order = []
    while run := runs.claim():
        order.append(run.tenant)
        runs.finish(run.id, "succeeded")
        time.sleep(0.002)
    assert sorted(order[:3]) == ["acme", "globex", "zeta"]
    assert sorted(order[3:5]) == ["acme", "globex"] and order[5] == "acme"


def test_a_tenant_leaves_a_place_for_another(runs: JobRuns) -> None:
    for _ in range(3):
        runs.add("a.b", tenant="acme")
    assert runs.claim(2) is not None and runs.claim(2) is None
    runs.add("a.b", tenant="globex")
    claimed = runs.claim(2)
    assert claimed is not None and claimed.tenant == "globex"
    assert runs.claim(2) is None


def test_a_tenant_has_a_bound_of_waiting_runs(
    runs: JobRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runs, "MAX_WAITING", 2)
    for _ in range(2):
        runs.add("a.b", tenant="acme")
    with pytest.raises(LimitExceeded, match="2 runs of acme wait already"):
        runs.add("a.b", tenant="acme")
    assert runs.add("a.b", tenant="globex").state == "queued"


def test_each_tenant_keeps_its_own_finished_runs(
    runs: JobRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runs, "MAX_FINISHED", 2)
    first = runs.add("a.b", tenant="globex")
    runs.cancel(first.id)
    for _ in range(5):
        runs.cancel(runs.add("a.b", tenant="acme").id)
    assert [r.id for r in runs.recent(tenant="globex")] == [first.id]
    assert len(runs.recent(tenant="acme")) == 2 and len(runs.recent()) == 3


def test_lists_carry_no_arguments_and_results_a_bound(runs: JobRuns) -> None:
    run = runs.add("a.b", tenant="acme", arguments={"text": "x" * 60_000})
    assert runs.recent(tenant="acme")[0].arguments == {}
    claimed = runs.claim()
    assert claimed is not None and claimed.arguments == run.arguments
    runs.finish(run.id, "succeeded", result={"rows": "x" * 100_000})
    assert runs.get(run.id).result == {"omitted_bytes": 100_011}
