"""A tenant's beginning and end, across every store and plugin."""

import asyncio
from typing import TYPE_CHECKING

from shoal.runtime.job_runs import Runs
from shoal.stores.erasure import erase

from .directory import Directory

if TYPE_CHECKING:
    from shoal.runtime.context import Process


async def added(process: "Process", tenant: str) -> None:
    """Tell every plugin that a tenant was made."""
    for name in process.plugins.capabilities:
        hook = process.plugins.hook(name, "shoal_tenant_added")
        if hook is not None:
            await hook(await process.context(tenant, name))


async def erased(process: "Process", directory: Directory, tenant: str) -> dict[str, int]:
    """Erase a tenant: its keys stop working first, its runs of jobs go, then every plugin forgets it, then the stores, and at last
    the directory. What is still at work for it then (a request, a batch of events, a job of all tenants) erases at its end what it
    wrote meanwhile: see `Process.settle`.

    Called again after a fault it goes on where it was. NotFound when there is no such tenant.
    """
    await directory.begin_removal(tenant)
    counts = {"jobs.runs": await asyncio.to_thread(Runs(process.stores.online).forget, tenant)}
    for name in process.plugins.capabilities:
        hook = process.plugins.hook(name, "shoal_tenant_removed")
        if hook is not None:
            for what, count in (await hook(await process.context(tenant, name)) or {}).items():
                counts[f"{name}.{what}"] = count
    counts |= {f"stores.{store}": count for store, count in (await erase(process.stores, tenant)).items()}
    counts |= {f"directory.{kind}": count for kind, count in (await directory.delete_tenant(tenant)).items()}
    return counts
