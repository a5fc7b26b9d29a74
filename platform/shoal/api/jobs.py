"""Jobs and their runs."""

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from shoal.contract.bounds import JsonObject, Text
from shoal.contract.context import TenantContext, requires
from shoal.contract.errors import NotFound
from shoal.contract.names import TenantId
from shoal.runtime.context import PlatformContext
from shoal.runtime.job_runs import FOR_ALL, Progress, Run, RunSummary

from .access import is_operator, require_tenant_access
from .bodies import Body
from .dependencies import Platform

router = APIRouter()


class NewRun(Body):
    tenant: TenantId | None = None
    arguments: JsonObject = Field(default_factory=dict)


class JobState(Body):
    name: str
    summary: str
    cron: str | None
    timezone: str
    deadline_seconds: float | None


class Jobs(Body):
    jobs: list[JobState]


class Runs(Body):
    runs: list[RunSummary]


@router.get("/jobs", responses={200: {"model": Jobs}})
async def list_jobs(
    platform: Platform, ctx: TenantContext = Depends(requires("read:own"))
) -> dict[str, Any]:
    """List the jobs with their schedules."""
    return {
        "jobs": [
            {
                "name": name,
                "summary": job.summary,
                "cron": job.cron,
                "timezone": job.timezone or platform.config.timezone,
                "deadline_seconds": job.deadline.total_seconds() if job.deadline else None,
            }
            for name, job in sorted(platform.jobs().items())
        ]
    }


@router.post("/jobs/{name}/runs", status_code=202, responses={202: {"model": Run}})
async def run_job(
    name: Text,
    platform: Platform,
    body: NewRun | None = None,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> dict[str, Any]:
    """Queue a run of a job.

    A tenant's key runs it for that tenant. The operator may name a tenant, or none to
    run it for all.
    """
    platform.job(name)
    body = body or NewRun()
    tenant = body.tenant if is_operator(ctx) else body.tenant or ctx.tenant
    runs = platform.job_runs
    if tenant is not None:
        require_tenant_access(ctx, tenant)
        await platform.directory.get_tenant(tenant)
    run = await asyncio.to_thread(runs.add, name, tenant=tenant, arguments=body.arguments)
    return run.model_dump(mode="json")


@router.get("/jobs/runs", responses={200: {"model": Runs}})
async def list_runs(
    platform: Platform,
    limit: int = Query(50, ge=1, le=1000),
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """List the newest runs first, without their arguments.

    A tenant sees those for itself, and those for all tenants without what they found.
    """
    recent = platform.job_runs.recent
    if is_operator(ctx):
        found = await asyncio.to_thread(recent, limit=limit)
    else:
        own = await asyncio.to_thread(recent, tenant=ctx.tenant, limit=limit)
        shared = await asyncio.to_thread(recent, tenant=FOR_ALL, limit=limit)
        found = sorted(own + list(map(redact_run, shared)), key=lambda run: run.created)
        found = found[: -limit - 1 : -1]
    return {"runs": [r.model_dump(mode="json", exclude={"arguments"}) for r in found]}


@router.get("/jobs/runs/{id}", responses={200: {"model": Run}})
async def get_run(
    id: Text, platform: Platform, ctx: TenantContext = Depends(requires("read:tenant"))
) -> dict[str, Any]:
    """The state and progress of a run; of one for all tenants, not what it found."""
    run = await asyncio.to_thread(platform.job_runs.get, id)
    if run.tenant is None and not is_operator(ctx):
        return redact_run(run).model_dump(mode="json")
    return (await visible_run(platform, ctx, id)).model_dump(mode="json")


@router.delete("/jobs/runs/{id}", responses={200: {"model": Run}, 409: {}})
async def cancel_run(
    id: Text, platform: Platform, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Cancel a run. 409 when it has finished."""
    await visible_run(platform, ctx, id)
    return (await asyncio.to_thread(platform.job_runs.cancel, id)).model_dump(mode="json")


def redact_run(run: Run) -> Run:
    """A run for all tenants as one tenant may see it: when it ran and how it ended."""
    error = None if run.error is None else "The job failed. The operator sees the cause."
    hidden: dict[str, Any] = {
        "result": None,
        "error": error,
        "arguments": {},
        "progress": Progress(),
    }
    return run.model_copy(update=hidden)


async def visible_run(platform: PlatformContext, ctx: TenantContext, run_id: str) -> Run:
    """A run of the caller's tenant, or any for the operator; else NotFound."""
    run = await asyncio.to_thread(platform.job_runs.get, run_id)
    if not is_operator(ctx) and run.tenant != ctx.tenant:
        raise NotFound(f"no run {run_id!r}")
    return run
