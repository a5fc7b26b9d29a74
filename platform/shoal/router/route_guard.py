"""What every route enforces, whatever its author wrote: the role and strict JSON."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts, request_response
from starlette.types import Scope

from shoal.contract.context import Role, TenantContext, admin, editor, reader
from shoal.contract.errors import Forbidden, InternalError, Unauthenticated

from .request_head import MISSING_CREDENTIAL, decode_segment

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_DECLARED: dict[Any, Role] = {reader: Role.reader, editor: Role.editor, admin: Role.admin}
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class StrictRequest(Request):
    """Accepts only RFC 8259 JSON: no NaN, no lone surrogates, no excessive nesting."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = orjson.loads(await self.body())
        return self._json


def require_role(scope: Scope, needed: Role) -> TenantContext:
    """The caller's context. Raises Forbidden if its role is too low."""
    context: TenantContext | None = scope.get("shoal.context")
    if context is None:
        if "shoal.request_id" in scope:  # a public path, such as /healthz matching `/{id}`
            raise Unauthenticated(MISSING_CREDENTIAL)
        raise InternalError("the request did not pass the router")
    if not context.role.covers(needed):
        raise Forbidden(f"this operation needs the role {needed}; yours is {context.role}")
    return context


class _Guarded:
    """Mixin of a route's class that checks the role before the body is read."""

    shoal_role: Role
    shoal_path: str

    def get_route_handler(self) -> Handler:
        handler: Handler = super().get_route_handler()  # type: ignore[misc]
        needed = self.shoal_role

        async def guarded(request: Request) -> Response:
            require_role(request.scope, needed)
            segments = request.scope["path_params"]
            request.scope["path_params"] = {
                name: decode_segment(value) if isinstance(value, str) else value
                for name, value in segments.items()
            }
            return await handler(StrictRequest(request.scope, request.receive, request._send))

        return guarded


class GuardedRoute(_Guarded, APIRoute):
    """A plain route of FastAPI's with a guard."""


def enforce_roles(router: APIRouter) -> None:
    """Guard all routes of a capability, before its router is included in an app.

    A route needs the role that it declares by depending on `reader`, `editor` or
    `admin` (the highest of several), else `reader` for GET, HEAD and OPTIONS and
    `editor` for other methods.

    Raises:
        TypeError: A route is not one of FastAPI's.
    """
    for context in iter_route_contexts(router.routes):
        route = context.original_route
        if isinstance(route, APIWebSocketRoute):
            continue  # the router checks its credential, its dependencies the role
        if not isinstance(route, APIRoute):
            raise TypeError(f"{context.path}: routes must be FastAPI's, not {type(route).__name__}")
        if not isinstance(route, _Guarded):
            kind = type(route)
            route.__class__ = (
                GuardedRoute
                if kind is APIRoute
                else type(f"Guarded{kind.__name__}", (_Guarded, kind), {})
            )
        route.shoal_role = required_role(context.dependant, context.methods or ())  # type: ignore[attr-defined]
        route.shoal_path = context.path_format or route.path_format  # type: ignore[attr-defined]
        route.app = request_response(route.get_route_handler())


def required_role(dependant: Dependant, methods: Iterable[str]) -> Role:
    """The role that a route declares, or the default of its methods."""
    declared = [_DECLARED[call] for call in _calls(dependant) if call in _DECLARED]
    if declared:
        return max(declared, key=list(Role).index)
    return Role.reader if SAFE.issuperset(methods) else Role.editor


def _calls(dependant: Dependant) -> Iterable[Any]:
    for child in dependant.dependencies:
        yield child.call
        yield from _calls(child)
