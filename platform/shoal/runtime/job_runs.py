"""Job runs: what was asked for, what runs and what came of it, kept in Redis."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal
from uuid import uuid4

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shoal.contract.errors import Conflict, LimitExceeded, NotFound
from shoal.stores.redis_client import blocking_redis, translate_errors
from shoal.tenants.keyspace import PREFIX

LOST_SECONDS = 20.0
"""Seconds without a heartbeat after which a run's process counts as dead."""
MAX_ATTEMPTS = 3
MAX_FINISHED = 200
"""Finished runs that are kept of each tenant, and of those for all tenants."""
MAX_WAITING = 100
"""Waiting runs that one tenant may have."""
MAX_RESULT_BYTES = 64 * 2**10
"""A run's result in JSON; of a larger one only its size is kept."""
PAGE = 200

ALL = f"{PREFIX}runs"
"""Sorted set: every run by its creation time; with `:<tenant>`, those of a tenant."""
FOR_ALL = ""
"""What stands in keys for a tenant's id in the case of a run for all tenants."""
QUEUE = f"{PREFIX}runs:queue"
"""With `:<tenant>`, a list: the tenant's waiting runs, oldest first."""
TURNS = f"{PREFIX}runs:turns"
"""Sorted set: the tenants with waiting runs, by when one of theirs last started."""
RUNNING = f"{PREFIX}runs:running"
"""Sorted set: the running runs by the time of their last heartbeat."""
FINISHED = f"{PREFIX}runs:finished"
"""With `:<tenant>`, a sorted set: its finished runs by the time of their end."""

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class Progress(_Record):
    done: float = 0
    total: float = 0
    message: str = ""


class RunSummary(_Record):
    """A run without its arguments."""

    id: str
    job: str
    tenant: str | None = None
    state: State = "queued"
    progress: Progress = Field(default_factory=Progress)
    attempt: int = 0
    late: bool = False
    created: AwareDatetime
    scheduled_for: AwareDatetime
    started: AwareDatetime | None = None
    finished: AwareDatetime | None = None
    result: dict[str, Any] | None = Field(default=None, description="What the job returned.")
    error: str | None = None


class Run(RunSummary):
    """One run of a job, for one tenant or (`tenant` None) for all."""

    arguments: dict[str, Any] = Field(default={}, description="What the job was called with.")


_ENQUEUE = """
-- Uses: the run's key, all runs, the tenant's runs, its queue, the turns; the time, the
-- run's id, the tenant, the fields from the fourth argument on.
local function enqueue(keys, args)
  redis.call('HSET', keys[1], unpack(args, 4))
  redis.call('ZADD', keys[2], args[1], args[2])
  redis.call('ZADD', keys[3], args[1], args[2])
  redis.call('RPUSH', keys[4], args[2])
  redis.call('ZADD', keys[5], 'NX', args[1], args[3])
end
"""
_ADD = (
    _ENQUEUE
    + """
-- KEYS: see enqueue. ARGV: how many may wait (0: any number), then as enqueue has them.
local most = tonumber(table.remove(ARGV, 1))
if most > 0 and redis.call('LLEN', KEYS[4]) >= most then return 0 end
enqueue(KEYS, ARGV)
return 1
"""
)
_SCHEDULE = (
    _ENQUEUE
    + """
-- KEYS: when the job was last due, then as enqueue has them.
-- ARGV: when it is due now, then as enqueue has them.
local last, due = redis.call('GET', KEYS[1]), table.remove(ARGV, 1)
if last and tonumber(due) <= tonumber(last) then return 0 end
redis.call('SET', table.remove(KEYS, 1), due)
if not last then return 0 end
enqueue(KEYS, ARGV)
return 1
"""
)
_CLAIM = """
-- KEYS: the turns, the running runs.
-- ARGV: what a run's key and what a queue's key begin with, the time, how many may run,
-- how many of one tenant may, the new fields. A run's tenant is JSON: "acme" or null.
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return false end
local running = {}
for _, run in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local owner = redis.call('HGET', ARGV[1] .. run, 'tenant')
  if owner then running[owner] = (running[owner] or 0) + 1 end
end
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local owner = tenant == '' and 'null' or '"' .. tenant .. '"'
  if (running[owner] or 0) < tonumber(ARGV[5]) then
    local queue = ARGV[2] .. tenant
    local run = redis.call('LPOP', queue)
    while run and redis.call('EXISTS', ARGV[1] .. run) == 0 do run = redis.call('LPOP', queue) end
    if redis.call('LLEN', queue) == 0 then redis.call('ZREM', KEYS[1], tenant)
    else redis.call('ZADD', KEYS[1], ARGV[3], tenant) end
    if run then
      redis.call('ZADD', KEYS[2], ARGV[3], run)
      redis.call('HINCRBY', ARGV[1] .. run, 'attempt', 1)
      redis.call('HSET', ARGV[1] .. run, unpack(ARGV, 6))
      return run
    end
  end
end
return false
"""
_UPDATE = """
-- KEYS: the run. ARGV: the fields to set, unless the run was deleted.
return redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HSET', KEYS[1], unpack(ARGV))
"""
_FINISH = """
-- KEYS: the run, the running, the tenant's finished, all and the tenant's runs.
-- ARGV: the run's id, the time, how many to keep, what a run's key begins with, the new fields.
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
for _, old in ipairs(redis.call('ZREVRANGE', KEYS[3], ARGV[3], -1)) do
  redis.call('DEL', ARGV[4] .. old)
  for i = 3, 5 do redis.call('ZREM', KEYS[i], old) end
end
"""
_REQUEUE = """
-- KEYS: the run, the running runs, the tenant's queue, the turns.
-- ARGV: the run's id, how many attempts a run has, the time, the tenant, the new fields.
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) return end
if tonumber(redis.call('HGET', KEYS[1], 'attempt')) >= tonumber(ARGV[2]) then return end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('RPUSH', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[4], 'NX', ARGV[3], ARGV[4])
"""
_FORGET = """
-- KEYS: the run, the tenant's queue, the running, its finished, all and its runs.
-- ARGV: the run's id.
redis.call('DEL', KEYS[1])
redis.call('LREM', KEYS[2], 0, ARGV[1])
for i = 3, 6 do redis.call('ZREM', KEYS[i], ARGV[1]) end
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

        Raises:
            LimitExceeded: `MAX_WAITING` runs of the tenant wait already.
        """
        run = _new_run(job, tenant=tenant, arguments=arguments, due=due)
        most = MAX_WAITING if tenant else 0
        if not self._eval(_ADD, _keys(run), most, *_enqueued(run)):
            raise LimitExceeded(f"{most} runs of {tenant} wait already", retry_after=10)
        return run

    def schedule(self, job: str, due: datetime) -> bool:
        """Queue a cron job's run, once for all workers.

        A job that is seen for the first time is not queued: nothing is made up for.

        Returns:
            Whether this call queued it.
        """
        run = _new_run(job, due=due)
        keys = (f"{PREFIX}cron:{job}", *_keys(run))
        return bool(self._eval(_SCHEDULE, keys, due.timestamp(), *_enqueued(run)))

    def get(self, run_id: str) -> Run:
        """A run by its id; NotFound when there is none."""
        with translate_errors():
            fields = self._redis.hgetall(_key(run_id))
        if not fields:
            raise NotFound(f"no run {run_id!r}")
        return _run(fields)

    def recent(self, *, tenant: str | None = None, limit: int = 50) -> list[Run]:
        """The newest runs first, without their arguments.

        Args:
            tenant: Only those for this tenant alone; `FOR_ALL` for those of no tenant.
            limit: The largest number of runs.
        """
        key = ALL if tenant is None else f"{ALL}:{tenant}"
        with translate_errors():
            return self._read(self._redis.zrevrange(key, 0, limit - 1))

    def unfinished(self) -> list[Run]:
        """The running runs, then the waiting ones, tenant by tenant."""
        with translate_errors():
            ids = self._redis.zrange(RUNNING, 0, -1)
            for tenant in self._redis.zrange(TURNS, 0, -1):
                ids += self._redis.lrange(f"{QUEUE}:{tenant}", 0, -1)
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
            if run.state == "queued" and self._redis.lrem(f"{QUEUE}:{run.tenant or ''}", 0, run_id):
                self.finish(run_id, "cancelled")
        return self.get(run_id)

    def forget_tenant(self, tenant: str) -> int:
        """Delete the runs for this tenant alone; return how many there were.

        The process of one that runs is told to stop at its next heartbeat.
        """
        mine = f"{ALL}:{tenant}"
        with translate_errors():
            ids = self._redis.zrange(mine, 0, -1)
            self._redis.zrem(TURNS, tenant)
        for run_id in ids:
            keys = (_key(run_id), f"{QUEUE}:{tenant}", RUNNING, f"{FINISHED}:{tenant}", ALL, mine)
            self._eval(_FORGET, keys, run_id)
        return len(ids)

    # What workers and job processes use

    def claim(self, max_running: int = 1_000) -> Run | None:
        """Take a waiting run; None if none may start, or `max_running` run.

        The tenants take turns. One of them never runs more than all but one of
        `max_running`, so that a run of another can start.
        """
        started = _fields({"state": "running", "started": datetime.now(UTC)})
        most = (_key(""), f"{QUEUE}:", time.time(), max_running, max(1, max_running - 1))
        run_id = self._eval(_CLAIM, (TURNS, RUNNING), *most, *started)
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
        changes["result"] = _bounded(dict(result)) if result else None
        with translate_errors():
            tenant = orjson.loads(self._redis.hget(_key(run_id), "tenant") or "null") or ""
        keys = (_key(run_id), RUNNING, f"{FINISHED}:{tenant}", ALL, f"{ALL}:{tenant}")
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
            tenants = {run.id: run.tenant or "" for run in runs}
        queued = _fields({"state": "queued", "error": "the process died; the run is retried"})
        for run_id in lost:
            tenant = tenants.get(run_id, "")
            keys = (_key(run_id), RUNNING, f"{QUEUE}:{tenant}", TURNS)
            self._eval(_REQUEUE, keys, run_id, MAX_ATTEMPTS, time.time(), tenant, *queued)
        for run in runs:
            if run.attempt >= MAX_ATTEMPTS:
                self.finish(run.id, "failed", error=f"the process died {run.attempt} times")
        return runs

    def _read(self, ids: Sequence[str]) -> list[Run]:
        """The runs of these ids that exist, without their arguments."""
        names = [name for name in Run.model_fields if name != "arguments"]
        found: list[Run] = []
        for start in range(0, len(ids), PAGE):
            pipe = self._redis.pipeline(transaction=False)
            for run_id in ids[start : start + PAGE]:
                pipe.hmget(_key(run_id), names)
            for values in pipe.execute():
                fields = {k: v for k, v in zip(names, values, strict=True) if v is not None}
                if "id" in fields:
                    found.append(_run(fields))
        return found


def _key(run_id: str) -> str:
    return f"{PREFIX}run:{run_id}"


def _keys(run: Run) -> tuple[str, ...]:
    """The keys of a run that is queued, as the scripts take them."""
    tenant = run.tenant or ""
    return (_key(run.id), ALL, f"{ALL}:{tenant}", f"{QUEUE}:{tenant}", TURNS)


def _enqueued(run: Run) -> list[Any]:
    """What is entered of a run that is queued, as the scripts take it."""
    return [run.created.timestamp(), run.id, run.tenant or "", *_fields(run.model_dump())]


def _bounded(result: dict[str, Any]) -> dict[str, Any]:
    size = len(orjson.dumps(result, default=str))
    return {"omitted_bytes": size} if size > MAX_RESULT_BYTES else result


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
