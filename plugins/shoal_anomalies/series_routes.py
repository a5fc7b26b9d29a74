"""Operations on metrics and series: points in, series out."""

import asyncio
import math
from collections.abc import Mapping
from datetime import timedelta
from itertools import chain
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from numpy.typing import NDArray

from shoal import BatchResult, Invalid, NotFound, TenantContext, off_loop, requires, rows_body

from . import bodies, keys, recent_points
from .influx_routes import TimestampUnit
from .intake import JSON, MAX_POINTS, POINT_SCHEMA, append_points, read_points
from .recent_points import SeriesPoints
from .route_arguments import From, Metric, To, time_range
from .seasonal_model import SeasonalModel
from .storage import open_archive
from .stored_models import load_season
from .stored_series import StoredSeries, load_all_series, load_series
from .timestamps import to_rfc3339
from .usual_range import usual_ranges

MAX_SHOWN = 10_000  # points
BEFORE = timedelta(days=7)  # what is shown, for what to expect of it
METRICS_BODY = rows_body(POINT_SCHEMA, MAX_POINTS, "text/plain")

LABELS = {
    "parameters": [
        {
            "name": "labels",
            "in": "query",
            "style": "form",
            "explode": True,
            "description": "`label.<name>=<value>` selects among the series of a metric.",
            "schema": {
                "type": "object",
                "additionalProperties": {"type": "string", "maxLength": 200},
                "propertyNames": {"pattern": r"^label\."},
                "maxProperties": 20,
            },
        }
    ]
}

router = APIRouter()


@router.post("/metrics", openapi_extra=METRICS_BODY, responses={200: {"model": BatchResult}})
async def add_metrics(
    request: Request,
    precision: TimestampUnit = "ns",
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> dict[str, Any]:
    """Add points: JSON, NDJSON, or InfluxDB line protocol (`text/plain`).

    Valid points are accepted; the others are reported by their index (or line).
    """
    content_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    batch = await off_loop(read_points, await request.body(), content_type, precision)
    points = list(chain.from_iterable(batch.accepted.values()))
    await append_points(ctx, points)
    return {**batch.response(), "accepted": len(points)}


@router.get("/metrics", responses={200: {"model": bodies.SeriesList}})
async def list_metrics(ctx: TenantContext = Depends(requires("read:tenant"))) -> dict[str, Any]:
    """List the tenant's series: metric, labels, and the id for `GET /series`."""
    stored = await ctx.stores.online.hgetall(keys.SERIES)
    series = [{"series": k, **info.public()} for k, info in load_all_series(stored).items()]
    return {"series": sorted(series, key=lambda s: (s["metric"], sorted(s["labels"].items())))}


@router.get(
    "/series", openapi_extra=LABELS, responses={200: {"model": bodies.SeriesPoints}, 404: {}}
)
async def get_series(
    request: Request,
    metric: Metric = None,
    series: str | None = Query(None, pattern="^[0-9a-f]{16}$"),
    start: From = None,
    end: To = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """One series: times, values, the expected band, and scores.

    From `from` (default: a day ago) to `to` (exclusive, default: now). Without a fitted
    season, the band is from the days or the points before each point. A number that is
    unknown is null. If a metric has several series, `label.<name>=<value>` selects one.
    """
    low, high = time_range(start, end, timedelta(days=1))
    labels = {k[6:]: v for k, v in request.query_params.multi_items() if k.startswith("label.")}
    name, info = await find_series(ctx, metric, series, labels)
    season = load_season(name, await ctx.stores.online.hget(keys.SEASONS, name))
    before = 0.0 if season else BEFORE.total_seconds()
    known = await _read_points(ctx, name, low - before, high)
    points = known.between(low, high)
    if len(points) > MAX_SHOWN:
        raise Invalid(
            f"{len(points)} points; at most {MAX_SHOWN} at once: choose a shorter time range"
        )
    band = await asyncio.to_thread(_expected, season, known, len(known) - len(points))
    expected, lower, upper = map(finite_or_null, band)
    return {
        "series": name,
        **info.public(),
        "times": [to_rfc3339(t) for t in points.times.tolist()],
        "values": finite_or_null(points.values),
        "scores": finite_or_null(points.scores),
        "expected": expected,
        "lower": lower,
        "upper": upper,
    }


def _expected(season: SeasonalModel | None, known: SeriesPoints, first: int) -> NDArray[np.float64]:
    """Rows: the expected values, the lower and the upper ends, from a point on."""
    usual = usual_ranges(known.times, known.values, first)
    if season is None or first == len(known):
        return usual
    band = np.stack(season.band(known.times[first:]))
    return np.where(np.isfinite(band[0]), band, usual)


async def _read_points(ctx: TenantContext, name: str, start: float, end: float) -> SeriesPoints:
    """Points from Redis, and from the long-term store where those begin too late."""
    packed = await ctx.stores.online.get(keys.recent_points(name))
    recent = recent_points.merge_records(recent_points.unpack(packed))
    points = recent.between(start, end)
    # Recent points are complete from the first scored one on: points that were not
    # scored came late and may be of any time.
    scored = recent.times[~np.isnan(recent.scores)]
    if not len(scored) or scored[0] > start:
        archived = await open_archive(ctx).read(name, start, end)
        points = recent_points.merge_points(archived, points)
    return points


async def find_series(
    ctx: TenantContext,
    metric: str | None,
    series: str | None,
    labels: Mapping[str, str],
    within: str = "query.",
) -> tuple[str, StoredSeries]:
    """The id and the info of a series, by its id or by metric and labels.

    Args:
        ctx: The tenant's context.
        metric: The series' metric.
        series: The id of the series.
        labels: Its labels, or some of them.
        within: What the locations of errors begin with; empty in a body.

    Raises:
        NotFound: There is no such series.
        Invalid: Neither is given, or several series match.
    """
    if series:
        info = load_series(series, await ctx.stores.online.hget(keys.SERIES, series))
        if info is None:
            raise NotFound(f"no series {series!r}")
        return series, info
    if not metric:
        errors = [{"location": f"{within}metric", "message": "missing"}]
        raise Invalid("a metric or a series is required", errors=errors)
    stored = await ctx.stores.online.hgetall(keys.SERIES)
    matching = {
        name: info
        for name, info in load_all_series(stored).items()
        if info.metric == metric and labels.items() <= info.labels.items()
    }
    if not matching:
        raise NotFound(f"no series of {metric!r}" + (f" with {labels}" if labels else ""))
    if len(matching) == 1:
        return next(iter(matching.items()))
    exact = [name for name, info in matching.items() if info.labels == labels]
    if len(exact) == 1:
        return exact[0], matching[exact[0]]
    raise Invalid(
        f"{len(matching)} series of {metric!r}: choose one by its labels "
        "(label.<name>=<value>) or by series=",
        errors=[
            {"location": f"{within}series", "message": f"{name}: {info.kind} {info.labels}"}
            for name, info in list(matching.items())[:20]
        ],
    )


def finite_or_null(numbers: NDArray[np.float64]) -> list[float | None]:
    """The numbers for JSON, which has no NaN and no infinity."""
    return [x if math.isfinite(x) else None for x in numbers.tolist()]
