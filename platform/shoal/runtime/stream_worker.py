"""The platform's workers, which follow the event log, archive it, and start jobs.

Any number of them may run: leases in Redis give each tenant's stream, and each due job,
to one of them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from shoal.contract.capability import Stream
from shoal.contract.errors import Conflict, Unavailable
from shoal.contract.events import Event, Rejection
from shoal.eventlog.subscription import Handled
from shoal.router.quotas import BatchUsage
from shoal.tenants.storage_size import measure_storage

from .backlog import BacklogExporter, measure_backlog, measure_index
from .cluster import NAMESPACE, SPREAD
from .context import PlatformContext
from .job_process import JobProcess
from .job_runs import FINAL_STATES, Run
from .kafka import kafka_loops
from .ray_metrics import RejectionCounter
from .schedules import last_due

log = logging.getLogger("shoal.worker")

TENANTS_SECONDS = 1.0
START_JOBS_SECONDS = 0.5
SCHEDULE_SECONDS = 1.0
WATCH_RUNS_SECONDS = 5.0
ARCHIVE_SECONDS = 30.0
BACKLOG_SECONDS = 30.0
MEASURE_SECONDS = 3600.0
ARCHIVE_WAIT = timedelta(minutes=5)
"""How long events wait to be archived together, where fewer than 10,000 do."""
ENSURE_SECONDS = 2.0
STOP_SECONDS = 10.0


class Worker:
    """A detached Ray actor.

    When it dies, Ray restarts it, and another worker takes over in the meantime.

    Args:
        platform: By default this process's, whose rejections are then exported.
        number: Which of the workers this is; the first exports what waits.
    """

    def __init__(self, platform: PlatformContext | None = None, number: int = 1) -> None:
        self.id = uuid4().hex[:12]
        self._exports = platform is None
        self._rejected = RejectionCounter() if platform is None else None
        self._platform = platform or PlatformContext.current()
        self._runs = self._platform.job_runs
        self._log = self._platform.event_log
        self._stop = asyncio.Event()
        self._zone = ZoneInfo(self._platform.config.timezone)
        self._tenants: list[str] = []
        self._tasks: list[asyncio.Future[None]] = []
        self._unscheduled: set[str] = set()
        self._backlog = BacklogExporter(self._platform.groups()) if number == 0 else None

    async def start(self) -> str:
        """Start all loops that do not run yet; the worker's id."""
        if not await self.is_running():
            for task in self._tasks:
                task.cancel()
            await self._refresh_tenants()
            await self._platform.usage.start()
            loops: list[Awaitable[None]] = [
                self._repeat(TENANTS_SECONDS, self._refresh_tenants),
                self._repeat(START_JOBS_SECONDS, self._start_jobs),
                self._repeat(SCHEDULE_SECONDS, self._schedule),
                self._repeat(WATCH_RUNS_SECONDS, self._watch_runs),
                self._repeat(ARCHIVE_SECONDS, self._archive),
                self._repeat(MEASURE_SECONDS, self._measure_storage),
                *(
                    (
                        self._repeat(BACKLOG_SECONDS, self._export_backlog),
                        self._repeat(MEASURE_SECONDS, self._export_index),
                    )
                    if self._backlog
                    else ()
                ),
                *kafka_loops(
                    self._platform, self.id, self._known_tenants, self._stop, self._exports
                ),
                *(
                    self._follow(group, capability.name, stream)
                    for group, (capability, stream) in self._platform.streams().items()
                ),
            ]
            self._tasks = [asyncio.ensure_future(loop) for loop in loops]
        return self.id

    async def stop(self) -> None:
        """Finish the batches in progress and release the leases."""
        self._stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._platform.usage.close()

    async def is_running(self) -> bool:
        """Whether it was started, and none of its loops has ended."""
        return bool(self._tasks) and all(not t.done() for t in self._tasks)

    async def _repeat(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while not self._stop.is_set():
            try:
                await act()
            except Unavailable as error:
                log.warning("%s: %s", act.__name__, error)
            except Exception:
                log.exception("%s failed and will be retried", act.__name__)
            try:
                await asyncio.wait_for(self._stop.wait(), seconds)
            except TimeoutError:
                continue

    async def _refresh_tenants(self) -> None:
        self._tenants = await self._platform.directory.tenant_ids()

    async def _known_tenants(self) -> list[str]:
        return self._tenants

    # Streams

    async def _follow(self, group: str, capability: str, stream: Stream) -> None:
        async def handle(tenant: str, events: Sequence[Event]) -> Handled:
            usage, rejections = BatchUsage(capability), list[Rejection]()
            try:
                context = await self._platform.context(tenant, capability, usage)
                await stream.handle(replace(context, rejections=rejections), events)
                if rejections:
                    log.info("%s of %s rejected %d events", group, tenant, len(rejections))
                    if self._rejected is not None:
                        self._rejected.count(tenant, group, len(rejections))
                return Handled(usage.counts, rejections)
            finally:
                await self._platform.purge_if_erased(tenant)

        while not self._stop.is_set():
            try:
                await self._log.consume(
                    group,
                    self.id,
                    handle,
                    types=stream.types,
                    tenants=self._known_tenants,
                    stop=self._stop,
                    batch_size=stream.batch_size,
                )
            except Exception:
                log.exception("stream %s failed and will be restarted", group)
                await asyncio.sleep(1)

    async def _archive(self) -> None:
        for tenant in self._tenants:
            try:
                if await self._log.archive(tenant, wait=ARCHIVE_WAIT):
                    await self._platform.purge_if_erased(tenant)
            except Unavailable:
                raise
            except Conflict:
                continue  # another worker is at it
            except Exception:  # one tenant's log must not keep the others from being archived
                log.exception("archiving the log of %s failed and will be retried", tenant)

    async def _measure_storage(self) -> None:
        """Enter the bytes of each tenant's data into the ledger, one worker for all."""
        ledger, tenants = self._platform.usage.ledger, list(self._tenants)
        if await ledger.may_measure(MEASURE_SECONDS / 2):
            sizes = await measure_storage(self._platform.stores, tenants)
            erased = await self._platform.directory.erased_among(sizes)
            for tenant in sizes.keys() - erased:
                await ledger.set_storage(tenant, sizes[tenant])

    async def _export_backlog(self) -> None:
        assert self._backlog is not None
        self._backlog.export(await measure_backlog(self._platform, self._tenants))

    async def _export_index(self) -> None:
        assert self._backlog is not None
        self._backlog.export_index(await measure_index(self._platform, self._tenants))

    # Jobs

    async def _schedule(self) -> None:
        now = datetime.now(UTC)
        for name, job in self._platform.jobs().items():
            try:
                when = last_due(job, self._zone, now)
            except Exception as error:  # one job's schedule must not stop those of others
                if name not in self._unscheduled:
                    self._unscheduled.add(name)
                    log.error("job %s is not scheduled: %s", name, error)
                continue
            if when is not None:
                await asyncio.to_thread(self._runs.schedule, name, when)

    async def _start_jobs(self) -> None:
        while run := await asyncio.to_thread(self._runs.claim, self._platform.config.jobs_at_once):
            self._spawn(run)
            await self._mark_overdue(run)

    def _spawn(self, run: Run) -> None:
        import ray

        process: Any = ray.remote(JobProcess)
        name = f"job {run.job} {run.id}.{run.attempt}"
        process.options(**SPREAD, name=name, lifetime="detached", max_restarts=0).remote(run.id)

    async def _watch_runs(self) -> None:
        for run in await asyncio.to_thread(self._runs.requeue_lost):
            log.warning(
                "the process of run %s of %s died in attempt %d", run.id, run.job, run.attempt
            )
        for run in await asyncio.to_thread(self._runs.unfinished):
            if run.state not in FINAL_STATES:
                await self._mark_overdue(run)

    async def _mark_overdue(self, run: Run) -> None:
        """Mark a run as late, once, and append an event to the logs of its tenants."""
        _, job = self._platform.job(run.job)
        if not job.deadline or run.late or datetime.now(UTC) <= run.scheduled_for + job.deadline:
            return
        await asyncio.to_thread(self._runs.update, run.id, late=True)
        for tenant in [run.tenant] if run.tenant else self._tenants:
            event = Event(
                id=f"late/{run.id}",
                source="shoal/jobs",
                type="shoal.job.late",
                subject=run.job,
                data={
                    "job": run.job,
                    "run": run.id,
                    "scheduled_for": run.scheduled_for.isoformat(),
                    "state": run.state,
                },
            )
            await self._platform.open_stores(tenant, "platform").events.append([event])


async def ensure_workers(platform: PlatformContext, stop: asyncio.Event) -> None:
    """Keep the configured number of workers running, until `stop` is set.

    The platform's ingress does, so that there are workers wherever Shoal is deployed.
    """
    from ray.exceptions import RayError

    while not stop.is_set():
        for number in range(platform.config.workers):
            try:
                actor = _get_or_create_worker(number)
                if not await actor.is_running.remote():
                    await actor.start.remote()
            except RayError as error:
                log.warning("worker %d is unavailable: %s", number, error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), ENSURE_SECONDS)


def _worker_name(number: int) -> str:
    return f"shoal worker {number}"


def _get_or_create_worker(number: int) -> Any:
    import ray

    worker: Any = ray.remote(Worker)
    options = {
        "name": _worker_name(number),
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        **SPREAD,
        "max_restarts": -1,
        "max_task_retries": 0,
    }
    return worker.options(**options).remote(None, number)


async def stop_workers(platform: PlatformContext) -> None:
    """Stop the workers after the batches in progress."""
    import ray

    for number in range(platform.config.workers):
        try:
            actor = ray.get_actor(_worker_name(number), namespace=NAMESPACE)
        except ValueError:
            continue
        with contextlib.suppress(Exception):
            await asyncio.wait_for(actor.stop.remote(), STOP_SECONDS)
        ray.kill(actor)
