"""Job runs: what was asked for, what runs and what came of it, kept in Redis."""

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal
from uuid import uuid4

import orjson
from pydantic import AwareDatetime, BaseModel, Field

from shoal.contract.errors import Conflict, NotFound
from shoal.stores.redis_client import blocking_redis, translate_errors
from shoal.tenants.keyspace import PREFIX

LOST_SECONDS = 20.0
"""Seconds without a heartbeat after which a run's process counts as dead."""
MAX_ATTEMPTS = 3
MAX_FINISHED = 1000
"""Finished runs that are kept."""
MAX_UNFINISHED = 100
"""Unfinished runs that one tenant may have."""
PAGE = 200

ALL = f"{PREFIX}runs"
"""Sorted set: every run by its creation time."""
QUEUE = f"{PREFIX}runs:queue"
"""List: the queued runs, oldest first."""
RUNNING = f"{PREFIX}runs:running"
"""Sorted set: the running runs by the time of their last heartbeat."""
FINISHED = f"{PREFIX}runs:finished"
"""Sorted set: the finished runs by the time of their end."""

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


class Progress(BaseModel):
    done: float = 0
    total: float = 0
    message: str = ""


class Run(BaseModel):
    """One run of a job, for one tenant or (`tenant` None) for all."""

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


_ADD = """
-- KEYS: the run, all runs, the queue. ARGV: the run's id, its creation time, its fields.
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
"""
_SCHEDULE = """
-- KEYS: when the job was last due, the run, all runs, the queue.
-- ARGV: when it is due now, the run's id, its creation time, its fields.
local last = redis.call('GET', KEYS[1])
if last and tonumber(ARGV[1]) <= tonumber(last) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
if not last then return 0 end
redis.call('HSET', KEYS[2], unpack(ARGV, 4))
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
redis.call('RPUSH', KEYS[4], ARGV[2])
return 1
"""
_CLAIM = """
-- KEYS: the queue, the running runs.
-- ARGV: what a run's key begins with, the time, how many may run, the new fields.
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return false end
local run = redis.call('LPOP', KEYS[1])
while run and redis.call('EXISTS', ARGV[1] .. run) == 0 do run = redis.call('LPOP', KEYS[1]) end
if run then
  redis.call('ZADD', KEYS[2], ARGV[2], run)
  redis.call('HINCRBY', ARGV[1] .. run, 'attempt', 1)
  redis.call('HSET', ARGV[1] .. run, unpack(ARGV, 4))
end
return run
"""
_UPDATE = """
-- KEYS: the run. ARGV: the fields to set, unless the run was deleted.
return redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HSET', KEYS[1], unpack(ARGV))
"""
_FINISH = """
-- KEYS: the run, the running, finished and all runs.
-- ARGV: the run's id, the time, how many to keep, what a run's key begins with, the new fields.
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
-- KEYS: the run, the running runs, the queue.
-- ARGV: the run's id, how many attempts a run has, the new fields.
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) return end
if tonumber(redis.call('HGET', KEYS[1], 'attempt')) >= tonumber(ARGV[2]) then return end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('RPUSH', KEYS[3], ARGV[1])
"""
_FORGET = """
-- KEYS: the run, the queue, the running, finished and all runs. ARGV: the run's id.
redis.call('DEL', KEYS[1])
redis.call('LREM', KEYS[2], 0, ARGV[1])
for i = 3, 5 do redis.call('ZREM', KEYS[i], ARGV[1]) end
"""


class JobRuns:
    """The job runs in a Redis, for workers, job processes and the API.

    Every change of a run is one atomic script, so two workers cannot both claim it. All
    methods block, may be called from any thread, and raise `Unavailable` when Redis
    cannot be reached.

    Args:
        uri: The Redis or Redis Cluster.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @cached_property
    def _redis(self) -> Any:
        """Made on first use, since a cluster's client connects at once."""
        with translate_errors():
            return blocking_redis(self._uri)

    def _eval(self, script: str, keys: Sequence[str], *args: Any) -> Any:
        with translate_errors():
            return self._redis.eval(script, len(keys), *keys, *args)

    # Asking for runs, and following them

    def add(
        self,
        job: str,
        *,
        tenant: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        due: datetime | None = None,
    ) -> Run:
        """Queue a run; a worker starts it within a second.

        Args:
            job: `<capability>.<job>`.
            tenant: Whom it is for; None for all tenants.
            arguments: What the job is given; must be JSON.
            due: When it should have started; None for now.
        """
        run = _new_run(job, tenant=tenant, arguments=arguments, due=due)
        keys = (_key(run.id), ALL, QUEUE)
        self._eval(_ADD, keys, run.id, run.created.timestamp(), *_fields(run.model_dump()))
        return run

    def schedule(self, job: str, due: datetime) -> bool:
        """Queue a cron job's run, once for all workers.

        A job that is seen for the first time is not queued: nothing is made up for.

        Returns:
            Whether this call queued it.
        """
        run = _new_run(job, due=due)
        keys = (f"{PREFIX}cron:{job}", _key(run.id), ALL, QUEUE)
        times = (due.timestamp(), run.id, run.created.timestamp())
        return bool(self._eval(_SCHEDULE, keys, *times, *_fields(run.model_dump())))

    def get(self, run_id: str) -> Run:
        """A run by its id; NotFound when there is none."""
        with translate_errors():
            fields = self._redis.hgetall(_key(run_id))
        if not fields:
            raise NotFound(f"no run {run_id!r}")
        return _run(fields)

    def recent(self, *, tenant: str | None = None, limit: int = 50) -> list[Run]:
        """The newest runs first; with a tenant, only those for that tenant alone."""
        found: list[Run] = []
        start = 0
        with translate_errors():
            while ids := self._redis.zrevrange(ALL, start, start + PAGE - 1):
                found += [run for run in self._read(ids) if tenant is None or run.tenant == tenant]
                if len(found) >= limit:
                    break
                start += PAGE
        return found[:limit]

    def unfinished(self) -> list[Run]:
        """The running runs, then the queued ones in their order."""
        with translate_errors():
            ids = self._redis.zrange(RUNNING, 0, -1) + self._redis.lrange(QUEUE, 0, -1)
            return self._read(ids)

    def count_unfinished(self, tenant: str) -> int:
        """How many unfinished runs are for this tenant alone."""
        return sum(run.tenant == tenant for run in self.unfinished())

    def cancel(self, run_id: str) -> Run:
        """Cancel a run: at once while queued, at its next `progress` while running.

        Raises:
            Conflict: It has finished.
            NotFound: There is no such run.
        """
        run = self.get(run_id)
        if run.state in FINAL_STATES:
            raise Conflict(f"run {run_id} has already finished: {run.state}")
        with translate_errors():
            self._redis.hset(_key(run_id), "cancel", "1")
            if run.state == "queued" and self._redis.lrem(QUEUE, 0, run_id):
                self.finish(run_id, "cancelled")
        return self.get(run_id)

    def forget_tenant(self, tenant: str) -> int:
        """Delete the runs for this tenant alone; return how many there were.

        The process of one that runs is told to stop at its next heartbeat.
        """
        runs = self.recent(tenant=tenant, limit=sys.maxsize)
        for run in runs:
            self._eval(_FORGET, (_key(run.id), QUEUE, RUNNING, FINISHED, ALL), run.id)
        return len(runs)

    # What workers and job processes use

    def claim(self, max_running: int = 1_000) -> Run | None:
        """Take the oldest queued run; None if none is, or `max_running` run."""
        started = _fields({"state": "running", "started": datetime.now(UTC)})
        run_id = self._eval(_CLAIM, (QUEUE, RUNNING), _key(""), time.time(), max_running, *started)
        return self.get(run_id) if run_id else None

    def update(self, run_id: str, **changes: Any) -> None:
        """Set fields of a run, unless it was deleted."""
        self._eval(_UPDATE, (_key(run_id),), *_fields(changes))

    def heartbeat(self, run_id: str) -> bool:
        """Report that the run's process is alive; return whether the run must stop."""
        with translate_errors():
            self._redis.zadd(RUNNING, {run_id: time.time()}, xx=True)
            cancel, job = self._redis.hmget(_key(run_id), "cancel", "job")
        return cancel == "1" or job is None

    def finish(
        self,
        run_id: str,
        state: State,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """Enter how a run ended, unless it was deleted."""
        now = datetime.now(UTC)
        changes: dict[str, Any] = {"state": state, "finished": now, "error": error}
        changes["result"] = dict(result) if result else None
        keys = (_key(run_id), RUNNING, FINISHED, ALL)
        limits = (run_id, now.timestamp(), MAX_FINISHED, _key(""))
        self._eval(_FINISH, keys, *limits, *_fields(changes))

    def requeue_lost(self) -> list[Run]:
        """Queue the runs whose process died again, or fail them after `MAX_ATTEMPTS`.

        Returns:
            Those runs, as they were before.
        """
        with translate_errors():
            lost = self._redis.zrangebyscore(RUNNING, 0, time.time() - LOST_SECONDS)
            runs = self._read(lost)
        queued = _fields({"state": "queued", "error": "the process died; the run is retried"})
        for run_id in lost:
            self._eval(_REQUEUE, (_key(run_id), RUNNING, QUEUE), run_id, MAX_ATTEMPTS, *queued)
        for run in runs:
            if run.attempt >= MAX_ATTEMPTS:
                self.finish(run.id, "failed", error=f"the process died {run.attempt} times")
        return runs

    def _read(self, ids: Sequence[str]) -> list[Run]:
        """The runs of these ids that exist."""
        pipe = self._redis.pipeline(transaction=False)
        for run_id in ids:
            pipe.hgetall(_key(run_id))
        return [_run(fields) for fields in pipe.execute() if fields]


def _key(run_id: str) -> str:
    return f"{PREFIX}run:{run_id}"


def _new_run(
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


def _fields(fields: Mapping[str, Any]) -> list[str]:
    """Fields as HSET takes them: name, value, name, value."""
    return [part for name, value in fields.items() for part in (name, _encode(value))]


def _encode(value: Any) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return orjson.dumps(value).decode()


def _run(fields: Mapping[str, str]) -> Run:
    return Run(**{k: orjson.loads(v) for k, v in fields.items() if k in Run.model_fields})
