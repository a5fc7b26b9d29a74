"""What tenants used, for billing, and what is left of their quotas."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from shoal.contract.bounds import Text
from shoal.contract.context import TenantContext, requires
from shoal.contract.cursors import Cursor, read_cursor, write_cursor
from shoal.contract.errors import Invalid
from shoal.contract.usage import Meter
from shoal.eventlog.keys import KEPT_DAYS, KEPT_MONTHS
from shoal.router.quotas import quota_rules, quota_state, storage_state
from shoal.runtime.context import PlatformContext
from shoal.tenants.usage_ledger import (
    ALL,
    Period,
    periods_between,
    today,
)

from .access import is_operator, require_tenant_access
from .bodies import Body
from .dependencies import Platform

router = APIRouter()


class CountedUse(Body):
    """What was used of one capability (`*`: all together) in a day or month."""

    period: str
    """Such as `2026-11-28` or `2026-11`."""
    capability: str
    requests: int = 0
    items: int = 0
    events: int = 0
    embedding_texts: int = 0
    storage_bytes: int = 0
    """The size of the data when last measured."""


class QuotaState(Body):
    meter: Meter | Literal["storage_bytes"]
    period: Period | None
    """Null for storage, which no period limits."""
    capability: str
    used: int
    limit: int
    resets: AwareDatetime | None


class TenantUse(Body):
    tenant: str
    usage: list[CountedUse]
    quotas: list[QuotaState]


class Usage(Body):
    tenants: list[TenantUse]
    cursor: str | None


class UsageQuery:
    """The periods that a request asks for, by default the days of this month."""

    def __init__(
        self,
        from_: date | None = Query(None, alias="from"),
        to: date | None = None,
        by: Literal["day", "month"] = "day",
        capability: str | None = Query(None, max_length=32),
    ) -> None:
        last = to or datetime.now(UTC).date()
        first = from_ or last.replace(day=1)
        kept = KEPT_DAYS if by == "day" else KEPT_MONTHS * 31
        if first > last or last - first >= timedelta(days=kept):
            message = f"must be at most `to`, and at most {kept} days before it"
            raise Invalid.at("query.from", message)
        self.periods = periods_between(first, last, by)
        self.capability = capability


@router.get("/usage", responses={200: {"model": Usage}})
async def list_usage(
    platform: Platform,
    query: UsageQuery = Depends(),
    limit: int = Query(20, ge=1, le=100),
    cursor: Cursor = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """What a tenant used, by day or month (UTC) and capability, and its quotas.

    To the operator all tenants, in pages of `limit`; to any other caller its own. For
    an admin or the tenant's own service. Counts are up to ten seconds old.
    """
    after = read_cursor("platform.usage", cursor, str)
    if not is_operator(ctx):
        return {"tenants": [await _usage(platform, ctx.tenant, query)], "cursor": None}
    records, last = await platform.directory.list_tenants(limit, after)
    return {
        "tenants": [await _usage(platform, record.id, query) for record in records],
        "cursor": last and write_cursor("platform.usage", last),
    }


@router.get("/tenants/{id}/usage", responses={200: {"model": TenantUse}})
async def get_usage(
    id: Text,
    platform: Platform,
    query: UsageQuery = Depends(),
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """What one tenant used, as in `GET /platform/usage`."""
    require_tenant_access(ctx, id)
    await platform.directory.get_tenant(id)
    return await _usage(platform, id, query)


async def _usage(platform: PlatformContext, tenant: str, query: UsageQuery) -> dict[str, Any]:
    used = await platform.usage.ledger.read(tenant, query.periods)
    return {
        "tenant": tenant,
        "usage": [
            {"period": u.period, "capability": u.capability, **u.counts}
            for u in used
            if query.capability in (None, u.capability)
        ],
        "quotas": await _quotas(platform, tenant),
    }


async def _quotas(platform: PlatformContext, tenant: str) -> list[dict[str, Any]]:
    """The tenant's quotas, each with what is used of it."""
    limits = await platform.directory.get_limits(tenant)
    [totals] = await platform.usage.ledger.totals([tenant], today())
    quotas = [
        quota_state(rule, totals.used(rule.period, rule.capability, rule.meter))
        for rule in quota_rules(limits)
    ]
    if ALL in limits and (most := limits[ALL].storage_bytes) is not None:
        quotas.append(storage_state(totals.storage, most))
    return quotas
