"""How fresh a tenant's features are, as one look at Redis tells."""

from typing import Any

import orjson

from .ingest import STATUS, ahead_key, late_key
from .registry import Registry
from .values import moment

MONITORED = ("features", "monitored")
"""Hash: view → JSON of shares of nulls and drift, from the last monitoring."""


async def freshness(door: Any, registry: Registry, now: int) -> list[dict[str, Any]]:
    """Per view: the newest value's event time and age, the stream's lag (from the
    newest event of the batch handled last to its being handled), how many events came
    too late and how many are ahead of time, and the latest monitored shares of nulls
    and drift. `now` in µs since 1970; what is not known yet is null.
    """
    names = [v.name for v in registry.views]
    if not names:
        return []
    pipe = door.pipeline()
    pipe.hmget(STATUS, names)
    pipe.hmget(MONITORED, names)
    for view in registry.views:
        pipe.hlen(late_key(view.name))
        pipe.zcard(ahead_key(view.name))
    status, monitored, *counts = await pipe.execute()
    out = []
    for view, raw, more, late, ahead in zip(
        registry.views, status, monitored, counts[::2], counts[1::2], strict=True
    ):
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
            lag = known.get("lag")
            entry |= {
                "lag_seconds": lag / 1e6 if lag is not None else None,
                "too_late": late,
                "ahead_of_time": ahead,
            }
        out.append(entry | {"features": orjson.loads(more) if more else {}})
    return out
