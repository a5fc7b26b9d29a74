"""The HTTP operations of anomaly detection."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shoal import (
    Conflict,
    Event,
    Identifier,
    Invalid,
    Malformed,
    NotFound,
    Services,
    TenantContext,
    TooLarge,
    tenant,
)

from . import keys, tail
from .alerts import Alert
from .channels import Channel
from .courier import Courier
from .line_protocol import records
from .maintenance import MaintenanceWindow
from .points import KEPT, BadPoint, Point, parse_point
from .rules import Rule
from .seasonal import SeasonalModel
from .storage import StoreSettings, archive_of
from .tail import Readings
from .watch import TRIES, Settings, commit, read_settings, rules_of

MOST_POINTS = 50_000
MOST_SHOWN = 10_000
MOST_KEPT = 1_000  # rules, windows, channels: of each
JSON, NDJSON = "application/json", "application/x-ndjson"
Method = Literal["statistical", "seasonal", "multivariate"]
Limit = Annotated[int, Query(ge=1, le=1000)]
METRICS_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}},
            NDJSON: {"schema": {"type": "string"}},
            "text/plain": {"schema": {"type": "string", "description": "InfluxDB line protocol"}},
        },
    }
}


class Feedback(BaseModel):
    """What a person says of an anomaly."""

    model_config = ConfigDict(extra="forbid")
    anomaly: bool = Field(description="false: this was not an anomaly")
    note: str = Field("", max_length=1000)


def routes(services: Services) -> APIRouter:
    router = APIRouter()
    courier = Courier()
    stores = services.settings(StoreSettings)

    @router.post("/metrics", openapi_extra=METRICS_BODY)
    async def add_metrics(
        request: Request,
        precision: str = Query("ns", description="of line protocol's times"),
        ctx: TenantContext = Depends(tenant),
    ) -> dict[str, Any]:
        """Take points: a JSON object, an array, NDJSON, or InfluxDB line protocol (`text/plain`). Good ones are taken, and the others
        named by their index (or line)."""
        body = await request.body()
        kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        points, rejected = read_points(body, kind, precision)
        for first in range(0, len(points), 1000):
            await ctx.stores.events.append([_event(point) for point in points[first : first + 1000]])
        return {"accepted": len(points), "rejected": rejected}

    @router.post("/write", status_code=204)
    async def write(
        request: Request, precision: str = Query("ns"), ctx: TenantContext = Depends(tenant)
    ) -> None:
        """InfluxDB's own write operation, for Telegraf: line protocol; refused as a whole when a line is wrong."""
        points, rejected = read_points(await request.body(), "text/plain", precision)
        if rejected:
            raise Invalid("some lines cannot be taken", errors=[
                {"location": f"line {r['index']}", "message": r["error"]} for r in rejected[:50]
            ])  # fmt: skip
        for first in range(0, len(points), 1000):
            await ctx.stores.events.append([_event(point) for point in points[first : first + 1000]])

    @router.get("/metrics")
    async def list_metrics(ctx: TenantContext = Depends(tenant)) -> dict[str, Any]:
        """The tenant's series: metric, labels, and the id that `GET /series` also takes."""
        known = await ctx.stores.online.hgetall(keys.SERIES)
        listed = [{"series": k.decode(), **_about(orjson.loads(v))} for k, v in known.items()]
        return {"series": sorted(listed, key=lambda s: (s["metric"], sorted(s["labels"].items())))}

    @router.get("/series")
    async def get_series(
        request: Request,
        metric: str | None = Query(None, max_length=200),
        series: str | None = Query(None, pattern="^[0-9a-f]{16}$"),
        start: AwareDatetime | None = Query(None, alias="from"),
        end: AwareDatetime | None = Query(None, alias="to"),
        ctx: TenantContext = Depends(tenant),
    ) -> dict[str, Any]:
        """One series from `from` (default: a day ago) until before `to` (now): times, values, the expected band and scores; null where
        there is none. Where a metric has several series, `label.<name>=<value>` chooses."""
        low, high = _range(start, end, timedelta(days=1))
        chosen, about = await _choose(ctx, metric, series, request)
        blob, model = (
            await ctx.stores.online.get(keys.tail(chosen)),
            await ctx.stores.online.hget(keys.MODELS, chosen),
        )
        hot = tail.merged(tail.unpack(blob))
        readings = hot.between(low, high)
        if not len(hot) or hot.times[0] > low:
            old = await archive_of(stores, ctx).read(chosen, low, high)
            readings = _joined(old, readings)
        if len(readings) > MOST_SHOWN:
            raise Invalid(f"{len(readings)} points; at most {MOST_SHOWN} at once: ask for a shorter time")
        shown = {
            "series": chosen, **_about(about), "times": [_rfc3339(t) for t in readings.times.tolist()],
            "values": _plain(readings.values), "scores": _plain(readings.scores),
        }  # fmt: skip
        band = (
            SeasonalModel.from_dict(orjson.loads(model)).band(readings.times)
            if model and len(readings)
            else None
        )
        for i, name in enumerate(("expected", "lower", "upper")):
            shown[name] = _plain(band[i]) if band else [None] * len(readings)
        return shown

    @router.get("")
    async def list_anomalies(
        start: AwareDatetime | None = Query(None, alias="from"),
        end: AwareDatetime | None = Query(None, alias="to"),
        metric: str | None = Query(None, max_length=200),
        method: Method | None = None,
        limit: Limit = 100,
        cursor: str | None = Query(None, max_length=40),
        ctx: TenantContext = Depends(tenant),
    ) -> dict[str, Any]:
        """Anomalies from `from` (default: a week ago) to `to`, newest first, each with why."""
        low, high = _range(start, end, timedelta(days=7))
        skip = _cursor(cursor)
        wanted, passed, offset = limit + 1, 0, 0
        found: list[dict[str, Any]] = []
        while len(found) < wanted:
            page = await ctx.stores.online.zrevrangebyscore(
                keys.FOUND, f"({high}", low, start=offset, num=1000
            )
            for text in page:
                record = orjson.loads(text)
                if (metric and record["metric"] != metric) or (method and method not in record["methods"]):
                    continue
                passed += 1
                if passed > skip and len(found) < wanted:
                    found.append(record)
            offset += len(page)
            if len(page) < 1000:
                break
        ids = [r["id"] for r in found]
        verdicts = await ctx.stores.online.hmget(keys.FEEDBACK, ids) if ids else []
        shown = [_shown(r, v) for r, v in zip(found[:limit], verdicts, strict=False)]
        return {"anomalies": shown, "cursor": str(skip + limit) if len(found) > limit else None}

    @router.post("/{id}/feedback")
    async def give_feedback(
        id: Identifier, body: Feedback, ctx: TenantContext = Depends(tenant)
    ) -> dict[str, Any]:
        """Say whether an anomaly was one; `shoal tune anomalies` learns from it."""
        series, _, time = id.rpartition("-")
        if not series or not time.isdigit():
            raise NotFound(f"no anomaly {id!r}")
        candidates = await ctx.stores.online.zrangebyscore(keys.FOUND, int(time) - 1, int(time) + 1)
        if not any(orjson.loads(c)["id"] == id for c in candidates):
            raise NotFound(f"no anomaly {id!r}")
        record = {"anomaly": body.anomaly, "note": body.note, "by": ctx.user, "time": _now().isoformat()}
        await ctx.stores.online.hset(keys.FEEDBACK, id, orjson.dumps(record))
        return {"id": id, "feedback": record}

    @router.get("/alerts")
    async def list_alerts(
        state: Literal["open", "acknowledged", "resolved"] | None = None,
        priority: Literal["P1", "P2", "P3"] | None = None,
        limit: Limit = 100,
        cursor: str | None = Query(None, max_length=40),
        ctx: TenantContext = Depends(tenant),
    ) -> dict[str, Any]:
        """Alerts, the newest first; those resolved for more than two hours come from the history (90 days)."""
        settings = await read_settings(ctx)
        listed = [alert_shown(a) for a in settings.book.alerts.values()]
        if state in (None, "resolved"):
            listed += [alert_shown(a) for a in await ctx.stores.online.zrange(keys.HISTORY, 0, -1)]
        listed = [a for a in listed if state in (None, a["state"]) and priority in (None, a["priority"])]
        listed.sort(key=lambda a: (a["opened"], a["id"]), reverse=True)
        skip = _cursor(cursor)
        more = len(listed) > skip + limit
        return {"alerts": listed[skip : skip + limit], "cursor": str(skip + limit) if more else None}

    async def change(ctx: TenantContext, alert: str, act: Any) -> dict[str, Any]:
        for _ in range(TRIES):
            settings = await read_settings(ctx)
            before = orjson.dumps(settings.book.to_dict())
            if alert not in settings.book.alerts:
                raise NotFound(f"no alert {alert!r}, or it has been resolved for long")
            notices = act(settings)
            record = alert_shown(settings.book.alerts[alert])
            if await commit(ctx, settings, notices, before):
                courier.kick(ctx)
                return record
        raise Conflict("the alert keeps changing; try again")

    @router.post("/alerts/{id}/acknowledge")
    async def acknowledge_alert(id: Identifier, ctx: TenantContext = Depends(tenant)) -> dict[str, Any]:
        """Take it in hand: reminders and escalation stop. Conflict when it is resolved."""

        def act(settings: Settings) -> list[Any]:
            if not settings.book.acknowledge(id, ctx.user, _now()):
                raise Conflict("the alert is resolved already")
            return []

        return await change(ctx, id, act)

    @router.post("/alerts/{id}/resolve")
    async def resolve_alert(id: Identifier, ctx: TenantContext = Depends(tenant)) -> dict[str, Any]:
        """Close it by hand; what still holds opens again."""
        return await change(ctx, id, lambda settings: settings.book.resolve(id, _now()))

    @router.get("/deliveries")
    async def list_deliveries(limit: Limit = 100, ctx: TenantContext = Depends(tenant)) -> dict[str, Any]:
        """The last attempts to tell somebody, newest first, and how many notices wait."""
        pipe = ctx.stores.online.pipeline()
        pipe.lrange(keys.DELIVERIES, 0, limit - 1).hlen(keys.OUTBOX)
        listed, waiting = await pipe.execute()
        shown = [{**(d := orjson.loads(text)), "time": _rfc3339(d["time"])} for text in listed]
        return {"deliveries": shown, "waiting": waiting}

    @router.get("/rules")
    async def list_rules(ctx: TenantContext = Depends(tenant)) -> dict[str, Any]:
        """The rules that hold: the defaults as the tenant changed them."""
        rules = rules_of(await ctx.stores.online.hgetall(keys.RULES))
        return {"rules": {name: rule.model_dump(mode="json") for name, rule in sorted(rules.items())}}

    @router.put("/rules/{id}")
    async def put_rule(id: Identifier, body: Rule, ctx: TenantContext = Depends(tenant)) -> dict[str, Any]:
        """Make or replace a rule. `matches` says how many of today's series it is about."""
        await _put(ctx, keys.RULES, id, body.model_dump_json())
        known = [orjson.loads(v) for v in (await ctx.stores.online.hgetall(keys.SERIES)).values()]
        matches = sum(body.match.covers(s["metric"], s["labels"]) for s in known)
        return {"id": id, **body.model_dump(mode="json"), "matches": matches}

    @router.delete("/rules/{id}", status_code=204)
    async def delete_rule(id: Identifier, ctx: TenantContext = Depends(tenant)) -> None:
        """Remove a rule, a default one too; what only it could clear resolves."""
        if id not in rules_of(await ctx.stores.online.hgetall(keys.RULES)):
            raise NotFound(f"no rule {id!r}")
        await ctx.stores.online.hset(keys.RULES, id, "null")

    @router.get("/channels")
    async def list_channels(ctx: TenantContext = Depends(tenant)) -> dict[str, Any]:
        """The channels, by name; of their URLs only the scheme is shown."""
        stored = await ctx.stores.online.hgetall(keys.CHANNELS)
        return {"channels": {k.decode(): _channel(orjson.loads(v)) for k, v in sorted(stored.items())}}

    @router.put("/channels/{id}")
    async def put_channel(
        id: Identifier, body: Channel, ctx: TenantContext = Depends(tenant)
    ) -> dict[str, Any]:
        """Make or replace a channel: an Apprise URL. Rules name channels by their id."""
        record = {"url": body.url.get_secret_value(), "enabled": body.enabled}
        await _put(ctx, keys.CHANNELS, id, orjson.dumps(record))
        return {"id": id, **_channel(record)}

    @router.delete("/channels/{id}", status_code=204)
    async def delete_channel(id: Identifier, ctx: TenantContext = Depends(tenant)) -> None:
        if not await ctx.stores.online.hdel(keys.CHANNELS, id):
            raise NotFound(f"no channel {id!r}")

    @router.get("/maintenance")
    async def list_maintenance(ctx: TenantContext = Depends(tenant)) -> dict[str, Any]:
        """All maintenance windows, and whether each is open now."""
        stored = await ctx.stores.online.hgetall(keys.WINDOWS)
        listed = {
            k.decode(): _window(MaintenanceWindow.model_validate_json(v)) for k, v in sorted(stored.items())
        }
        return {"maintenance": listed}

    @router.put("/maintenance/{id}")
    async def put_maintenance(
        id: Identifier, body: MaintenanceWindow, ctx: TenantContext = Depends(tenant)
    ) -> dict[str, Any]:
        """Make or replace a window: while it is open, nobody is told of what it matches."""
        await _put(ctx, keys.WINDOWS, id, body.model_dump_json(by_alias=True))
        return {"id": id, **_window(body)}

    @router.get("/maintenance/{id}")
    async def get_maintenance(id: Identifier, ctx: TenantContext = Depends(tenant)) -> dict[str, Any]:
        stored = await ctx.stores.online.hget(keys.WINDOWS, id)
        if stored is None:
            raise NotFound(f"no maintenance window {id!r}")
        return {"id": id, **_window(MaintenanceWindow.model_validate_json(stored))}

    @router.delete("/maintenance/{id}", status_code=204)
    async def delete_maintenance(id: Identifier, ctx: TenantContext = Depends(tenant)) -> None:
        """Remove a window; what it held back and is still wrong alerts with the next point."""
        if not await ctx.stores.online.hdel(keys.WINDOWS, id):
            raise NotFound(f"no maintenance window {id!r}")

    return router


def read_points(body: bytes, kind: str, precision: str) -> tuple[list[Point], list[dict[str, Any]]]:
    """(points, rejected) of a request's body. Malformed when it is not what its content type says."""
    rejected: list[dict[str, Any]] = []
    points: list[Point] = []
    parse: Callable[[Any], list[Any]]
    now = _now()
    if not body.strip():
        raise Malformed("the body is empty")
    if kind == "text/plain":
        try:
            items: list[Any] = body.decode().splitlines()
        except UnicodeDecodeError as fault:
            raise Malformed("line protocol is UTF-8") from fault
        parse = partial(records, precision=precision)
    elif kind == NDJSON:
        items = [line for line in body.splitlines() if line.strip()]
        parse = _one_json
    else:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as fault:
            raise Malformed(f"the body is not JSON: {fault}") from fault
        items = document if isinstance(document, list) else [document]
        parse = _itself
    if len(items) > MOST_POINTS:
        raise TooLarge(f"{len(items)} points; at most {MOST_POINTS} at once")
    for index, item in enumerate(items):
        try:
            points += [parse_point(record, now) for record in parse(item)]
        except BadPoint as fault:
            rejected.append(
                {"index": index, "error": f"{fault.location}: {fault}" if fault.location else str(fault)}
            )
    return points, rejected


def _itself(item: Any) -> list[Any]:
    return [item]


def _one_json(line: bytes) -> list[Any]:
    try:
        return [orjson.loads(line)]
    except orjson.JSONDecodeError as fault:
        raise BadPoint("", f"not JSON: {fault}") from fault


def _event(point: Point) -> Event:
    """The same point is the same event, so that a client may send it again."""
    data: dict[str, Any] = {
        "metric": point.metric,
        "value": point.value,
        "labels": dict(point.labels),
        "kind": point.kind,
    }
    return Event(
        id=f"{point.series}/{point.time.isoformat()}/{point.value!r}",
        source="shoal/anomalies",
        type="metric",
        time=point.time,
        data=data,
    )


async def _put(ctx: TenantContext, place: tuple[str, ...], id: str, text: str | bytes) -> None:
    pipe = ctx.stores.online.pipeline()
    pipe.hexists(place, id).hlen(place)
    known, count = await pipe.execute()
    if not known and count >= MOST_KEPT:
        raise Conflict(f"there are {count} already, and no more are kept")
    await ctx.stores.online.hset(place, id, text)


async def _choose(
    ctx: TenantContext, metric: str | None, series: str | None, request: Request
) -> tuple[str, Mapping[str, Any]]:
    if series:
        text = await ctx.stores.online.hget(keys.SERIES, series)
        if text is None:
            raise NotFound(f"no series {series!r}")
        return series, orjson.loads(text)
    if not metric:
        raise Invalid(
            "name a metric or a series", errors=[{"location": "query.metric", "message": "missing"}]
        )
    labels = {k[6:]: v for k, v in request.query_params.multi_items() if k.startswith("label.")}
    known = {k.decode(): orjson.loads(v) for k, v in (await ctx.stores.online.hgetall(keys.SERIES)).items()}
    fitting = {
        k: v for k, v in known.items() if v["metric"] == metric and labels.items() <= v["labels"].items()
    }
    if not fitting:
        raise NotFound(f"no series of {metric!r}" + (f" with {labels}" if labels else ""))
    if len(fitting) > 1:
        exact = [k for k, v in fitting.items() if v["labels"] == labels]
        if len(exact) != 1:
            raise Invalid(
                f"{len(fitting)} series of {metric!r}: choose one by its labels (label.<name>=<value>) or by series=",
                errors=[
                    {"location": "query.series", "message": f"{k}: {v['labels']}"}
                    for k, v in list(fitting.items())[:20]
                ],
            )
        return exact[0], fitting[exact[0]]
    return next(iter(fitting.items()))


def _joined(old: Readings, new: Readings) -> Readings:
    import numpy as np

    parts = []
    for part in (old, new):
        records = np.zeros(len(part), tail.RECORD)
        records["time"], records["value"], records["score"] = part.times, part.values, part.scores
        parts.append(records)
    return tail.merged(*parts)


def _range(start: datetime | None, end: datetime | None, default: timedelta) -> tuple[float, float]:
    high = (end or _now() + timedelta(minutes=5)).timestamp()
    low = start.timestamp() if start else high - default.total_seconds()
    if high <= low:
        raise Invalid(
            "`to` is not after `from`", errors=[{"location": "query.to", "message": "not after `from`"}]
        )
    return max(low, _now().timestamp() - KEPT.total_seconds() - 86_400), high


def _cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdigit() or len(cursor) > 9:
        raise Invalid(
            "not a cursor of this list", errors=[{"location": "query.cursor", "message": "unknown"}]
        )
    return int(cursor)


def _now() -> datetime:
    return datetime.now(UTC)


def _rfc3339(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _plain(numbers: Any) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in numbers.tolist()]


def _about(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"metric": record["metric"], "labels": record["labels"], "kind": record.get("kind", "gauge")}


def _shown(record: dict[str, Any], verdict: bytes | None) -> dict[str, Any]:
    return {
        **record, "time": _rfc3339(record["time"]), "since": _rfc3339(record["since"]),
        "feedback": orjson.loads(verdict) if verdict else None,
    }  # fmt: skip


def alert_shown(alert: Alert | bytes) -> dict[str, Any]:
    """An alert as the API shows it: times in RFC 3339, and its sentence."""
    from dataclasses import asdict

    if isinstance(alert, bytes):
        from .alerts import alert_from

        alert = alert_from(orjson.loads(alert))
    record = asdict(alert)
    for name in ("opened", "updated", "acknowledged", "resolved", "notified", "reminded", "escalated"):
        record[name] = _rfc3339(record[name])
    for member in record["members"]:
        for name in ("since", "fired", "cleared"):
            member[name] = _rfc3339(member[name])
    return {**record, "sentence": alert.sentence}


def _channel(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"scheme": record["url"].split("://", 1)[0], "enabled": record.get("enabled", True)}


def _window(window: MaintenanceWindow) -> dict[str, Any]:
    return {**window.model_dump(mode="json", by_alias=True), "active": window.active(_now())}
