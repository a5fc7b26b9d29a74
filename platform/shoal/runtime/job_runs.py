"""Runs of jobs: their state in Redis, so that it outlives whoever started them, and the
process that does the work.
"""

import asyncio
import inspect
import logging
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal
from uuid import uuid4
from zoneinfo import ZoneInfo

import orjson
from croniter import croniter
from pydantic import AwareDatetime, BaseModel, Field

from shoal.contract.capability import Job
from shoal.contract.context import TenantContext
from shoal.contract.errors import Conflict, NotFound, Unavailable
from shoal.stores.redis_client import blocking_redis, translate_errors

log = logging.getLogger("shoal.jobs")
PREFIX = "{%shoal}:"
BEAT = 2.0
"""Seconds between the heartbeats of a running job."""
DEAD = 20.0
"""Seconds without a heartbeat after which a run's process counts as dead."""
ATTEMPTS = 3
KEEP = 1000
"""Finished runs that are remembered."""
WAITING = 100
"""Runs of one tenant that may wait or run; more are refused."""
PAGE = 200

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
DONE = {"succeeded", "failed", "cancelled"}


class Progress(BaseModel):
    done: float = 0
    total: float = 0
    message: str = ""


class Run(BaseModel):
    """One run of a job. `tenant` None means all tenants."""

    id: str
    job: str
    tenant: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    state: State = "queued"
    progress: Progress = Field(default_factory=Progress)
    attempt: int = 0
    late: bool = False
    created: AwareDatetime
    scheduled_for: AwareDatetime
    started: AwareDatetime | None = None
    finished: AwareDatetime | None = None
    result: dict[str, Any] | None = None
    error: str | None = None


class Cancelled(Exception):
    """Raised in a job by `progress` after someone cancelled its run."""


_ADD = """
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
"""
_CLAIM = """
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return false end
local run = redis.call('LPOP', KEYS[1])
while run and redis.call('EXISTS', ARGV[1] .. run) == 0 do run = redis.call('LPOP', KEYS[1]) end
if run then
  redis.call('ZADD', KEYS[2], ARGV[2], run)
  redis.call('HINCRBY', ARGV[1] .. run, 'attempt', 1)
end
return run
"""
_SCHEDULE = """
local last = redis.call('GET', KEYS[1])
if last and tonumber(ARGV[1]) <= tonumber(last) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
if not last then return 0 end
redis.call('HSET', KEYS[2], unpack(ARGV, 4))
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
redis.call('RPUSH', KEYS[4], ARGV[2])
return 1
"""
_CHANGE = "return redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HSET', KEYS[1], unpack(ARGV))"
_FINISH = """
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
for _, old in ipairs(redis.call('ZREVRANGE', KEYS[3], ARGV[3], -1)) do
  redis.call('DEL', ARGV[4] .. old)
  redis.call('ZREM', KEYS[3], old)
  redis.call('ZREM', KEYS[4], old)
end
"""
_REQUEUE = """
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) return end
if tonumber(redis.call('HGET', KEYS[1], 'attempt')) >= tonumber(ARGV[2]) then return end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('RPUSH', KEYS[3], ARGV[1])
"""


class Runs:
    """The book of runs in Redis. Every change of a run is one atomic script, so two
    workers cannot both claim it.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @cached_property
    def _redis(self) -> Any:
        """Made on first use: a cluster's client connects at once."""
        with translate_errors():
            return blocking_redis(self._uri)

    def add(
        self,
        job: str,
        *,
        tenant: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        due: datetime | None = None,
    ) -> Run:
        """Queue a run; a worker takes it within a second."""
        run = _made(job, tenant=tenant, arguments=arguments, due=due)
        keys = (f"{PREFIX}run:{run.id}", f"{PREFIX}runs", f"{PREFIX}runs:queue")
        with translate_errors():
            self._redis.eval(
                _ADD, len(keys), *keys, run.id, run.created.timestamp(), *_flat(run.model_dump())
            )
        return run

    def get(self, run_id: str) -> Run:
        with translate_errors():
            fields = self._redis.hgetall(f"{PREFIX}run:{run_id}")
        if not fields:
            raise NotFound(f"no run {run_id!r}")
        return _run(fields)

    def recent(self, *, tenant: str | None = None, limit: int = 50) -> list[Run]:
        """The newest runs first; with a tenant, only those that are that tenant's
        alone.
        """
        with translate_errors():
            found: list[Run] = []
            start = 0
            while ids := self._redis.zrevrange(f"{PREFIX}runs", start, start + PAGE - 1):
                found += [run for run in self._read(ids) if tenant is None or run.tenant == tenant]
                if len(found) >= limit:
                    break
                start += PAGE
        return found[:limit]

    def cancel(self, run_id: str) -> Run:
        """Ask a run to stop: at once while queued, at its next `progress` while
        running. Conflict when it is done.
        """
        run = self.get(run_id)
        if run.state in DONE:
            raise Conflict(f"the run is {run.state} already")
        with translate_errors():
            self._redis.hset(f"{PREFIX}run:{run_id}", "cancel", "1")
            if run.state == "queued" and self._redis.lrem(f"{PREFIX}runs:queue", 0, run_id):
                self.finish(run_id, "cancelled")
        return self.get(run_id)

    def update(self, run_id: str, **changes: Any) -> None:
        """Change a run, if it is still in the book."""
        with translate_errors():
            self._redis.eval(_CHANGE, 1, f"{PREFIX}run:{run_id}", *_flat(changes))

    def unfinished(self, tenant: str) -> int:
        """How many runs of this tenant alone wait or run."""
        return sum(run.tenant == tenant for run in self.active())

    def forget(self, tenant: str) -> int:
        """Drop all runs that are of this tenant alone; how many. The process of one
        that runs is told to stop at its next beat.
        """
        runs = self.recent(tenant=tenant, limit=sys.maxsize)
        with translate_errors():
            for run in runs:
                self._redis.lrem(f"{PREFIX}runs:queue", 0, run.id)
                self._redis.delete(f"{PREFIX}run:{run.id}")
                for index in ("runs:active", "runs:done", "runs"):
                    self._redis.zrem(f"{PREFIX}{index}", run.id)
        return len(runs)

    # What workers and running jobs use.

    def claim(self, at_once: int = 1_000) -> Run | None:
        """Take the oldest queued run; None when there is none, or when `at_once` are
        running.
        """
        keys = [f"{PREFIX}runs:queue", f"{PREFIX}runs:active"]
        with translate_errors():
            run_id = self._redis.eval(_CLAIM, 2, *keys, f"{PREFIX}run:", time.time(), at_once)
            if not run_id:
                return None
        self.update(run_id, state="running", started=datetime.now(UTC))
        return self.get(run_id)

    def beat(self, run_id: str) -> bool:
        """Say that the run's process lives; True when the run should stop."""
        with translate_errors():
            self._redis.zadd(f"{PREFIX}runs:active", {run_id: time.time()}, xx=True)
            cancel, job = self._redis.hmget(f"{PREFIX}run:{run_id}", "cancel", "job")
        return cancel == "1" or job is None

    def finish(
        self,
        run_id: str,
        state: State,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        now = datetime.now(UTC)
        changes = _flat(
            {
                "state": state,
                "finished": now,
                "result": dict(result) if result else None,
                "error": error,
            }
        )
        keys = (
            f"{PREFIX}run:{run_id}",
            f"{PREFIX}runs:active",
            f"{PREFIX}runs:done",
            f"{PREFIX}runs",
        )
        with translate_errors():
            self._redis.eval(
                _FINISH, 4, *keys, run_id, now.timestamp(), KEEP, f"{PREFIX}run:", *changes
            )

    def reap(self) -> list[Run]:
        """Queue again (up to ATTEMPTS times) or fail the runs whose process has died;
        they are returned.
        """
        with translate_errors():
            dead = self._redis.zrangebyscore(f"{PREFIX}runs:active", 0, time.time() - DEAD)
            runs = self._read(dead)
            again = _flat({"state": "queued", "error": "its process died; it is tried again"})
            for run_id in dead:
                keys = (f"{PREFIX}run:{run_id}", f"{PREFIX}runs:active", f"{PREFIX}runs:queue")
                self._redis.eval(_REQUEUE, 3, *keys, run_id, ATTEMPTS, *again)
        for run in runs:
            if run.attempt >= ATTEMPTS:
                self.finish(run.id, "failed", error=f"its process died {run.attempt} times")
        return runs

    def active(self) -> list[Run]:
        """Those that run, and those that wait, in the order of the queue."""
        with translate_errors():
            return self._read(
                self._redis.zrange(f"{PREFIX}runs:active", 0, -1)
                + self._redis.lrange(f"{PREFIX}runs:queue", 0, -1)
            )

    def _read(self, ids: Sequence[str]) -> list[Run]:
        """The runs of these ids that are in the book."""
        pipe = self._redis.pipeline(transaction=False)
        for run_id in ids:
            pipe.hgetall(f"{PREFIX}run:{run_id}")
        return [_run(fields) for fields in pipe.execute() if fields]

    def once(self, what: str, seconds: float) -> bool:
        """Whether this caller is the first, of all, to do `what` (a name that includes
        the time it is for).
        """
        with translate_errors():
            return bool(self._redis.set(f"{PREFIX}once:{what}", "1", nx=True, ex=int(seconds)))

    def schedule(self, job: str, due: datetime) -> bool:
        """Queue the run of a cron job that is due at `due`, unless somebody has, or the
        job is seen for the first time; whether it was.
        """
        run = _made(job, due=due)
        keys = (
            f"{PREFIX}cron:{job}",
            f"{PREFIX}run:{run.id}",
            f"{PREFIX}runs",
            f"{PREFIX}runs:queue",
        )
        fields = _flat(run.model_dump())
        with translate_errors():
            return bool(
                self._redis.eval(
                    _SCHEDULE, 4, *keys, due.timestamp(), run.id, run.created.timestamp(), *fields
                )
            )


def _made(
    job: str,
    *,
    tenant: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    due: datetime | None = None,
) -> Run:
    now = datetime.now(UTC)
    return Run(
        id=uuid4().hex[:16],
        job=job,
        tenant=tenant,
        arguments=dict(arguments or {}),
        created=now,
        scheduled_for=due or now,
    )


def _encode(value: Any) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return orjson.dumps(value).decode()


def _flat(fields: Mapping[str, Any]) -> list[str]:
    """As HSET takes them: name, value, name, value."""
    return [part for name, value in fields.items() for part in (name, _encode(value))]


def _run(fields: Mapping[str, str]) -> Run:
    return Run(**{k: orjson.loads(v) for k, v in fields.items() if k in Run.model_fields})


def due(job: Job, zone: ZoneInfo, now: datetime) -> datetime | None:
    """When a scheduled job was last due, at or before `now`, in its zone; None for a
    job without a schedule.
    """
    if job.cron is None:
        return None
    local = now.astimezone(ZoneInfo(job.timezone) if job.timezone else zone)
    return croniter(job.cron, local + timedelta(microseconds=1)).get_prev(datetime)


class _Context:
    """The JobContext of a running job."""

    tenants: Sequence[TenantContext] = ()
    arguments: Mapping[str, Any]

    def __init__(self, runs: Runs, run: Run, zone: ZoneInfo) -> None:
        self._runs = runs
        self._last = 0.0
        self.cancelled = threading.Event()
        self.run_id, self.arguments = run.id, run.arguments
        self.scheduled_for = run.scheduled_for.astimezone(zone)

    def progress(self, done: float, total: float, message: str = "") -> None:
        if self.cancelled.is_set():
            raise Cancelled
        now = time.monotonic()
        if now - self._last > 0.2 or done >= total:
            self._last = now
            self._runs.update(
                self.run_id, progress=Progress(done=done, total=total, message=message)
            )


def work(run_id: str) -> None:
    """Do one claimed run, in a process of its own. Whatever the job raises ends up in
    the run's `error`.
    """
    from .context import PlatformContext

    platform = PlatformContext.current()
    runs = Runs(platform.stores.online)
    run = runs.get(run_id)
    capability, job = platform.job(run.job)
    stop = threading.Event()
    zone = ZoneInfo(job.timezone or platform.config.timezone)

    async def contexts() -> list[TenantContext]:
        names = await platform.tenants()
        if run.tenant is not None and run.tenant not in names:
            raise NotFound(f"no tenant {run.tenant!r}")
        return [
            await platform.context(name, capability.name)
            for name in ([run.tenant] if run.tenant else names)
        ]

    def beat() -> None:
        while not stop.wait(BEAT):
            try:
                if runs.beat(run_id):
                    context.cancelled.set()
            except Unavailable:
                continue

    context = _Context(runs, run, zone)
    threading.Thread(target=beat, daemon=True).start()
    try:
        context.tenants = asyncio.run(contexts())
        result = (
            asyncio.run(job.run(context))
            if inspect.iscoroutinefunction(job.run)
            else job.run(context)
        )
        runs.finish(run_id, "succeeded", result=result)  # type: ignore[arg-type]
    except Cancelled:
        runs.finish(run_id, "cancelled")
    except BaseException as error:
        log.exception("run %s of %s failed", run_id, run.job)
        last = traceback.extract_tb(error.__traceback__)[-1]
        runs.finish(
            run_id,
            "failed",
            error=f"{type(error).__name__}: {error} ({last.filename.rsplit('/', 1)[-1]}:{last.lineno})",
        )
    finally:
        stop.set()
        asyncio.run(platform.purge_if_erased(*(tenant.tenant for tenant in context.tenants)))
