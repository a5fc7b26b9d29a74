"""A plugin that loads, and fails when its routes are built on the replica."""

from fastapi import APIRouter

from shoal import Capability, Services, hookimpl


def routes(services: Services) -> APIRouter:
    raise RuntimeError("the model file is not there")


@hookimpl
def shoal_capabilities() -> list[Capability]:
    return [Capability("failing", "Never comes up.", routes=routes)]
