"""Operations that leave FastAPI nothing to do are called directly: 4 µs of CPU instead of FastAPI's 67.

They take nothing but the request and the caller's context, declare that they return a `Response`, and stand at a path without
parameters: there is nothing to validate, to convert or to encode. Everything else goes FastAPI's way.
"""

import inspect
import re
from collections.abc import Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from fastapi import APIRouter, FastAPI, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from shoal.contract.context import admin, editor, reader, tenant

from .routes import StrictRequest, permitted

CONTEXTS = frozenset({tenant, reader, editor, admin})
"""The dependencies that give the caller's context, after a check of the role that the route has passed already."""
CONVERTED = (HTTPException, RequestValidationError)
"""Faults that the application's own handlers answer; the Router answers the others."""


@dataclass(frozen=True, slots=True)
class Direct:
    """An operation, and the names of its arguments."""

    route: APIRoute
    call: Callable[..., Coroutine[Any, Any, Response]]
    request: str | None
    contexts: tuple[str, ...]


def directly(app: FastAPI, routes: APIRouter, prefix: str) -> ASGIApp:
    """The application, with such operations of its guarded `routes`, included at `prefix`, called past it."""
    own = {route.path for route in app.routes if isinstance(route, APIRoute)}
    ways = {(method, prefix + path): way for method, path, way in _ways(routes) if prefix + path not in own}

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
            response = await way.call(**arguments)
        except CONVERTED as fault:
            kind = next(kind for kind in CONVERTED if isinstance(fault, kind))
            response = await app.exception_handlers[kind](request, fault)  # type: ignore[misc]
        await response(scope, receive, send)

    return called


def _ways(routes: APIRouter) -> Iterator[tuple[str, str, Direct]]:
    before: list[tuple[Collection[str], re.Pattern[str]]] = []
    for context in iter_route_contexts(routes.routes):
        route = context.original_route
        if not isinstance(route, APIRoute):
            continue
        path, methods = context.path_format or route.path_format, context.methods or set()
        way = None if "{" in path else _direct(route, context.dependant or route.dependant)
        for method in methods if way is not None else ():
            if not any(method in earlier and pattern.match(path) for earlier, pattern in before):
                yield method, path, way  # type: ignore[misc]
        before.append((methods, compile_path(path)[0]))


def _direct(route: APIRoute, dependant: Dependant) -> Direct | None:
    """The way to call a route's function with nothing but the request and the context; None where it needs more."""
    call: Any = dependant.call
    d = dependant
    wanted = (d.path_params, d.query_params, d.header_params, d.cookie_params, d.body_params)
    special = (d.websocket_param_name, d.http_connection_param_name, d.response_param_name, d.background_tasks_param_name, d.security_scopes_param_name)
    if any(wanted) or any(special) or not inspect.iscoroutinefunction(call):
        return None
    if any(child.call not in CONTEXTS or child.name is None for child in d.dependencies):
        return None
    returned = get_type_hints(call).get("return")
    if not (isinstance(returned, type) and issubclass(returned, Response)):
        return None
    return Direct(route, call, d.request_param_name, tuple(str(child.name) for child in d.dependencies))
