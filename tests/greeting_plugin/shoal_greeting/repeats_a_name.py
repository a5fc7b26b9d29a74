"""A plugin whose capability takes a name that another has."""

from fastapi import APIRouter

from shoal import Capability, hookimpl


@hookimpl
def shoal_capabilities() -> list[Capability]:
    return [Capability("greeting", "An impostor.", routes=lambda services: APIRouter())]
