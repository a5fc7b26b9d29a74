"""The feature store: batch and streaming features, served online and point-in-time."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
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
    TenantContext,
    hookimpl,
)


def _routes(services: Services) -> Any:
    return import_module(f"{__name__}.routes").routes(services)


def _commands() -> Any:
    return import_module(f"{__name__}.commands").commands()


async def _page(page: PageContext) -> None:
    await import_module(f"{__name__}.page").page(page)


def _job(name: str, summary: str, **schedule: Any) -> Job:
    """A job whose module is imported when it runs."""

    async def run(job: JobContext) -> Mapping[str, Any]:
        work: Callable[[JobContext], Awaitable[Mapping[str, Any]]] = getattr(
            import_module(f"{__name__}.jobs"), name
        )
        return await work(job)

    return Job(name, run, summary, **schedule)


async def _handle(ctx: TenantContext, events: Sequence[Event]) -> None:
    from .catalog import load_registry
    from .ingest import ingest_events, publish_late_runs, unusable

    registry = await load_registry(ctx)
    for event in events:
        if (reason := unusable(registry, event)) is not None:
            ctx.reject(event, reason)
    await ingest_events(ctx.stores.online, registry, events)
    await publish_late_runs(ctx.stores.events, events)


@hookimpl
def shoal_capabilities() -> Sequence[Capability]:
    return [
        Capability(
            "features",
            "Computes features by batch and by stream, serves them online,"
            " joins them point-in-time for training.",
            routes=_routes,
            jobs=[
                _job(
                    "materialize",
                    "Computes the batch views.",
                    cron="0 3 * * *",
                    deadline=timedelta(hours=3),
                ),
                _job("backfill", "Computes views for past days, from `start` to `end`."),
                _job("historical", "Joins features to any number of entity rows, point-in-time."),
                _job(
                    "consistency",
                    "Compares served values with the event log.",
                    cron="30 4 * * *",
                ),
                _job(
                    "watch",
                    "Publishes age, lag, nulls and drift of the views as metrics.",
                    cron="*/15 * * * *",
                ),
            ],
            streams=[Stream("windows", ("*",), _handle)],
            page=_page,
            commands=_commands,
        )
    ]


@hookimpl
async def shoal_entity_events(ctx: TenantContext, entity: str, id: str) -> Callable[[Event], bool]:
    from .catalog import load_registry
    from .extraction import is_about

    registry = await load_registry(ctx)
    views = [view for view in registry.views if view.entity == entity]
    return lambda event: any(is_about(view, event, id) for view in views)


@hookimpl
async def shoal_events_retracted(ctx: TenantContext, events: Sequence[Event]) -> Mapping[str, int]:
    from .catalog import load_registry
    from .retraction import retract_events

    return await retract_events(ctx.stores, await load_registry(ctx), events)


@hookimpl
async def shoal_entity_erased(ctx: TenantContext, entity: str, id: str) -> Mapping[str, int]:
    from .catalog import load_registry
    from .erasure import erase_entity

    return await erase_entity(ctx.stores, await load_registry(ctx), entity, id)
