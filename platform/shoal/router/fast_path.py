"""Operations that leave FastAPI nothing to do are called directly: 4 µs of CPU instead
of FastAPI's 67.

They take nothing but the request and the caller's context, and stand at a path without
parameters: there is nothing to find out, to validate or to convert. What they return is
encoded as FastAPI encodes it. Everything else goes FastAPI's way.
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

from shoal.contract.context import admin, current_tenant, editor, reader

from .route_guard import GuardedRoute, StrictRequest, permitted

CONTEXTS = frozenset({current_tenant, reader, editor, admin})
"""The dependencies that give the caller's context, after a check of the role that the
route has passed already.
"""
CONVERTED = (HTTPException, RequestValidationError)
"""Faults that the application's own handlers answer; the Router answers the others."""
USUAL = {
    "status_code": None,
    "response_class": Default(JSONResponse),
    "response_model_include": None,
    "response_model_exclude": None,
    "response_model_by_alias": True,
    "response_model_exclude_unset": False,
    "response_model_exclude_defaults": False,
    "response_model_exclude_none": False,
}
"""What a route says of its answer unless its author says more, which is FastAPI's to
carry out.
"""


@dataclass(frozen=True, slots=True)
class Direct:
    """An operation, the names of its arguments, and FastAPI's field for what it
    returns, if it says.
    """

    route: APIRoute
    call: Callable[..., Coroutine[Any, Any, Any]]
    request: str | None
    contexts: tuple[str, ...]
    answer: Any


def fast_path(app: FastAPI, routes: APIRouter, prefix: str) -> ASGIApp:
    """The application, with such operations of its guarded `routes`, included at
    `prefix`, called past it.
    """
    own = {route.path for route in app.routes if isinstance(route, APIRoute)}
    ways = {
        (method, prefix + path): way
        for method, path, way in _ways(routes)
        if prefix + path not in own
    }

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        way = ways.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if way is None:
            await app(scope, receive, send)
            return
        scope["app"], scope["route"], scope["path_params"] = app, way.route, {}
        context = permitted(scope, way.route.shoal_role)  # type: ignore[attr-defined]
        request = StrictRequest(scope, receive, send)
        arguments: dict[str, Any] = dict.fromkeys(way.contexts, context)
        if way.request is not None:
            arguments[way.request] = request
        try:
            returned = await way.call(**arguments)
            response = returned if isinstance(returned, Response) else await _encoded(way, returned)
        except CONVERTED as fault:
            kind = next(kind for kind in CONVERTED if isinstance(fault, kind))
            response = await app.exception_handlers[kind](request, fault)  # type: ignore[misc]
        await response(scope, receive, send)

    return called


async def _encoded(way: Direct, returned: Any) -> Response:
    if way.answer is None:
        return JSONResponse(await serialize_response(response_content=returned))
    content = await serialize_response(field=way.answer, response_content=returned, dump_json=True)
    return Response(content, media_type="application/json")


def _ways(routes: APIRouter) -> Iterator[tuple[str, str, Direct]]:
    before: list[tuple[Collection[str], re.Pattern[str]]] = []
    for context in iter_route_contexts(routes.routes):
        route = context.original_route
        if not isinstance(route, APIRoute):
            continue
        path, methods = context.path_format or route.path_format, context.methods or set()
        way = None if "{" in path else _direct(route, context)
        for method in methods if way is not None else ():
            if not any(method in earlier and pattern.match(path) for earlier, pattern in before):
                yield method, path, way  # type: ignore[misc]
        before.append((methods, compile_path(path)[0]))


def _direct(route: APIRoute, context: RouteContext) -> Direct | None:
    """The way to call a route's function with nothing but the request and the context;
    None where it needs more.
    """
    if type(route) is not GuardedRoute:  # a class of the author's may do more in its handler
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
    if any(child.call not in CONTEXTS or child.name is None for child in d.dependencies):
        return None
    annotated = get_type_hints(call).get("return")
    if not (isinstance(annotated, type) and issubclass(annotated, Response)) and any(
        getattr(context, name) != usual for name, usual in USUAL.items()
    ):
        return None
    return Direct(
        route,
        call,
        d.request_param_name,
        tuple(str(child.name) for child in d.dependencies),
        context.response_field,
    )
