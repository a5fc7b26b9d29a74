"""A tenant's quotas, as one capability's replica holds them against its usage."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shoal.contract.errors import QuotaExceeded
from shoal.contract.usage import METERS, Meter
from shoal.tenants.records import Limits
from shoal.tenants.usage_ledger import ALL, STORAGE, Period, end_of
from shoal.tenants.usage_meter import UsageMeter

STORED: tuple[Meter, ...] = ("items", "events")
"""What takes storage."""
MEASURED_SECONDS = 3600.0
"""How often storage is measured."""
PERIODS: tuple[Period, ...] = ("day", "month")


@dataclass(frozen=True, slots=True)
class QuotaRule:
    """A quota of one meter in a period; `capability` is `*` for all together."""

    meter: Meter
    period: Period
    capability: str
    limit: int


def quota_rules(limits: Mapping[str, Limits]) -> tuple[QuotaRule, ...]:
    """The quotas among limits by capability (`*` for all)."""
    return tuple(
        QuotaRule(meter, period, capability, limit)
        for capability, own in limits.items()
        for period in PERIODS
        if (quota := getattr(own, period)) is not None
        for meter in METERS
        if (limit := getattr(quota, meter)) is not None
    )


def quota_state(rule: QuotaRule, used: int) -> dict[str, Any]:
    """A quota as responses show it."""
    return {
        "meter": rule.meter,
        "period": rule.period,
        "capability": rule.capability,
        "used": used,
        "limit": rule.limit,
        "resets": end_of(rule.period, datetime.now(UTC)).isoformat(),
    }


def storage_state(used: int, limit: int) -> dict[str, Any]:
    """The quota of storage as responses show it: of no period, so it never resets."""
    return {
        "meter": STORAGE,
        "period": None,
        "capability": ALL,
        "used": used,
        "limit": limit,
        "resets": None,
    }


class TenantUsage:
    """See `shoal.contract.usage.Usage`; `has_quotas` tells whether it limits anything.

    Args:
        meter: This process's.
        tenant: The tenant's id.
        capability: What is used.
        limits: The tenant's limits by capability: this one and all (`*`).
    """

    __slots__ = ("_capability", "_meter", "_rules", "_storage", "_tenant", "has_quotas")

    def __init__(
        self,
        meter: UsageMeter,
        tenant: str,
        capability: str,
        limits: Mapping[str, Limits] | None = None,
    ) -> None:
        self._meter, self._tenant, self._capability = meter, tenant, capability
        self._rules = quota_rules(limits or {})
        self._storage = (limits or {}).get(ALL, Limits()).storage_bytes
        self.has_quotas = bool(self._rules) or self._storage is not None

    def add(self, meter: Meter, count: int = 1) -> None:
        self._meter.add(self._tenant, self._capability, meter, count)

    def require(self, meter: Meter, count: int = 1) -> None:
        for rule in self._rules:
            if rule.meter == meter:
                used = self._meter.used(self._tenant, rule.period, rule.capability, meter)
                if used + count > rule.limit:
                    raise _exceeded(rule, used, count)
        if self._storage is not None and meter in STORED:
            used = self._meter.storage(self._tenant)
            if used >= self._storage:
                raise _storage_exceeded(used, self._storage)


class BatchUsage:
    """The `Usage` of a batch of events, counted once the batch is handled.

    Attributes:
        counts: By field of the ledger.
    """

    def __init__(self, capability: str) -> None:
        self._capability = capability
        self.counts: dict[str, int] = {}

    def require(self, meter: Meter, count: int = 1) -> None:
        pass  # the events were accepted before

    def add(self, meter: Meter, count: int = 1) -> None:
        field = f"{self._capability}/{meter}"
        if count > 0:
            self.counts[field] = self.counts.get(field, 0) + count


def _exceeded(rule: QuotaRule, used: int, count: int) -> QuotaExceeded:
    now = datetime.now(UTC)
    resets = end_of(rule.period, now)
    where = "all capabilities" if rule.capability == ALL else rule.capability
    needs = f"and this request needs {count:,} more" if used < rule.limit else "none are left"
    return QuotaExceeded(
        f"the tenant's quota of {rule.limit:,} {rule.meter.replace('_', ' ')} a {rule.period} "
        f"for {where}: {used:,} are used, {needs}; it resets at {resets:%Y-%m-%d %H:%M} UTC",
        quota_state(rule, used),
        (resets - now).total_seconds(),
    )


def _storage_exceeded(used: int, limit: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"the tenant's quota of {limit:,} bytes of storage: {used:,} are used; delete data, "
        "and it is measured again within the hour",
        storage_state(used, limit),
        MEASURED_SECONDS,
    )
