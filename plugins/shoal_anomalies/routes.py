"""The HTTP operations of anomaly detection."""

import asyncio
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from shoal import Conflict, Identifier, Invalid, NotFound, Services, TenantContext, current_tenant

from . import keys, recent_points
from .alert_state import TRIES, Settings, commit, read_settings
from .alerts import Alert
from .config_routes import arrange, put
from .feedback import labelled
from .intake import JSON, NDJSON, event_of, read_points
from .notifier import Courier
from .points import KEPT
from .storage import StoreSettings, archive_of
from .stored_models import load_season

MOST_SHOWN = 10_000
MOST_LABELLED = 500_000  # points of judged series at once
Method = Literal["statistical", "seasonal", "multivariate"]
Limit = Annotated[int, Query(ge=1, le=1000)]
METRICS_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]
                }
            },
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


class Missed(BaseModel):
    """Something odd that nobody was told of: a series, by its id or by metric and
    labels, and when.
    """

    model_config = ConfigDict(extra="forbid")
    series: str | None = Field(None, pattern="^[0-9a-f]{16}$")
    metric: str | None = Field(None, max_length=200)
    labels: dict[str, str] = Field(default_factory=dict, max_length=20)
    start: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    note: str = Field("", max_length=1000)

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if not timedelta(0) <= self.end - self.start <= timedelta(days=7):
            raise ValueError("`to` comes after `from`, by a week at most")
        if not datetime.now(UTC) - KEPT <= self.start or self.end > datetime.now(UTC) + timedelta(
            minutes=5
        ):
            raise ValueError(f"it was in the last {KEPT.days} days, not in the future")
        return self


def routes(services: Services) -> APIRouter:
    router = APIRouter()
    courier = Courier()
    stores = services.settings(StoreSettings)

    @router.post("/metrics", openapi_extra=METRICS_BODY)
    async def add_metrics(
        request: Request,
        precision: str = Query("ns", description="of line protocol's times"),
        ctx: TenantContext = Depends(current_tenant),
    ) -> dict[str, Any]:
        """Take points: a JSON object, an array, NDJSON, or InfluxDB line protocol
        (`text/plain`). Good ones are taken, and the others named by their index (or
        line).
        """
        body = await request.body()
        kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        points, rejected = read_points(body, kind, precision)
        for first in range(0, len(points), 1000):
            await ctx.stores.events.append(
                [event_of(point) for point in points[first : first + 1000]]
            )
        return {"accepted": len(points), "rejected": rejected}

    @router.post("/write", status_code=204)
    async def write(
        request: Request, precision: str = Query("ns"), ctx: TenantContext = Depends(current_tenant)
    ) -> None:
        """InfluxDB's own write operation, for Telegraf: line protocol; refused as a
        whole when a line is wrong.
        """
        points, rejected = read_points(await request.body(), "text/plain", precision)
        if rejected:
            raise Invalid("some lines cannot be taken", errors=[
                {"location": f"line {r['index']}", "message": r["error"]} for r in rejected[:50]
            ])  # fmt: skip
        for first in range(0, len(points), 1000):
            await ctx.stores.events.append(
                [event_of(point) for point in points[first : first + 1000]]
            )

    @router.get("/metrics")
    async def list_metrics(ctx: TenantContext = Depends(current_tenant)) -> dict[str, Any]:
        """The tenant's series: metric, labels, and the id that `GET /series` also
        takes.
        """
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
        ctx: TenantContext = Depends(current_tenant),
    ) -> dict[str, Any]:
        """One series from `from` (default: a day ago) until before `to` (now): times,
        values, the expected band and scores; null where there is none. Where a metric
        has several series, `label.<name>=<value>` chooses.
        """
        low, high = _range(start, end, timedelta(days=1))
        labels = {k[6:]: v for k, v in request.query_params.multi_items() if k.startswith("label.")}
        chosen, about = await _choose(ctx, metric, series, labels)
        blob, model = (
            await ctx.stores.online.get(keys.tail(chosen)),
            await ctx.stores.online.hget(keys.MODELS, chosen),
        )
        hot = recent_points.merged(recent_points.unpack(blob))
        readings = hot.between(low, high)
        # The tail is whole from its first scored point on; what came late and was not
        # scored may be of any time.
        scored = hot.times[~np.isnan(hot.scores)]
        if not len(scored) or scored[0] > low:
            old = await archive_of(stores, ctx).read(chosen, low, high)
            readings = recent_points.joined(old, readings)
        if len(readings) > MOST_SHOWN:
            raise Invalid(
                f"{len(readings)} points; at most {MOST_SHOWN} at once: ask for a shorter time"
            )
        shown = {
            "series": chosen, **_about(about), "times": [_rfc3339(t) for t in readings.times.tolist()],
            "values": _plain(readings.values), "scores": _plain(readings.scores),
        }  # fmt: skip
        season = load_season(chosen, model)
        band = season.band(readings.times) if season and len(readings) else None
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
        ctx: TenantContext = Depends(current_tenant),
    ) -> dict[str, Any]:
        """Anomalies from `from` (default: a week ago) to `to`, newest first, each with
        why.
        """
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
                if (metric and record["metric"] != metric) or (
                    method and method not in record["methods"]
                ):
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
        id: Identifier, body: Feedback, ctx: TenantContext = Depends(current_tenant)
    ) -> dict[str, Any]:
        """Say whether an anomaly was one; `shoal tune anomalies` learns from it."""
        series, _, time = id.rpartition("-")
        if not series or not _digits(time):
            raise NotFound(f"no anomaly {id!r}")
        candidates = await ctx.stores.online.zrangebyscore(keys.FOUND, int(time) - 1, int(time) + 1)
        if not any(orjson.loads(c)["id"] == id for c in candidates):
            raise NotFound(f"no anomaly {id!r}")
        record = {
            "anomaly": body.anomaly,
            "note": body.note,
            "by": ctx.user,
            "time": _now().isoformat(),
        }
        await ctx.stores.online.hset(keys.FEEDBACK, id, orjson.dumps(record))
        return {"id": id, "feedback": record}

    @router.post("/missed")
    async def report_missed(
        body: Missed, ctx: TenantContext = Depends(current_tenant)
    ) -> dict[str, Any]:
        """Say that something odd was not found; `anomalies.learn` and `shoal tune
        anomalies` learn from it.
        """
        series, _ = await _choose(ctx, body.metric, body.series, body.labels)
        span = {"series": series, "from": body.start.timestamp(), "to": body.end.timestamp()}
        id = f"{series}-{span['from']:.0f}-{span['to']:.0f}"
        said = {"note": body.note, "by": ctx.user, "time": _now().isoformat()}
        await put(ctx, keys.MISSED, id, orjson.dumps({**span, **said}))
        return {"id": id, "series": series, "from": body.start, "to": body.end, **said}

    @router.get("/labels")
    async def list_labels(
        start: AwareDatetime | None = Query(None, alias="from"),
        ctx: TenantContext = Depends(current_tenant),
    ) -> Response:
        """The series that people judged, since `from` (default: 90 days ago), with when
        they were truly odd (`windows`) and when not (`denied`): what `shoal tune
        anomalies --from` reads.
        """
        records = await labelled(ctx, archive_of(stores, ctx), start.timestamp() if start else 0.0)
        count = sum(len(r["times"]) for r in records)
        if count > MOST_LABELLED:
            raise Invalid(
                f"{count} points; at most {MOST_LABELLED} at once: ask for a shorter time with `from`"
            )
        return Response(await asyncio.to_thread(_labels, records), media_type=JSON)

    @router.get("/suggestion")
    async def get_suggestion(ctx: TenantContext = Depends(current_tenant)) -> dict[str, Any]:
        """The parameters that people's feedback asks for, by the last run of
        `anomalies.learn`: null with too little feedback, and its `parameters` null
        where none are better than those in force.
        """
        stored = await ctx.stores.online.get(keys.SUGGESTED)
        return {"suggestion": orjson.loads(stored) if stored else None}

    @router.get("/alerts")
    async def list_alerts(
        state: Literal["open", "acknowledged", "resolved"] | None = None,
        priority: Literal["P1", "P2", "P3"] | None = None,
        limit: Limit = 100,
        cursor: str | None = Query(None, max_length=40),
        ctx: TenantContext = Depends(current_tenant),
    ) -> dict[str, Any]:
        """Alerts, the newest first; those resolved for more than two hours come from
        the history (90 days).
        """
        settings = await read_settings(ctx)
        listed = [alert_shown(a) for a in settings.book.alerts.values()]
        if state in (None, "resolved"):
            listed += [alert_shown(a) for a in await ctx.stores.online.zrange(keys.HISTORY, 0, -1)]
        listed = [
            a for a in listed if state in (None, a["state"]) and priority in (None, a["priority"])
        ]
        listed.sort(key=lambda a: (a["opened"], a["id"]), reverse=True)
        skip = _cursor(cursor)
        more = len(listed) > skip + limit
        return {
            "alerts": listed[skip : skip + limit],
            "cursor": str(skip + limit) if more else None,
        }

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
    async def acknowledge_alert(
        id: Identifier, ctx: TenantContext = Depends(current_tenant)
    ) -> dict[str, Any]:
        """Take it in hand: reminders and escalation stop. Conflict when it is resolved."""

        def act(settings: Settings) -> list[Any]:
            if not settings.book.acknowledge(id, ctx.user, _now()):
                raise Conflict("the alert is resolved already")
            return []

        return await change(ctx, id, act)

    @router.post("/alerts/{id}/resolve")
    async def resolve_alert(
        id: Identifier, ctx: TenantContext = Depends(current_tenant)
    ) -> dict[str, Any]:
        """Close it by hand; what still holds opens again."""
        return await change(ctx, id, lambda settings: settings.book.resolve(id, _now()))

    @router.get("/deliveries")
    async def list_deliveries(
        limit: Limit = 100, ctx: TenantContext = Depends(current_tenant)
    ) -> dict[str, Any]:
        """The last attempts to tell somebody, newest first, and how many notices wait."""
        pipe = ctx.stores.online.pipeline()
        pipe.lrange(keys.DELIVERIES, 0, limit - 1).hlen(keys.OUTBOX)
        listed, waiting = await pipe.execute()
        shown = [{**(d := orjson.loads(text)), "time": _rfc3339(d["time"])} for text in listed]
        return {"deliveries": shown, "waiting": waiting}

    arrange(router)
    return router


async def _choose(
    ctx: TenantContext, metric: str | None, series: str | None, labels: Mapping[str, str]
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
    known = {
        k.decode(): orjson.loads(v)
        for k, v in (await ctx.stores.online.hgetall(keys.SERIES)).items()
    }
    fitting = {
        k: v
        for k, v in known.items()
        if v["metric"] == metric and labels.items() <= v["labels"].items()
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


def _range(start: datetime | None, end: datetime | None, default: timedelta) -> tuple[float, float]:
    high = (end or _now() + timedelta(minutes=5)).timestamp()
    low = start.timestamp() if start else high - default.total_seconds()
    if high <= low:
        raise Invalid(
            "`to` is not after `from`",
            errors=[{"location": "query.to", "message": "not after `from`"}],
        )
    return max(low, _now().timestamp() - KEPT.total_seconds() - 86_400), high


def _cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not _digits(cursor) or len(cursor) > 9:
        raise Invalid(
            "not a cursor of this list", errors=[{"location": "query.cursor", "message": "unknown"}]
        )
    return int(cursor)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()  # "²" is a digit too, and no number


def _now() -> datetime:
    return datetime.now(UTC)


def _rfc3339(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _plain(numbers: Any) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in numbers.tolist()]


def _labels(records: list[dict[str, Any]]) -> bytes:
    shown = [
        {**r, "times": [_rfc3339(t) for t in r["times"].tolist()], "values": _plain(r["values"]),
         **{what: [[_rfc3339(a), _rfc3339(b)] for a, b in r[what]] for what in ("windows", "denied")}}
        for r in records
    ]  # fmt: skip
    return orjson.dumps({"series": shown})


def _about(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "metric": record["metric"],
        "labels": record["labels"],
        "kind": record.get("kind", "gauge"),
    }


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
    for name in (
        "opened",
        "updated",
        "acknowledged",
        "resolved",
        "notified",
        "reminded",
        "escalated",
    ):
        record[name] = _rfc3339(record[name])
    for member in record["members"]:
        for name in ("since", "fired", "cleared"):
            member[name] = _rfc3339(member[name])
    return {**record, "sentence": alert.sentence}
