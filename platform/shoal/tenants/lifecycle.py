"""Creating and erasing a tenant, across the directory, the stores and the plugins."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from shoal.stores.configuration import StoreConfig

from .directory import Directory
from .erasure import erase_data, rewrite_files, take_noted
from .records import TenantRecord


@dataclass(frozen=True, slots=True)
class Erasure:
    """What the erasure of a tenant did.

    Attributes:
        erased: How much was erased, by `<where>.<kind>`.
        remains: By place, what is still there, and until when.
    """

    erased: Mapping[str, int]
    remains: Mapping[str, str]


REMAINS = {
    "audit": "the platform's own audit log says who erased the tenant, and when",
    "directory": "its id is kept for 7 days, so that work in progress erases what it wrote",
    "backups": "backups made before still hold the tenant, until you delete them",
}
"""What remains of every tenant."""


async def create_tenant(
    tenant: str,
    name: str | None,
    *,
    directory: Directory,
    notify_plugins: Callable[[str], Awaitable[object]],
) -> TenantRecord:
    """Create a tenant and tell every plugin.

    Args:
        tenant: The new tenant's id.
        name: Its display name; None for the id.
        directory: Where it is entered.
        notify_plugins: Calls the plugins' hook `shoal_tenant_added` for a tenant.

    Raises:
        Conflict: The tenant exists.
        Invalid: The id or the name is not valid.
    """
    record = await directory.create_tenant(tenant, name)
    await notify_plugins(tenant)
    return record


async def erase_tenant(
    tenant: str,
    *,
    directory: Directory,
    stores: StoreConfig,
    forget_job_runs: Callable[[str], int],
    notify_plugins: Callable[[str], Awaitable[Mapping[str, int]]],
) -> Erasure:
    """Erase a tenant from the platform.

    Its keys stop working first, then its job runs go, then what plugins keep of it,
    then its data in the stores, then its directory entries. At last the Redis servers
    write their files anew, which still hold what was deleted. What still works for the
    tenant at that time (a request, a batch of events, a job of all tenants) erases
    at its end what it wrote meanwhile, and notes how much for the counts: see
    `PlatformContext.purge_if_erased`. After an error, call this again to continue.

    Args:
        tenant: The tenant's id.
        directory: Where the tenant is entered.
        stores: Where the tenant's data is.
        forget_job_runs: Deletes a tenant's job runs and counts them; it may block.
        notify_plugins: Calls the plugins' hook `shoal_tenant_removed` for a tenant and
            returns their counts by `<plugin>.<kind>`.

    Raises:
        NotFound: There is no such tenant.
        Unavailable: A store cannot be reached.
    """
    await directory.begin_removal(tenant)
    job_runs = await asyncio.to_thread(forget_job_runs, tenant)
    plugins = await notify_plugins(tenant)
    data = await erase_data(stores, tenant)
    entries = await directory.delete_tenant(tenant)
    unwritten = await rewrite_files(stores)
    meanwhile = await take_noted(directory.redis, tenant)
    erased = {
        "jobs.runs": job_runs,
        **plugins,
        **{f"stores.{store}": n + meanwhile.get(store, 0) for store, n in data.items()},
        **{f"directory.{kind}": count for kind, count in entries.items()},
    }
    return Erasure(erased, REMAINS | {f"stores.{s}": reason for s, reason in unwritten.items()})
