"""Exposures that this capability logs: a product asking for a unit's variant.

Where a capability's parameters vary, the router logs the exposure itself.
"""

from __future__ import annotations

import hashlib

from shoal import Event, TenantContext

from .aggregation import EXPOSURE
from .repository import Document

LIFETIME_SECONDS = 180 * 86_400


def logged_key(id: str) -> tuple[str, ...]:
    """Set of the digests of the exposures that were logged for an experiment."""
    return ("experiments", "exposed", id)


async def log_exposure(ctx: TenantContext, document: Document, unit: str, variant: str) -> None:
    """Log a unit's first exposure.

    It is logged at least once, always with the same event id, which is also the one
    that the router gives to an exposure.
    """
    unit_type = document.design.unit
    start = document.started_at.isoformat() if document.started_at else ""
    digest = hashlib.sha1(
        "\0".join((document.id, variant, unit_type, unit, start)).encode(), usedforsecurity=False
    )
    key = logged_key(document.id)
    if await ctx.stores.online.sismember(key, digest.digest()):
        return
    event = Event(
        id=digest.hexdigest(),
        source="shoal/router",
        type=EXPOSURE,
        subject=unit,
        data={
            "experiment": document.id,
            "variant": variant,
            "unit": unit,
            "unit_type": unit_type,
            "capability": document.design.capability,
        },
    )
    await ctx.stores.events.append([event])
    await ctx.stores.online.sadd(key, digest.digest())
    await ctx.stores.online.expire(key, LIFETIME_SECONDS)
