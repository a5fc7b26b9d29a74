"""Exposures that this capability logs: a product asking for a unit's variant.

Where a capability's parameters vary, the router logs the exposure itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from shoal import Event, ExperimentRecord, TenantContext

from .aggregation import EXPOSURE

LIFETIME_SECONDS = 180 * 86_400


def logged_key(id: str) -> tuple[str, ...]:
    """Set of the digests of the exposures that were logged for an experiment."""
    return ("experiments", "exposed", id)


async def log_exposure(
    ctx: TenantContext,
    record: ExperimentRecord,
    unit: str,
    variant: str,
    attributes: Mapping[str, str],
) -> None:
    """Log a unit's first exposure to an experiment or ramp.

    It is logged at least once, always with the same event id, which is also the one
    that the router gives to an exposure.
    """
    start = record.started_at.isoformat() if record.started_at else ""
    digest = hashlib.sha1(
        "\0".join((record.id, variant, record.unit, unit, start)).encode(), usedforsecurity=False
    )
    key = logged_key(record.id)
    if await ctx.stores.online.sismember(key, digest.digest()):
        return
    event = Event(
        id=digest.hexdigest(),
        source="shoal/router",
        type=EXPOSURE,
        subject=unit,
        data={
            "experiment": record.id,
            "variant": variant,
            "unit": unit,
            "unit_type": record.unit,
            "capability": record.capability,
            **({"attributes": attributes} if attributes else {}),
        },
    )
    await ctx.stores.events.append([event])
    await ctx.stores.online.sadd(key, digest.digest())
    await ctx.stores.online.expire(key, LIFETIME_SECONDS)
