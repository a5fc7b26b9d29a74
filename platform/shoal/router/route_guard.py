"""What the platform demands of every route, whatever its author wrote: the role, and
JSON that is JSON.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts, request_response
from starlette.types import Scope

from shoal.contract.context import Role, TenantContext, admin, editor, reader
from shoal.contract.errors import Forbidden, InternalError, Unauthenticated

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_DECLARED: dict[Any, Role] = {reader: Role.reader, editor: Role.editor, admin: Role.admin}
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class StrictRequest(Request):
    """Its JSON is RFC 8259's: no NaN, no lone surrogates, no deep nesting that would
    exhaust the stack.
    """

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = orjson.loads(await self.body())
        return self._json


def permitted(scope: Scope, needed: Role) -> TenantContext:
    """The caller's context, where its role covers the one that is needed."""
    context: TenantContext | None = scope.get("shoal.context")
    if context is None:
        if "shoal.request_id" in scope:  # by a public path, such as `/{id}` by /healthz
            raise Unauthenticated(
                "a credential is needed: Authorization: Bearer, with an API key or a JWT"
            )
        raise InternalError("this route is not behind the router")
    if not context.role.covers(needed):
        raise Forbidden(
            f"this operation needs the role {needed}; the credential's is {context.role}"
        )
    return context


class _Guarded:
    """Mixed into a route's class: the role is checked before the body is read."""

    shoal_role: Role
    shoal_path: str

    def get_route_handler(self) -> Handler:
        handler: Handler = super().get_route_handler()  # type: ignore[misc]
        needed = self.shoal_role

        async def guarded(request: Request) -> Response:
            permitted(request.scope, needed)
            return await handler(StrictRequest(request.scope, request.receive, request._send))

        return guarded


class GuardedRoute(_Guarded, APIRoute):
    pass


def enforce_roles(router: APIRouter) -> None:
    """Guard all routes of a capability's router, nested ones too. To be called before
    the router is included in an app.

    A route needs the role that it declares by depending on `reader`, `editor` or
    `admin` (the highest, if several), else `reader` for GET, HEAD and OPTIONS and
    `editor` for the rest. TypeError for a route that cannot be guarded.
    """
    for context in iter_route_contexts(router.routes):
        route = context.original_route
        if isinstance(route, APIWebSocketRoute):
            continue  # its handshake is the router's, and its role what its dependencies demand
        if not isinstance(route, APIRoute):
            raise TypeError(
                f"{context.path}: a capability's routes are FastAPI routes, not {type(route).__name__}"
            )
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
    declared = [_DECLARED[call] for call in _calls(dependant) if call in _DECLARED]
    if declared:
        return max(declared, key=list(Role).index)
    return Role.reader if SAFE.issuperset(methods) else Role.editor


def _calls(dependant: Dependant) -> Iterable[Any]:
    for child in dependant.dependencies:
        yield child.call
        yield from _calls(child)
