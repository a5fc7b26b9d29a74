"""What the handlers need besides the caller's context, as FastAPI dependencies.

`shoal.runtime.ingress.application` puts both into the state of the application.
"""

from typing import Annotated, cast

from fastapi import Depends, Request

from shoal.runtime.context import PlatformContext
from shoal.tenants.directory import Directory


async def platform_context(request: Request) -> PlatformContext:
    return cast(PlatformContext, request.app.state.platform)


async def tenant_directory(request: Request) -> Directory:
    return cast(Directory, request.app.state.directory)


Platform = Annotated[PlatformContext, Depends(platform_context)]
TenantDirectory = Annotated[Directory, Depends(tenant_directory)]
