"""Teams for tasks under hard and soft constraints, proved optimal and explained."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shoal import (
    Backend,
    Capability,
    Job,
    JobContext,
    Scaling,
    Services,
    Stream,
    TenantContext,
    hookimpl,
)

from .assignment.problem import Assignment
from .assignment.solve import solve_assignment
from .parameters import OptimizerParameters

if TYPE_CHECKING:
    from fastapi import APIRouter

    from shoal import Event, PageContext

__all__ = ["Assignment", "OptimizerParameters", "shoal_capabilities", "solve_assignment"]


# The imports below are local: they take seconds, and are needed on one replica each.


def _routes(services: Services) -> "APIRouter":
    from .routes import routes

    return routes(services)


def _build_solver(services: Services) -> Any:
    from .solver import Solver

    return Solver()


async def _apply_events(ctx: TenantContext, events: "Sequence[Event]") -> None:
    from .stream import apply_events

    await apply_events(ctx, events)


def _commands() -> Any:
    from .commands import app

    return app


async def _check_assignments(job: JobContext) -> dict[str, int]:
    from .assignments import check_everybody

    return {"broken": sum([await check_everybody(ctx) for ctx in job.tenants])}


async def _draw_page(page: "PageContext") -> None:
    from .page import draw

    await draw(page)


@hookimpl
def shoal_capabilities() -> Sequence[Capability]:
    return [
        Capability(
            "optimizer",
            "Recommends teams for tasks under hard and soft constraints, and says why.",
            routes=_routes,
            parameters=OptimizerParameters,
            backends=[Backend("solver", _build_solver, Scaling(max_replicas=2, ongoing=8))],
            streams=[
                Stream(
                    "records",
                    (
                        "person.updated",
                        "person.deleted",
                        "task.updated",
                        "task.deleted",
                        "task.completed",
                    ),
                    _apply_events,
                )
            ],
            jobs=[
                Job(
                    "assignments",
                    _check_assignments,
                    summary="Marks assignments that break the parameters of today.",
                    cron="23 * * * *",
                )
            ],
            commands=_commands,
            page=_draw_page,
        )
    ]
