"""What the handlers need besides the caller's context, as a FastAPI dependency."""

from typing import Annotated, cast

from fastapi import Depends, Request

from shoal.runtime.context import PlatformContext


async def platform_context(request: Request) -> PlatformContext:
    """The context that `shoal.runtime.ingress.application` gave to the application."""
    return cast(PlatformContext, request.app.state.platform)


Platform = Annotated[PlatformContext, Depends(platform_context)]
