"""The operation that lists anomalies."""

from datetime import timedelta
from typing import Any

import orjson
from fastapi import APIRouter, Depends

from shoal import Cursor, TenantContext, read_cursor, requires, write_cursor

from . import bodies, keys
from .route_arguments import From, Limit, Metric, To, time_range
from .timestamps import to_rfc3339

READ_AT_ONCE = 1000

router = APIRouter()


@router.get("", responses={200: {"model": bodies.Anomalies}})
async def list_anomalies(
    start: From = None,
    end: To = None,
    metric: Metric = None,
    method: bodies.Method | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """List anomalies with their explanations, newest first.

    From `from` (default: a week ago) to `to` (default: now).
    """
    low, high = time_range(start, end, timedelta(days=7))
    skip = read_cursor("anomalies.anomalies", cursor, int) or 0
    found: list[dict[str, Any]] = []  # after those to skip, and one more than the limit
    matched = offset = 0
    while len(found) <= limit:
        page = await ctx.stores.online.zrevrangebyscore(
            keys.ANOMALIES, f"({high}", low, start=offset, num=READ_AT_ONCE
        )
        for text in page:
            record = orjson.loads(text)
            has_metric = metric is None or record["metric"] == metric
            if has_metric and (method is None or method in record["methods"]):
                matched += 1
                if matched > skip:
                    found.append(record)
        offset += len(page)
        if len(page) < READ_AT_ONCE:
            break
    shown = found[:limit]
    ids = [record["id"] for record in shown]
    feedback = await ctx.stores.online.hmget(keys.FEEDBACK, ids) if ids else []
    return {
        "anomalies": [_to_response(r, f) for r, f in zip(shown, feedback, strict=True)],
        "cursor": write_cursor("anomalies.anomalies", skip + limit) if len(found) > limit else None,
    }


def _to_response(record: dict[str, Any], feedback: bytes | None) -> dict[str, Any]:
    return {
        **record,
        "time": to_rfc3339(record["time"]),
        "since": to_rfc3339(record["since"]),
        "feedback": orjson.loads(feedback) if feedback else None,
    }
