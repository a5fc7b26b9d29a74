"""Anomaly detection: series that turn odd, and the alerts that people get of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from importlib import import_module
from typing import Any

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

from .detector import DEFAULT_THRESHOLD, score_series
from .parameters import AnomalyParameters

__all__ = ["DEFAULT_THRESHOLD", "AnomalyParameters", "score_series"]


def _routes(services: Services) -> Any:
    return import_module(f"{__name__}.routes").routes(services)


async def _page(page: PageContext) -> None:
    await import_module(f"{__name__}.page").page(page)


def _job(name: str, summary: str, **schedule: Any) -> Job:
    async def run(job: JobContext) -> Mapping[str, Any]:
        work: Callable[[JobContext], Awaitable[Mapping[str, Any]]] = getattr(
            import_module(f"{__name__}.jobs"), name
        )
        return await work(job)

    return Job(name, run, summary, **schedule)


@cache
def _watcher() -> Any:
    return import_module(f"{__name__}.stream_processor").Watcher()


async def _handle(ctx: TenantContext, events: Sequence[Event]) -> None:
    await _watcher().handle(ctx, events)


def _load(path: str) -> Any:
    return import_module(f"{__name__}.study").load(path)


def _objective(parameters: Any, data: Any) -> float:
    score: float = import_module(f"{__name__}.study").objective(parameters, data)
    return score


@hookimpl
async def shoal_tenant_removed(ctx: TenantContext) -> Mapping[str, int]:
    """What a tenant has in an InfluxDB; the four stores are erased by the platform."""
    from .influx import InfluxArchive
    from .storage import StoreSettings

    uri = ctx.services.settings(StoreSettings).series
    if not uri:
        return {}
    archive = InfluxArchive(uri, ctx.tenant)
    await archive.erase()
    await archive.close()
    return {"influxdb databases": 1}


@hookimpl
def shoal_capabilities() -> Sequence[Capability]:
    return [
        Capability(
            "anomalies",
            "Flags spikes, drops and odd combinations per tenant, and manages the alerts.",
            routes=_routes,
            parameters=AnomalyParameters,
            jobs=[
                _job(
                    "fit",
                    "Fits seasons and forests to up to 90 days.",
                    cron="30 2 * * *",
                    deadline=timedelta(hours=3),
                ),
                _job(
                    "keep",
                    "Writes new points to the long-term store and drops old ones.",
                    cron="*/10 * * * *",
                ),
                _job(
                    "learn",
                    "Searches the parameters that people's feedback asks for, and suggests them.",
                    cron="30 5 * * *",
                ),
            ],
            streams=[Stream("points", ("metric",), _handle, batch_size=1000)],
            page=_page,
            study=Study(load=_load, objective=_objective, metric="NAB score"),
        )
    ]
