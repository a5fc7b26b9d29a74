"""Experiments: A/B tests of any capability's parameters, pre-registered, measured and decided."""

from typing import TYPE_CHECKING

from shoal import Capability, hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import APIRouter

    from shoal import PageContext, Services


def _routes(services: "Services") -> "APIRouter":
    from .routes import build

    return build(services)


async def _page(page: "PageContext") -> None:
    from .page import draw

    await draw(page)


@hookimpl
def shoal_capabilities() -> "Sequence[Capability]":
    from .jobs import JOBS

    return [
        Capability(
            "experiments", "A/B tests of any capability's parameters, with statistics that hold up.",
            routes=_routes, jobs=JOBS, page=_page,
        )
    ]
