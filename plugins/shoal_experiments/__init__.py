"""Experiments: A/B tests of any capability's parameters, pre-registered, measured and
decided.
"""

from typing import TYPE_CHECKING

from shoal import Capability, Job, hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from fastapi import APIRouter
    from typer import Typer

    from shoal import JobContext, PageContext, Services


def _routes(services: "Services") -> "APIRouter":
    from .routes import build

    return build(services)


async def _page(page: "PageContext") -> None:
    from .page import draw

    await draw(page)


async def _aggregate(job: "JobContext") -> "Mapping[str, Any]":
    from .jobs import aggregate

    return await aggregate(job)


async def _ramps(job: "JobContext") -> "Mapping[str, Any]":
    from .jobs import ramps

    return await ramps(job)


def _commands() -> "Typer":
    from .commands import commands

    return commands()


@hookimpl
def shoal_capabilities() -> "Sequence[Capability]":
    return [
        Capability(
            "experiments",
            "A/B tests of any capability's parameters, with statistics that hold up.",
            routes=_routes,
            page=_page,
            commands=_commands,
            jobs=[
                Job(
                    "aggregate",
                    _aggregate,
                    summary="Makes the days of experiments that have new events.",
                    cron="17 * * * *",
                ),
                Job(
                    "ramps",
                    _ramps,
                    summary="Moves promotions over days to their next step, or back.",
                    cron="*/10 * * * *",
                ),
            ],
        )
    ]
