"""A worker of the platform: follows the event log for the capabilities' streams,
archives it, and starts jobs when due.

Any number of workers may run; leases in Redis give each tenant's stream, and each due
job, to one of them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from shoal.contract.capability import Stream
from shoal.contract.errors import Unavailable
from shoal.contract.events import Event

from .cluster import NAMESPACE
from .context import PlatformContext
from .job_process import JobProcess
from .job_runs import FINAL_STATES, Run
from .schedules import last_due

log = logging.getLogger("shoal.worker")

ARCHIVE_EVERY = 30.0
TENANTS_EVERY = 1.0


class Worker:
    """A detached Ray actor; Ray restarts it when it dies, and another worker takes over
    meanwhile.
    """

    def __init__(self) -> None:
        self.id = uuid4().hex[:12]
        self._platform = PlatformContext.current()
        self._runs = self._platform.job_runs
        self._log = self._platform.event_log
        self._stop = asyncio.Event()
        self._zone = ZoneInfo(self._platform.config.timezone)
        self._tenants: list[str] = []
        self._tasks: list[asyncio.Task] = []

    async def start(self) -> str:
        """Begin all loops; its id."""
        if not await self.alive():
            for task in self._tasks:
                task.cancel()
            await self._refresh_tenants()
            loops: list[Awaitable[None]] = [
                self._every(TENANTS_EVERY, self._refresh_tenants),
                self._every(0.5, self._start_jobs),
                self._every(1.0, self._schedule),
                self._every(5.0, self._watch_runs),
                self._every(ARCHIVE_EVERY, self._archive),
                *self._streams(),
            ]
            self._tasks = [asyncio.ensure_future(loop) for loop in loops]
        return self.id

    async def stop(self) -> None:
        """Finish the batches at hand and let the leases go."""
        self._stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def alive(self) -> bool:
        """Whether it has begun, and none of its loops has ended."""
        return bool(self._tasks) and all(not t.done() for t in self._tasks)

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while not self._stop.is_set():
            try:
                await act()
            except Unavailable as error:
                log.warning("%s: %s", act.__name__, error)
            except Exception:
                log.exception("%s failed; it is tried again", act.__name__)
            try:
                await asyncio.wait_for(self._stop.wait(), seconds)
            except TimeoutError:
                continue

    async def _refresh_tenants(self) -> None:
        self._tenants = await self._platform.directory.tenant_ids()

    # Streams

    def _streams(self) -> list[Awaitable[None]]:
        return [
            self._follow(group, capability.name, stream)
            for group, (capability, stream) in self._platform.streams().items()
        ]

    async def _follow(self, group: str, capability: str, stream: Stream) -> None:
        async def handle(tenant: str, events: Sequence[Event]) -> None:
            try:
                context = await self._platform.context(tenant, capability)
                await stream.handle(context, events)
            finally:
                await self._platform.purge_if_erased(tenant)

        async def tenants() -> list[str]:
            return self._tenants

        while not self._stop.is_set():
            try:
                await self._log.consume(
                    group,
                    self.id,
                    handle,
                    types=stream.types,
                    tenants=tenants,
                    stop=self._stop,
                    batch_size=stream.batch_size,
                )
            except Exception:
                log.exception("the stream %s broke off; it is taken up again", group)
                await asyncio.sleep(1)

    async def _archive(self) -> None:
        for tenant in self._tenants:
            try:
                await self._log.archive(tenant)
            except Unavailable:
                raise
            except Exception:  # one log that cannot be archived must not keep the others from it
                log.exception("archiving the log of %s failed; it is tried again", tenant)

    # Jobs

    async def _schedule(self) -> None:
        now = datetime.now(UTC)
        for name, job in self._platform.jobs().items():
            when = last_due(job, self._zone, now)
            if when is not None:
                await asyncio.to_thread(self._runs.schedule, name, when)

    async def _start_jobs(self) -> None:
        while run := await asyncio.to_thread(self._runs.claim, self._platform.config.jobs_at_once):
            self._spawn(run)
            await self._mark_overdue(run)

    def _spawn(self, run: Run) -> None:
        import ray

        ray.remote(num_cpus=0, max_restarts=0)(JobProcess).options(
            name=f"job {run.job} {run.id}.{run.attempt}", lifetime="detached"
        ).remote(run.id)

    async def _watch_runs(self) -> None:
        for run in await asyncio.to_thread(self._runs.requeue_lost):
            log.warning("run %s of %s: its process died (attempt %d)", run.id, run.job, run.attempt)
        for run in await asyncio.to_thread(self._runs.unfinished):
            if run.state not in FINAL_STATES:
                await self._mark_overdue(run)

    async def _mark_overdue(self, run: Run) -> None:
        """A run that is past its deadline is late: once, and as an event of those it is
        for.
        """
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
            await self._platform.open_stores(tenant).events.append([event])


async def ensure_workers(platform: PlatformContext, stop: asyncio.Event) -> None:
    """See to it that the configured number of workers lives. Run by the platform's
    ingress, so wherever Shoal is deployed there are workers.
    """
    import ray
    from ray.exceptions import RayError

    while not stop.is_set():
        for number in range(platform.config.workers):
            try:
                remote: Any = ray.remote(Worker)
                actor = (
                    remote
                    .options(
                        name=f"shoal worker {number}", namespace=NAMESPACE, lifetime="detached", get_if_exists=True,
                        num_cpus=0, max_restarts=-1, max_task_retries=0,
                    )
                    .remote()
                )  # fmt: skip
                if not await actor.alive.remote():
                    await actor.start.remote()
            except RayError as error:
                log.warning("worker %d: %s", number, error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 2)


async def stop_workers(platform: PlatformContext) -> None:
    """Let the workers finish what they have in hand, and end them."""
    import ray

    for number in range(platform.config.workers):
        try:
            actor = ray.get_actor(f"shoal worker {number}", namespace=NAMESPACE)
        except ValueError:
            continue
        with contextlib.suppress(Exception):
            await asyncio.wait_for(actor.stop.remote(), 10)
        ray.kill(actor)
