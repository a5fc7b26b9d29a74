"""The ingress of a capability: its routes behind the Router, in a Serve deployment."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import httpx
from fastapi import FastAPI

from shoal.contract.capability import Capability
from shoal.contract.operations import OperationRequest
from shoal.router.fast_path import fast_path
from shoal.router.metering import MetricsExporter
from shoal.router.middleware import Router
from shoal.router.openapi import describe_application
from shoal.router.problems import install_problem_handlers
from shoal.router.route_guard import enforce_rights
from shoal.tenants.tenant_stores import import_stores

from .context import PlatformContext
from .ray_metrics import RayMetricsExporter
from .replica import freeze_objects, prepare_replica
from .stream_worker import ensure_workers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def application(
    capability: Capability, platform: PlatformContext, exporter: MetricsExporter | None = None
) -> Router:
    """The ASGI application of a capability, behind its Router.

    Its routes are at `/<name>/…`, their OpenAPI document at `/<name>/openapi.json`.
    """
    prefix = f"/{capability.name}"
    if platform.config.stores is not None:
        import_stores(platform.config.stores, capability.stores)
    routes = capability.routes(platform.services(capability.name))
    enforce_rights(routes)
    app = FastAPI(
        title=f"Shoal: {capability.name}",
        description=capability.summary,
        version=capability.version,
        openapi_url=f"{prefix}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.platform = platform

    @app.get(f"{prefix}/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    app.include_router(routes, prefix=prefix)
    install_problem_handlers(app)
    describe_application(app, platform.config.router.limits)
    return platform.router(fast_path(app, routes, prefix), capability, exporter)


class Ingress:
    """The class that Serve deploys for every capability.

    All requests go through the Router, whether they come by HTTP or by handle.

    Args:
        name: The capability's.
        backends: Make Serve deploy the backends with the ingress; they are called
            through `services.backend`.
    """

    def __init__(self, name: str, **backends: Any) -> None:
        self._platform = PlatformContext.current()
        prepare_replica(self._platform.config.host)
        self._name = name

    def __serve_build_asgi_app__(self) -> ASGIApp:
        self._app = application(
            self._platform.capability(self._name), self._platform, RayMetricsExporter(self._name)
        )
        if self._name == "platform":
            self._stopping = asyncio.Event()
            self._workers = asyncio.ensure_future(ensure_workers(self._platform, self._stopping))
        freeze_objects()
        return undo_serve_mount(self._app)

    async def call_application(
        self, call: OperationRequest, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Handle one request that comes by Serve handle.

        Returns:
            Status, headers (with lower-case names), and body.
        """
        return await call_application(self._app, call, headers)


def undo_serve_mount(app: ASGIApp) -> ASGIApp:
    """An application that sees requests as the client sent them.

    Serve moves the route prefix from `path` into `root_path`.
    """

    async def unmounted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        root = scope.get("root_path", "")
        path = scope["path"]
        if root and not path.startswith(root):
            path = root + path
        scope = {**scope, "path": path, "root_path": ""}
        await app(scope, receive, send)

    return unmounted


async def call_application(
    app: ASGIApp, call: OperationRequest, headers: Mapping[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """Run one request through an ASGI application in this process.

    Returns:
        Status, headers (with lower-case names), and body.
    """
    request = httpx.Request(
        call.method,
        f"http://shoal{call.path}",
        params=call.query or None,
        headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        content=call.body,
    )
    response = await httpx.ASGITransport(app).handle_async_request(request)
    return response.status_code, dict(response.headers), await response.aread()
