"""Direct calls of operations that need nothing of FastAPI's dispatch.

They take only the request and the caller's context, at a path without parameters, so
there is nothing to match, validate or convert. Their results are encoded as FastAPI
encodes them. All other operations are called by FastAPI.
"""

import inspect
import re
from collections.abc import Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from fastapi import APIRouter, FastAPI, Response
from fastapi.datastructures import Default
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts, serialize_response
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from shoal.contract.context import Requirement, current_tenant

from .problems import allowed_methods
from .route_guard import GuardedRoute, StrictRequest, require_right

CONVERTED = (HTTPException, RequestValidationError)
"""Errors that the application's handlers answer; the Router answers the others."""
DEFAULTS = {
    "status_code": None,
    "response_class": Default(JSONResponse),
    "response_model_include": None,
    "response_model_exclude": None,
    "response_model_by_alias": True,
    "response_model_exclude_unset": False,
    "response_model_exclude_defaults": False,
    "response_model_exclude_none": False,
}
"""FastAPI's defaults for a route's response; a route with others is left to FastAPI."""


@dataclass(frozen=True, slots=True)
class DirectRoute:
    """An operation that is called directly.

    Attributes:
        route: The route of FastAPI's.
        call: The route's function.
        request: The name of its argument for the request, if it has one.
        contexts: The names of its arguments for the context.
        response_field: FastAPI's field for what it returns, if declared.
    """

    route: APIRoute
    call: Callable[..., Coroutine[Any, Any, Any]]
    request: str | None
    contexts: tuple[str, ...]
    response_field: Any


def fast_path(app: FastAPI, routes: APIRouter, prefix: str) -> ASGIApp:
    """Wrap an application so that operations that allow it are called directly.

    Args:
        app: The application.
        routes: The guarded routes of the capability, included in `app`.
        prefix: Where they are included.
    """
    own = {route.path for route in app.routes if isinstance(route, APIRoute)}
    direct_routes = {
        (method, prefix + path): direct_route
        for method, path, direct_route in _direct_routes(routes)
        if prefix + path not in own
    }

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        direct_route = (
            direct_routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        )
        if direct_route is None:
            if scope["type"] == "http" and scope["method"] == "OPTIONS":
                await _answer_options(app, scope, receive, send)
            else:
                await app(scope, receive, send)
            return
        scope["app"], scope["route"], scope["path_params"] = app, direct_route.route, {}
        context = require_right(scope, direct_route.route.shoal_requirement)  # type: ignore[attr-defined]
        direct_route.route.shoal_shape.check(scope)  # type: ignore[attr-defined]
        arguments: dict[str, Any] = dict.fromkeys(direct_route.contexts, context)
        if direct_route.request is not None:
            arguments[direct_route.request] = StrictRequest(scope, receive, send)
        try:
            returned = await direct_route.call(**arguments)
            response = (
                returned
                if isinstance(returned, Response)
                else await _encoded(direct_route, returned)
            )
        except CONVERTED as fault:
            kind = next(kind for kind in CONVERTED if isinstance(fault, kind))
            request = StrictRequest(scope, receive, send)
            response = await app.exception_handlers[kind](request, fault)  # type: ignore[misc]
        await response(scope, receive, send)

    return dispatch


async def _answer_options(app: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
    """List the methods of a path, where a route does not answer OPTIONS itself."""
    allowed = allowed_methods(app, scope["path"])
    response: ASGIApp = Response(status_code=204, headers={"allow": allowed})
    await (response if allowed else app)(scope, receive, send)


async def _encoded(direct_route: DirectRoute, returned: Any) -> Response:
    if direct_route.response_field is None:
        return JSONResponse(await serialize_response(response_content=returned))
    content = await serialize_response(
        field=direct_route.response_field, response_content=returned, dump_json=True
    )
    return Response(content, media_type="application/json")


def _direct_routes(routes: APIRouter) -> Iterator[tuple[str, str, DirectRoute]]:
    earlier_routes: list[tuple[Collection[str], re.Pattern[str]]] = []
    for context in iter_route_contexts(routes.routes):
        route = context.original_route
        if not isinstance(route, APIRoute):
            continue
        path, methods = context.path_format or route.path_format, context.methods or set()
        direct_route = None if "{" in path else _direct_route(route, context)
        for method in methods if direct_route is not None else ():
            if not any(
                method in earlier and pattern.match(path) for earlier, pattern in earlier_routes
            ):
                yield method, path, direct_route  # type: ignore[misc]
        earlier_routes.append((methods, compile_path(path)[0]))


def _direct_route(route: APIRoute, context: RouteContext) -> DirectRoute | None:
    """How to call a route's function directly; None if it needs FastAPI."""
    if type(route) is not GuardedRoute:  # a class of the plugin's may override the handler
        return None
    d: Dependant = context.dependant or route.dependant
    call: Any = d.call
    wanted = (d.path_params, d.query_params, d.header_params, d.cookie_params, d.body_params)
    special = (
        d.websocket_param_name,
        d.http_connection_param_name,
        d.response_param_name,
        d.background_tasks_param_name,
        d.security_scopes_param_name,
    )
    if any(wanted) or any(special) or not inspect.iscoroutinefunction(call):
        return None
    if not all(child.name is not None and _gives_context(child.call) for child in d.dependencies):
        return None
    annotated = get_type_hints(call).get("return")
    if not (isinstance(annotated, type) and issubclass(annotated, Response)) and any(
        getattr(context, name) != default for name, default in DEFAULTS.items()
    ):
        return None
    return DirectRoute(
        route,
        call,
        d.request_param_name,
        tuple(str(child.name) for child in d.dependencies),
        context.response_field,
    )


def _gives_context(dependency: Any) -> bool:
    """Whether it returns the caller's context, whose right is checked before."""
    return dependency is current_tenant or isinstance(dependency, Requirement)
