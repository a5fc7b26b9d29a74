"""The audit log: every write is recorded shortly after its response."""

from collections.abc import Callable

from .directory import Directory
from .outbox import Outbox
from .records import AuditEntry


class AuditLog:
    """Delivers audit entries to the directory.

    Entries are delivered within a quarter of a second, and before a clean stop. They
    wait while the directory is unavailable; once ten thousand wait, writes wait too.
    """

    def __init__(self, directory: Directory, tenant_exists: Callable[[str], bool]) -> None:
        self._directory, self._tenant_exists = directory, tenant_exists
        self._outbox: Outbox[tuple[str, AuditEntry]] = Outbox("audit", self._deliver, linger=0.1)

    async def record(self, tenant: str, entry: AuditEntry) -> None:
        await self._outbox.put((tenant, entry))

    async def close(self) -> None:
        await self._outbox.close()

    async def _deliver(self, entries: list[tuple[str, AuditEntry]]) -> None:
        by_tenant: dict[str, list[AuditEntry]] = {}
        for tenant, entry in entries:
            if self._tenant_exists(tenant):  # a late entry must not recreate an erased tenant
                by_tenant.setdefault(tenant, []).append(entry)
        for tenant, own in by_tenant.items():
            await self._directory.append_audit(tenant, own)
