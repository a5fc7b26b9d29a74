"""Experiments: A/B tests of any capability's parameters."""

from typing import TYPE_CHECKING

from shoal import Capability, Job, hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from fastapi import APIRouter
    from typer import Typer

    from shoal import JobContext, PageContext, Services


# Modules are imported when they are needed: the command line and other processes that
# only list capabilities then load neither NumPy nor SciPy.


def _routes(services: "Services") -> "APIRouter":
    from .routes import router

    return router


async def _page(page: "PageContext") -> None:
    from .page import draw

    await draw(page)


async def _aggregate(job: "JobContext") -> "Mapping[str, Any]":
    from .jobs import aggregate

    return await aggregate(job)


async def _advance_ramps(job: "JobContext") -> "Mapping[str, Any]":
    from .jobs import advance_ramps

    return await advance_ramps(job)


def _commands() -> "Typer":
    from .commands import app

    return app


@hookimpl
def shoal_capabilities() -> "Sequence[Capability]":
    return [
        Capability(
            "experiments",
            "A/B tests of any capability's parameters, with sound statistics.",
            routes=_routes,
            page=_page,
            commands=_commands,
            jobs=[
                Job(
                    "aggregate",
                    _aggregate,
                    summary="Recomputes daily results.",
                    cron="17 * * * *",
                ),
                Job(
                    "ramps",
                    _advance_ramps,
                    summary="Moves ramps to their next step, or rolls them back.",
                    cron="*/10 * * * *",
                ),
            ],
        )
    ]
