"""Operations for feedback: verdicts, missed anomalies, labels and suggestions."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import orjson
from fastapi import APIRouter, Depends, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from shoal import Identifier, Invalid, NotFound, TenantContext, Text, requires

from . import bodies, keys
from .config_routes import put_entry
from .feedback import read_labelled_series
from .intake import JSON
from .points import RETENTION
from .route_arguments import From, is_number
from .series_routes import find_series, finite_or_null
from .storage import open_archive
from .timestamps import to_rfc3339

MAX_LABELLED = 500_000  # points at once

router = APIRouter()


class Feedback(BaseModel):
    """A person's verdict on an anomaly."""

    model_config = ConfigDict(extra="forbid")
    anomaly: bool = Field(description="false: this was not an anomaly")
    note: str = Field("", max_length=1000)


class Missed(BaseModel):
    """An anomaly that was not found.

    The series is given by its id, or by metric and labels.
    """

    model_config = ConfigDict(extra="forbid")
    series: str | None = Field(None, pattern="^[0-9a-f]{16}$")
    metric: str | None = Field(None, max_length=200)
    labels: dict[Text, Text] = Field(default_factory=dict, max_length=20)
    start: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    note: str = Field("", max_length=1000)

    @model_validator(mode="after")
    def _in_retention(self) -> Self:
        now = datetime.now(UTC)
        if not timedelta(0) <= self.end - self.start <= timedelta(days=7):
            raise ValueError("`to` must be after `from`, by a week at most")
        if self.start < now - RETENTION or self.end > now + timedelta(minutes=5):
            raise ValueError(f"must be in the last {RETENTION.days} days")
        return self


@router.post("/{id}/feedback", responses={200: {"model": bodies.FeedbackGiven}})
async def give_feedback(
    id: Identifier, body: Feedback, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Say whether an anomaly was one; `shoal tune anomalies` learns from it."""
    series, _, time = id.rpartition("-")
    if not series or not is_number(time):
        raise NotFound(f"no anomaly {id!r}")
    candidates = await ctx.stores.online.zrangebyscore(keys.ANOMALIES, int(time) - 1, int(time) + 1)
    if not any(orjson.loads(candidate)["id"] == id for candidate in candidates):
        raise NotFound(f"no anomaly {id!r}")
    record = {"anomaly": body.anomaly, "note": body.note, "by": ctx.user, "time": _now()}
    await ctx.stores.online.hset(keys.FEEDBACK, id, orjson.dumps(record))
    return {"id": id, "feedback": record}


@router.post("/missed", responses={200: {"model": bodies.MissedAnomaly}, 404: {}, 409: {}})
async def report_missed(
    body: Missed, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Report an anomaly that was not found.

    `anomalies.learn` and `shoal tune anomalies` learn from it.
    """
    series, _ = await find_series(ctx, body.metric, body.series, body.labels, within="")
    span = {"series": series, "from": body.start.timestamp(), "to": body.end.timestamp()}
    id = f"{series}-{span['from']:.0f}-{span['to']:.0f}"
    details = {"note": body.note, "by": ctx.user, "time": _now()}
    await put_entry(ctx, keys.MISSED, id, orjson.dumps({**span, **details}))
    return {"id": id, "series": series, "from": body.start, "to": body.end, **details}


@router.get("/labels", responses={200: {"model": bodies.Labels}})
async def list_labels(
    start: From = None, ctx: TenantContext = Depends(requires("read:tenant"))
) -> Response:
    """List the series with feedback, as `shoal tune anomalies --from` reads them.

    Since `from` (default: 90 days ago), with the times in which they were anomalous
    (`windows`) and in which they were not (`denied`).
    """
    records = await read_labelled_series(
        ctx, open_archive(ctx), start.timestamp() if start else 0.0
    )
    count = sum(len(record["times"]) for record in records)
    if count > MAX_LABELLED:
        raise Invalid(
            f"{count} points; at most {MAX_LABELLED} at once: choose a shorter time by `from`"
        )
    return Response(await asyncio.to_thread(_labels_json, records), media_type=JSON)


@router.get("/suggestion", responses={200: {"model": bodies.Suggestion}})
async def get_suggestion(ctx: TenantContext = Depends(requires("read:tenant"))) -> dict[str, Any]:
    """The parameters that the feedback suggests, by the last run of `anomalies.learn`.

    Null with too little feedback; `parameters` is null if the current ones are best.
    """
    stored = await ctx.stores.online.get(keys.SUGGESTION)
    return {"suggestion": orjson.loads(stored) if stored else None}


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _labels_json(records: list[dict[str, Any]]) -> bytes:
    shown = [
        {
            **record,
            "times": [to_rfc3339(time) for time in record["times"].tolist()],
            "values": finite_or_null(record["values"]),
            "windows": [[to_rfc3339(a), to_rfc3339(b)] for a, b in record["windows"]],
            "denied": [[to_rfc3339(a), to_rfc3339(b)] for a, b in record["denied"]],
        }
        for record in records
    ]
    return orjson.dumps({"series": shown})
