"""The platform's own operations, behind the real Router."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi import APIRouter, Depends

from shoal import (
    Capability,
    Client,
    Conflict,
    Event,
    Forbidden,
    Invalid,
    Job,
    LimitExceeded,
    NotFound,
    Stream,
    TenantContext,
    requires,
)
from shoal.contract.errors import Unauthenticated
from shoal.eventlog import keys as event_keys
from shoal.eventlog.codec import encode_event
from shoal.eventlog.dead_letters import add_dead_letter
from shoal.router.credentials import mint_internal
from shoal.runtime import context
from shoal.runtime.job_process import execute_run
from shoal.runtime.job_runs import JobRuns, Progress
from shoal.runtime.stream_worker import Worker
from shoal.stores.redis_client import async_redis
from shoal.tenants.erasure import stores_with_data
from shoal.tenants.records import PLATFORM
from shoal.testing.app import SECRET

EVENT = {
    "id": "1",
    "source": "test",
    "type": "item.updated",
    "subject": "plans",
    "data": {"board_id": "directors"},
}

begun, written, hook = threading.Event(), threading.Event(), list[Callable[[Any], None]]()


def diary(_: Any) -> APIRouter:
    router = APIRouter()

    @router.post("/pages")
    async def write(ctx: TenantContext = Depends(requires("write:own"))) -> dict[str, str]:
        begun.set()
        await asyncio.to_thread(written.wait, 30)
        await ctx.stores.online.set(("page", "1"), "secret")
        await ctx.stores.events.append([Event(type="page.written", data="secret")])
        return {}

    return router


def nightly(job: Any) -> dict[str, int]:
    for act in hook:
        act(job)
    for ctx in job.tenants:
        asyncio.run(ctx.stores.online.set(("page", "2"), "secret"))
    return {"pages": 1}


async def nothing(ctx: TenantContext, events: Any) -> None:
    pass


DIARY = Capability(
    "diary",
    "Keeps a diary.",
    routes=diary,
    streams=[Stream("pages", ("page.*",), nothing)],
    jobs=[Job("nightly", nightly)],
)


@pytest.mark.parametrize(
    "act",
    [
        lambda platform: platform.put_members(board="directors", users=["mallory"]),
        lambda platform: platform.append_events(body=[EVENT]),
        lambda platform: platform.dead_letters(),
        lambda platform: platform.rejected_events(),
        lambda platform: platform.replay(body={"group": "diary.pages"}),
    ],
    ids=["members", "events", "dead letters", "rejections", "replay"],
)
def test_users_may_not_do_what_affects_all_boards(
    shoal_app: Callable[..., Any], act: Callable[[Any], Any]
) -> None:
    app = shoal_app(capabilities=[DIARY])
    for caller in (app.client("acme"), app.client("acme", "admin", "ana")):
        act(caller.platform)
    with pytest.raises(Forbidden):
        act(app.client("acme", "editor", "mallory").platform)


def test_valid_events_are_accepted_beside_invalid_ones(shoal_app: Callable[..., Any]) -> None:
    deep: Any = 1
    for _ in range(220):
        deep = [deep]
    good, late = {**EVENT, "id": "2"}, {**EVENT, "id": "3"}
    answer = (
        shoal_app()
        .client("sender")
        .platform.append_events(
            body=[{**EVENT, "data": deep}, good, {"type": 1}, {**EVENT, "data": deep}, late]
        )
    )
    assert answer["accepted"] == 2
    assert [fault["index"] for fault in answer["rejected"]] == [0, 2, 3]
    assert "recursion limit" in answer["rejected"][0]["error"]


def test_an_unknown_stream_cannot_be_replayed(shoal_app: Callable[..., Any]) -> None:
    """Another's position would keep the log from being trimmed, for nobody."""
    platform = shoal_app(capabilities=[DIARY]).client("acme").platform
    for group in ("dairy.pages", "diary.0"):
        with pytest.raises(NotFound, match=r"diary\.pages"):
            platform.replay(body={"group": group, "after": "0"})


def test_a_replay_takes_ids_or_a_position(shoal_app: Callable[..., Any]) -> None:
    platform = shoal_app(capabilities=[DIARY]).client("acme").platform
    with pytest.raises(Invalid, match="not both"):
        platform.replay(body={"group": "diary.pages", "ids": [], "after": "0-0"})


def test_a_tenant_cannot_fill_the_queue(
    shoal_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.runtime.job_runs.MAX_WAITING", 2)
    app = shoal_app(capabilities=[DIARY])
    for _ in range(2):
        app.client("flood").platform.run_job(name="diary.nightly")
    with pytest.raises(LimitExceeded):
        app.client("flood").platform.run_job(name="diary.nightly")
    assert app.client("other").platform.run_job(name="diary.nightly")["state"] == "queued"


def test_a_tenant_sees_shared_runs_without_their_results(shoal_app: Callable[..., Any]) -> None:
    app = shoal_app(capabilities=[DIARY])
    runs = JobRuns(app.platform.stores.online)
    shared, broken = runs.add("diary.nightly"), runs.add("diary.nightly")
    foreign = runs.add("diary.nightly", tenant="globex")
    runs.update(shared.id, progress=Progress(done=1, total=2, message="of globex"))
    runs.finish(shared.id, "succeeded", result={"globex": 7})
    runs.finish(broken.id, "failed", error="globex is too large")
    platform = app.client("acme").platform
    own = platform.run_job(name="diary.nightly")
    seen = {run["id"]: run for run in platform.list_runs()["runs"]}
    assert foreign.id not in seen
    assert [seen[id]["state"] for id in (own["id"], shared.id, broken.id)] == [
        "queued",
        "succeeded",
        "failed",
    ]
    single = [platform.get_run(id=run.id) for run in (shared, broken)]
    assert "globex" not in str([seen, single])
    assert list(seen) == sorted(seen, key=lambda id: seen[id]["created"], reverse=True)
    assert len(platform.list_runs(limit=2)["runs"]) == 2
    with pytest.raises(NotFound):
        platform.cancel_run(id=shared.id)


def test_one_failed_archive_does_not_stop_the_others() -> None:
    class Logs:
        async def archive(self, tenant: str, wait: timedelta) -> None:
            archived.append(tenant)
            if tenant == "bravo":
                raise ValueError("no such event")

    archived: list[str] = []
    worker = object.__new__(Worker)
    worker._tenants, worker._log = ["acme", "bravo", "zeta"], Logs()  # type: ignore[assignment]
    asyncio.run(worker._archive())
    assert archived == ["acme", "bravo", "zeta"]


def test_work_during_an_erasure_leaves_nothing(
    shoal_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = shoal_app(capabilities=[DIARY])
    platform, runs = app.client("leaver").platform, JobRuns(app.platform.stores.online)
    run = platform.run_job(name="diary.nightly", body={"arguments": {"employee": "Ana"}})
    everyones = runs.add("diary.nightly")
    write = threading.Thread(target=lambda: app.client("leaver").diary.write())
    write.start()
    assert begun.wait(10)

    def erase(job: Any) -> None:  # while a job of all tenants is running
        Client(
            app.address, mint_internal(SECRET, tenant=PLATFORM, role="admin"), timeout=60
        ).platform.delete_tenant(id="leaver")
        written.set()
        write.join()

    hook.append(erase)
    monkeypatch.setattr(context.PlatformContext, "current", classmethod(lambda cls: app.platform))
    while (claimed := runs.claim()) is not None and claimed.id != everyones.id:
        runs.finish(claimed.id, "cancelled")
    execute_run(everyones.id)
    hook.clear()
    assert runs.get(everyones.id).state == "succeeded"
    with pytest.raises(NotFound):
        runs.get(run["id"])
    with pytest.raises(Unauthenticated):
        platform.whoami()
    assert app.run(stores_with_data(app.platform.stores, "leaver")) == []


@pytest.mark.parametrize("left", ["position", "dead letter", "both"])
def test_the_stream_of_a_removed_plugin_is_seen_and_forgotten(
    shoal_app: Callable[..., Any], left: str
) -> None:
    app, group = shoal_app(capabilities=[DIARY]), "removed.pages"
    stores = app.platform.stores
    app.client("acme").platform.append_events(body={"id": "1", "type": "old.event"})
    log, retry_queue = event_keys.log("acme"), event_keys.retry_queue("acme", group)
    works = [event_keys.work(stream, group) for stream in (log, retry_queue)]

    async def leave_behind() -> None:
        events, online = async_redis(stores.events), async_redis(stores.online)
        if left != "dead letter":
            await events.hset(event_keys.groups("acme"), group, "0-0")
        if left != "position":
            fields = encode_event(Event(id="1", type="old.event"))
            entry = (b"1-1", {name.encode(): value for name, value in fields.items()})
            for each in (group, "diary.pages"):
                await add_dead_letter(events, "acme", each, entry, "x", 5)
        for work in works:
            await online.hset(work, "tries", 1)
        await online.set(event_keys.lease("acme", group), "worker")
        await online.zadd(event_keys.workers(group), {"worker": 1})

    async def keys_left() -> list[bytes]:
        found = []
        for uri in (stores.events, stores.online):
            found += [key async for key in async_redis(uri).scan_iter(f"*{group}*")]
        return found

    app.run(leave_behind())
    operator = Client(app.address, mint_internal(SECRET, PLATFORM, "admin")).platform
    seen = {"group": group, "installed": False, "tenants": 1}
    assert seen in operator.list_groups()["groups"]
    with pytest.raises(Conflict, match="is installed"):
        operator.forget_group(group="diary.pages")
    with pytest.raises(Forbidden):
        app.client("acme", "admin").platform.forget_group(group=group)
    forgotten = operator.forget_group(group=group)
    assert (forgotten["tenants"], forgotten["dead_letters"]) == (1, int(left != "position"))
    assert group not in {found["group"] for found in operator.list_groups()["groups"]}
    assert app.run(keys_left()) == []
    with pytest.raises(NotFound):
        operator.forget_group(group=group)
