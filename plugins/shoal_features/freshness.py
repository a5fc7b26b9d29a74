"""How fresh a tenant's features are, read from Redis in one round trip."""

from typing import Any

import orjson

from . import keys
from .registry import Registry
from .values import format_time, from_micros
from .views import View


async def view_freshness(online: Any, registry: Registry, now: int) -> list[dict[str, Any]]:
    """Age, lag and lateness of every view.

    Args:
        online: The tenant's online store.
        registry: The tenant's definitions.
        now: µs since 1970.

    Returns:
        Per view: the event time of its newest value and its age; the stream's lag (from
        the newest event of the last batch to its handling) and how many events came too
        late or are ahead of our clock; and the last measured share of nulls and drift
        per feature. What is unknown is null.
    """
    names = [v.name for v in registry.views]
    if not names:
        return []
    pipe = online.pipeline()
    pipe.hmget(keys.STATUS, names)
    pipe.hmget(keys.PROFILES, names)
    for view in registry.views:
        pipe.hlen(keys.late_events(view.name))
        pipe.zcard(keys.future_events(view.name))
    statuses, profiles, *counts = await pipe.execute()
    return [
        _freshness(view, orjson.loads(status or b"{}"), late, future, now)
        | {"features": orjson.loads(profile or b"{}")}
        for view, status, profile, late, future in zip(
            registry.views, statuses, profiles, counts[::2], counts[1::2], strict=True
        )
    ]


def _freshness(
    view: View, status: dict[str, Any], late: int, future: int, now: int
) -> dict[str, Any]:
    event, handled, lag = status.get("event"), status.get("handled"), status.get("lag")
    entry: dict[str, Any] = {
        "view": view.name,
        "kind": view.kind,
        "newest": format_time(from_micros(event)) if event is not None else None,
        "age_seconds": max(0.0, (now - event) / 1e6) if event is not None else None,
        "computed": format_time(from_micros(handled)) if handled is not None else None,
    }
    if view.kind == "stream":
        entry |= {
            "lag_seconds": lag / 1e6 if lag is not None else None,
            "too_late": late,
            "ahead_of_time": future,
        }
    return entry
