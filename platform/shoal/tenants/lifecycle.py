"""A tenant's beginning and end, across every store and plugin."""

import asyncio
from typing import TYPE_CHECKING

from shoal.runtime.job_runs import Runs
from shoal.stores.erasure import erase

from .directory import Directory

if TYPE_CHECKING:
    from shoal.runtime.context import PlatformContext


async def notify_tenant_added(platform: "PlatformContext", tenant: str) -> None:
    """Tell every plugin that a tenant was made."""
    for name in platform.plugins.capabilities:
        hook = platform.plugins.hook(name, "shoal_tenant_added")
        if hook is not None:
            await hook(await platform.context(tenant, name))


async def erase_tenant(
    platform: "PlatformContext", directory: Directory, tenant: str
) -> dict[str, int]:
    """Erase a tenant: its keys stop working first, its runs of jobs go, then every
    plugin forgets it, then the stores, and at last the directory. What is still at work
    for it then (a request, a batch of events, a job of all tenants) erases at its end
    what it wrote meanwhile: see `PlatformContext.purge_if_erased`.

    Called again after a fault it goes on where it was. NotFound when there is no such
    tenant.
    """
    await directory.begin_removal(tenant)
    counts = {"jobs.runs": await asyncio.to_thread(Runs(platform.stores.online).forget, tenant)}
    for name in platform.plugins.capabilities:
        hook = platform.plugins.hook(name, "shoal_tenant_removed")
        if hook is not None:
            for what, count in (await hook(await platform.context(tenant, name)) or {}).items():
                counts[f"{name}.{what}"] = count
    counts |= {
        f"stores.{store}": count for store, count in (await erase(platform.stores, tenant)).items()
    }
    counts |= {
        f"directory.{kind}": count
        for kind, count in (await directory.delete_tenant(tenant)).items()
    }
    return counts
