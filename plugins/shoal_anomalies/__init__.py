"""Anomaly detection: unusual points in time series, and alerts about them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from shoal import (
    Capability,
    Event,
    Job,
    JobContext,
    PageContext,
    Services,
    Stream,
    Study,
    TenantContext,
    hookimpl,
)

from .alarm_policy import DEFAULT_THRESHOLD
from .detector import score_series
from .parameters import AnomalyParameters

if TYPE_CHECKING:
    from fastapi import APIRouter

    from .stream_processor import StreamProcessor

__all__ = ["DEFAULT_THRESHOLD", "AnomalyParameters", "score_series"]

# The imports in functions keep heavy libraries out of processes that do not need them.


def _routes(services: Services) -> "APIRouter":
    from .routes import routes

    return routes(services)


async def _draw_page(page: PageContext) -> None:
    from .page import draw_page

    await draw_page(page)


async def _fit(job: JobContext) -> Mapping[str, Any]:
    from .jobs import fit

    return await fit(job)


async def _keep(job: JobContext) -> Mapping[str, Any]:
    from .jobs import keep

    return await keep(job)


async def _learn(job: JobContext) -> Mapping[str, Any]:
    from .jobs import learn

    return await learn(job)


@cache
def _stream_processor() -> "StreamProcessor":
    from .stream_processor import StreamProcessor

    return StreamProcessor()


async def _handle(ctx: TenantContext, events: Sequence[Event]) -> None:
    await _stream_processor().handle(ctx, events)


def _load_study(path: str) -> Any:
    from .study import load_labelled_series

    return load_labelled_series(path)


def _objective(parameters: Any, data: Any) -> float:
    from .study import objective

    return objective(parameters, data)


@hookimpl
async def shoal_tenant_removed(ctx: TenantContext) -> Mapping[str, int]:
    """Delete the tenant's InfluxDB database; the platform erases its own stores."""
    from .influx import InfluxArchive
    from .settings import AnomalySettings

    uri = ctx.services.settings(AnomalySettings).series
    if not uri:
        return {}
    archive = InfluxArchive(uri, ctx.tenant, ctx.services.egress)
    await archive.erase()
    return {"influxdb databases": 1}


@hookimpl
def shoal_capabilities() -> Sequence[Capability]:
    return [
        Capability(
            "anomalies",
            "Detects spikes, drops and unusual combinations per tenant, and manages alerts.",
            routes=_routes,
            parameters=AnomalyParameters,
            jobs=[
                Job(
                    "fit",
                    _fit,
                    "Fits seasons and forests to up to 90 days.",
                    cron="30 2 * * *",
                    deadline=timedelta(hours=3),
                ),
                Job(
                    "keep",
                    _keep,
                    "Archives new points, deletes old ones, and sends overdue notices.",
                    cron="*/10 * * * *",
                ),
                Job(
                    "learn",
                    _learn,
                    "Suggests parameters that fit people's feedback better.",
                    cron="30 5 * * *",
                ),
            ],
            streams=[Stream("points", ("metric",), _handle, batch_size=1000)],
            page=_draw_page,
            study=Study(load=_load_study, objective=_objective, metric="NAB score"),
        )
    ]
