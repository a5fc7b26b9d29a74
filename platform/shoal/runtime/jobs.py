"""Runs of jobs: their state in Redis, so that it outlives whoever started them, and the process that does the work."""

import asyncio
import inspect
import logging
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4
from zoneinfo import ZoneInfo

import orjson
import redis
from croniter import croniter
from pydantic import AwareDatetime, BaseModel, Field
from redis.exceptions import RedisError

from ..contract.capability import Job
from ..contract.context import TenantContext
from ..contract.errors import Conflict, NotFound, Unavailable

log = logging.getLogger("shoal.jobs")
PREFIX = "{%shoal}:"
BEAT = 2.0
"""Seconds between the heartbeats of a running job."""
DEAD = 20.0
"""Seconds without a heartbeat after which a run's process counts as dead."""
ATTEMPTS = 3
KEEP = 1000
"""Finished runs that are remembered."""

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


_CLAIM = """
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return false end
local run = redis.call('LPOP', KEYS[1])
if run then
  redis.call('ZADD', KEYS[2], ARGV[2], run)
  redis.call('HINCRBY', ARGV[1] .. run, 'attempt', 1)
end
return run
"""


class Runs:
    """The book of runs in Redis. Every change of a run is one atomic script, so two workers cannot both claim it."""

    def __init__(self, url: str) -> None:
        self._redis: Any = redis.Redis.from_url(url, decode_responses=True, socket_timeout=30, socket_connect_timeout=5, health_check_interval=15)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise Unavailable(f"the job book is away: {type(error).__name__}", retry_after=1) from error

    def add(self, job: str, *, tenant: str | None = None, arguments: Mapping[str, Any] | None = None, due: datetime | None = None) -> Run:
        """Queue a run; a worker takes it within a second."""
        now = datetime.now(UTC)
        run = Run(id=uuid4().hex[:16], job=job, tenant=tenant, arguments=dict(arguments or {}), created=now, scheduled_for=due or now)
        with self._reachable(), self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}run:{run.id}", mapping=_fields(run))
            pipe.zadd(f"{PREFIX}runs", {run.id: now.timestamp()})
            pipe.rpush(f"{PREFIX}runs:queue", run.id)
            pipe.execute()
        return run

    def get(self, run_id: str) -> Run:
        with self._reachable():
            fields = self._redis.hgetall(f"{PREFIX}run:{run_id}")
        if not fields:
            raise NotFound(f"no run {run_id!r}")
        return _run(fields)

    def recent(self, *, tenant: str | None = None, limit: int = 50) -> list[Run]:
        """The newest runs first; with a tenant, only those that are that tenant's alone."""
        with self._reachable():
            ids = self._redis.zrevrange(f"{PREFIX}runs", 0, KEEP)
            found = [_run(f) for f in (self._redis.hgetall(f"{PREFIX}run:{i}") for i in ids) if f]
        return [r for r in found if tenant is None or r.tenant == tenant][:limit]

    def cancel(self, run_id: str) -> Run:
        """Ask a run to stop: at once while queued, at its next `progress` while running. Conflict when it is done."""
        run = self.get(run_id)
        if run.state in DONE:
            raise Conflict(f"the run is {run.state} already")
        with self._reachable():
            self._redis.hset(f"{PREFIX}run:{run_id}", "cancel", "1")
            if run.state == "queued" and self._redis.lrem(f"{PREFIX}runs:queue", 0, run_id):
                self.update(run_id, state="cancelled", finished=datetime.now(UTC))
        return self.get(run_id)

    def update(self, run_id: str, **changes: Any) -> None:
        with self._reachable():
            self._redis.hset(f"{PREFIX}run:{run_id}", mapping={k: _encode(v) for k, v in changes.items()})

    # What workers and running jobs use.

    def claim(self, at_once: int = 1_000) -> Run | None:
        """Take the oldest queued run; None when there is none, or when `at_once` are running."""
        keys = [f"{PREFIX}runs:queue", f"{PREFIX}runs:active"]
        with self._reachable():
            run_id = self._redis.eval(_CLAIM, 2, *keys, f"{PREFIX}run:", time.time(), at_once)
            if not run_id:
                return None
        self.update(run_id, state="running", started=datetime.now(UTC))
        return self.get(run_id)

    def beat(self, run_id: str) -> bool:
        """Say that the run's process lives; True when the run should stop."""
        with self._reachable():
            self._redis.zadd(f"{PREFIX}runs:active", {run_id: time.time()}, xx=True)
            return self._redis.hget(f"{PREFIX}run:{run_id}", "cancel") == "1"

    def finish(self, run_id: str, state: State, *, result: Mapping[str, Any] | None = None, error: str | None = None) -> None:
        self.update(run_id, state=state, finished=datetime.now(UTC), result=dict(result) if result else None, error=error)
        with self._reachable():
            self._redis.zrem(f"{PREFIX}runs:active", run_id)
            for old in self._redis.zrevrange(f"{PREFIX}runs", KEEP, -1):
                self._redis.delete(f"{PREFIX}run:{old}")
                self._redis.zrem(f"{PREFIX}runs", old)

    def reap(self) -> list[Run]:
        """Queue again (up to ATTEMPTS times) or fail the runs whose process has died; they are returned."""
        with self._reachable():
            dead = self._redis.zrangebyscore(f"{PREFIX}runs:active", 0, time.time() - DEAD)
            mine = [i for i in dead if self._redis.zrem(f"{PREFIX}runs:active", i)]
        runs = []
        for run_id in mine:
            run = self.get(run_id)
            if run.attempt < ATTEMPTS:
                self.update(run_id, state="queued", error="its process died; it is tried again")
                with self._reachable():
                    self._redis.rpush(f"{PREFIX}runs:queue", run_id)
            else:
                self.finish(run_id, "failed", error=f"its process died {run.attempt} times")
            runs.append(run)
        return runs

    def active(self) -> list[Run]:
        with self._reachable():
            ids = self._redis.zrange(f"{PREFIX}runs:active", 0, -1) + self._redis.lrange(f"{PREFIX}runs:queue", 0, -1)
        return [self.get(i) for i in ids]

    def once(self, what: str, seconds: float) -> bool:
        """Whether this caller is the first, of all, to do `what` (a name that includes the time it is for)."""
        with self._reachable():
            return bool(self._redis.set(f"{PREFIX}once:{what}", "1", nx=True, ex=int(seconds)))

    def last_due(self, job: str, due: datetime) -> bool:
        """Whether a cron job is due at `due` and nobody has queued that run yet. A job seen for the first time is not."""
        key = f"{PREFIX}cron:{job}"
        with self._reachable():
            last = self._redis.get(key)
            if last is None:
                self._redis.set(key, due.timestamp(), nx=True)
                return False
            return due.timestamp() > float(last) and float(self._redis.getset(key, due.timestamp()) or 0) < due.timestamp()


def _encode(value: Any) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return orjson.dumps(value).decode()


def _fields(run: Run) -> dict[str, str]:
    return {k: _encode(v) for k, v in run.model_dump().items()}


def _run(fields: Mapping[str, str]) -> Run:
    return Run(**{k: orjson.loads(v) for k, v in fields.items() if k in Run.model_fields})


def due(job: Job, zone: ZoneInfo, now: datetime) -> datetime | None:
    """When a scheduled job was last due, at or before `now`, in its zone; None for a job without a schedule."""
    if job.cron is None:
        return None
    local = now.astimezone(ZoneInfo(job.timezone) if job.timezone else zone)
    return croniter(job.cron, local + timedelta(microseconds=1)).get_prev(datetime)


class _Context:
    """The JobContext of a running job."""

    tenants: Sequence[TenantContext]
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
            self._runs.update(self.run_id, progress=Progress(done=done, total=total, message=message))


def work(run_id: str) -> None:
    """Do one claimed run, in a process of its own. Whatever the job raises ends up in the run's `error`."""
    from .process import Process

    process = Process.current()
    runs = Runs(process.stores.online)
    run = runs.get(run_id)
    capability, job = process.job(run.job)
    stop = threading.Event()
    zone = ZoneInfo(job.timezone or process.config.timezone)

    async def contexts() -> list[TenantContext]:
        names = [run.tenant] if run.tenant else await process.tenants()
        return [await process.context(name, capability.name) for name in names]

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
        result = asyncio.run(job.run(context)) if inspect.iscoroutinefunction(job.run) else job.run(context)
        runs.finish(run_id, "succeeded", result=result)  # type: ignore[arg-type]
    except Cancelled:
        runs.finish(run_id, "cancelled")
    except BaseException as error:
        log.exception("run %s of %s failed", run_id, run.job)
        last = traceback.extract_tb(error.__traceback__)[-1]
        runs.finish(run_id, "failed", error=f"{type(error).__name__}: {error} ({last.filename.rsplit('/', 1)[-1]}:{last.lineno})")
    finally:
        stop.set()
        process.close()
