"""The audit log's way to the directory: every write is entered, a moment after it was
answered.
"""

from collections.abc import Callable

from .directory import Directory
from .outbox import Outbox
from .records import AuditEntry


class AuditLog:
    """Entries are delivered within a quarter of a second and before a clean end. When
    the directory is away they wait, and once ten thousand do, so do the writes that
    would add to them.
    """

    def __init__(self, directory: Directory, tenant_exists: Callable[[str], bool]) -> None:
        self._directory, self._tenant_exists = directory, tenant_exists
        self._outbox: Outbox[tuple[str, AuditEntry]] = Outbox("audit", self._deliver, linger=0.1)

    async def enter(self, tenant: str, entry: AuditEntry) -> None:
        await self._outbox.put((tenant, entry))

    async def close(self) -> None:
        await self._outbox.close()

    async def _deliver(self, entries: list[tuple[str, AuditEntry]]) -> None:
        by_tenant: dict[str, list[AuditEntry]] = {}
        for tenant, entry in entries:
            if self._tenant_exists(tenant):  # an erased tenant must not come back by a late entry
                by_tenant.setdefault(tenant, []).append(entry)
        for tenant, own in by_tenant.items():
            await self._directory.audit(tenant, own)
