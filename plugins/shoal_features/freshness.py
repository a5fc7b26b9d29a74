"""How fresh a tenant's features are, as one look at Redis tells."""

from typing import Any

import orjson

from .ingest import STATUS, late_key
from .registry import Registry
from .values import moment

MONITORED = ("features", "monitored")
"""Hash: view → JSON of shares of nulls and drift, from the last monitoring."""


async def freshness(door: Any, registry: Registry, now: int) -> list[dict[str, Any]]:
    """Per view: the newest value's event time and age, the stream's lag, how many events came too late, and the latest
    monitored shares of nulls and drift. `now` in µs since 1970; what is not known yet is null."""
    names = [v.name for v in registry.views]
    if not names:
        return []
    pipe = door.pipeline()
    pipe.hmget(STATUS, names)
    pipe.hmget(MONITORED, names)
    for view in registry.views:
        pipe.hlen(late_key(view.name))
    status, monitored, *late = await pipe.execute()
    out = []
    for view, raw, more, n in zip(registry.views, status, monitored, late, strict=True):
        known = orjson.loads(raw) if raw else {}
        event, handled = known.get("event"), known.get("handled")
        entry: dict[str, Any] = {
            "view": view.name,
            "kind": view.kind,
            "newest": moment(event).isoformat() if event is not None else None,
            "age_seconds": max(0.0, (now - event) / 1e6) if event is not None else None,
            "computed": moment(handled).isoformat() if handled is not None else None,
        }
        if view.kind == "stream":
            entry |= {"lag_seconds": max(0.0, (handled - event) / 1e6) if event is not None else None, "too_late": n}
        out.append(entry | {"features": orjson.loads(more) if more else {}})
    return out
