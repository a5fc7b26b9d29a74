"""The process that does one job run."""

import asyncio
import inspect
import logging
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from shoal.contract.capability import Job
from shoal.contract.context import TenantContext
from shoal.contract.errors import NotFound, Unavailable

from .context import PlatformContext
from .job_runs import JobRuns, Progress, Run

log = logging.getLogger("shoal.jobs")

HEARTBEAT_SECONDS = 2.0
PROGRESS_SECONDS = 0.2
"""Progress that is reported more often is not written."""


class Cancelled(Exception):
    """Raised in a job by `progress` once its run was cancelled."""


class JobProcess:
    """A Ray actor that does one run and ends itself.

    It is detached, so that it has no owner whose end would end it.
    """

    def __init__(self, run_id: str) -> None:
        threading.Thread(target=self._work, args=(run_id,)).start()

    def _work(self, run_id: str) -> None:
        import ray

        try:
            execute_run(run_id)
        finally:
            ray.kill(ray.get_runtime_context().current_actor)


class RunningJob:
    """The `JobContext` of a run."""

    tenants: Sequence[TenantContext] = ()
    arguments: Mapping[str, Any]

    def __init__(self, runs: JobRuns, run: Run, zone: ZoneInfo) -> None:
        self.run_id, self.arguments = run.id, run.arguments
        self.scheduled_for = run.scheduled_for.astimezone(zone)
        self._runs = runs
        self._reported = float("-inf")
        self._cancelled = threading.Event()
        self._ended = threading.Event()

    def progress(self, done: float, total: float, message: str = "") -> None:
        if self._cancelled.is_set():
            raise Cancelled
        now = time.monotonic()
        if now - self._reported > PROGRESS_SECONDS or done >= total:
            self._reported = now
            progress = Progress(done=done, total=total, message=message)
            self._runs.update(self.run_id, progress=progress)

    def __enter__(self) -> "RunningJob":
        threading.Thread(target=self._send_heartbeats, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _send_heartbeats(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                if self._runs.heartbeat(self.run_id):
                    self._cancelled.set()
            except Unavailable:
                continue


def execute_run(run_id: str, platform: PlatformContext | None = None) -> None:
    """Do a claimed run. Whatever the job raises becomes the run's `error`."""
    platform = platform or PlatformContext.current()
    runs = platform.job_runs
    run = runs.get(run_id)
    capability, job = platform.job(run.job)
    zone = ZoneInfo(job.timezone or platform.config.timezone)
    with RunningJob(runs, run, zone) as running:
        try:
            running.tenants = asyncio.run(_contexts(platform, capability.name, run.tenant))
            runs.finish(run_id, "succeeded", result=_call(job, running))
        except Cancelled:
            runs.finish(run_id, "cancelled")
        except BaseException as error:
            log.exception("run %s of %s failed", run_id, run.job)
            runs.finish(run_id, "failed", error=_describe(error))
        finally:
            tenants = [context.tenant for context in running.tenants]
            asyncio.run(platform.purge_if_erased(*tenants))


async def _contexts(
    platform: PlatformContext, capability: str, tenant: str | None
) -> list[TenantContext]:
    """The contexts of one tenant, or of all."""
    tenants = await platform.tenants()
    if tenant is not None and tenant not in tenants:
        raise NotFound(f"no tenant {tenant!r}")
    chosen = tenants if tenant is None else [tenant]
    return [await platform.context(name, capability) for name in chosen]


def _call(job: Job, running: RunningJob) -> Any:
    if inspect.iscoroutinefunction(job.run):
        return asyncio.run(job.run(running))
    return job.run(running)


def _describe(error: BaseException) -> str:
    """An error with the place where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
