"""The platform as a capability like the others, and the job it brings."""

from fastapi import APIRouter

from shoal.contract.capability import Capability, Job, JobContext
from shoal.contract.context import Services

from . import (
    audit,
    boards,
    capabilities,
    erasures,
    events,
    experiments,
    jobs,
    keys,
    parameters,
    roles,
    tenants,
    usage,
)
from .scim import routes as scim


def routes(services: Services) -> APIRouter:
    """All operations of the platform."""
    router = APIRouter()
    for resource in (
        tenants,
        keys,
        roles,
        boards,
        events,
        erasures,
        capabilities,
        parameters,
        experiments,
        jobs,
        audit,
        usage,
    ):
        router.include_router(resource.router)
    router.include_router(scim.router)
    return router


async def compact(job: JobContext) -> dict[str, int]:
    """Merge the small files of each tenant's lake."""
    merged = 0
    for done, ctx in enumerate(job.tenants):
        job.progress(done, len(job.tenants), ctx.tenant)
        merged += await ctx.stores.lake.compact()
    return {"files_merged": merged}


platform_capability = Capability(
    "platform",
    "Tenants, keys, boards, events, jobs, parameters and the audit log.",
    routes=routes,
    jobs=[Job("compact", compact, "Merges the lake's small files of each day.", cron="30 2 * * *")],
)
