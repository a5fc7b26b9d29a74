"""What every route enforces, whatever its author wrote: its right, its shape, and
strict JSON.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import (
    APIRoute,
    APIWebSocketRoute,
    RouteContext,
    iter_route_contexts,
    request_response,
)
from starlette.exceptions import HTTPException
from starlette.types import Scope

from shoal.contract.batch import SMALL_BYTES
from shoal.contract.bounds import MAX_VALUES, check_size
from shoal.contract.context import Requirement, TenantContext
from shoal.contract.errors import InternalError, Invalid, TooLarge, Unauthenticated
from shoal.contract.json_text import load_json

from .problems import RefusedBody
from .rate_limiter import body_too_large
from .request_head import MISSING_CREDENTIAL, decode_segment
from .request_shape import RequestShape, request_shape

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


JSON_BYTES = 512 * 2**10
"""The largest JSON body that is read on the event loop."""


class StrictRequest(Request):
    """Accepts only RFC 8259 JSON: no NaN, no lone surrogates, no excessive nesting,
    and no integers beyond 64 bits.

    And only as much as is read and validated within milliseconds: others wait for it.
    """

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            if len(body) > JSON_BYTES:
                # FastAPI answers 400 to any other exception.
                detail = f"the body is over this operation's limit of {JSON_BYTES:,} bytes"
                raise HTTPException(413, detail)
            if body.count(b",") > 2 * MAX_VALUES:
                raise HTTPException(413, f"the body holds more than {MAX_VALUES:,} values")
            try:
                value = load_json(body)
                if len(body) > SMALL_BYTES:
                    check_size(value)
            except (Invalid, TooLarge) as error:
                raise RefusedBody(error) from None
            self._json = value
        return self._json


def require_right(scope: Scope, requirement: Requirement) -> TenantContext:
    """The caller's context. Raises Forbidden if it lacks the right."""
    context: TenantContext | None = scope.get("shoal.context")
    if context is None:
        if "shoal.request_id" in scope:  # a public path, such as /healthz matching `/{id}`
            raise Unauthenticated(MISSING_CREDENTIAL)
        raise InternalError("the request did not pass the router")
    context.require(requirement.right)
    return context


class _Guarded:
    """Mixin of a route's class that checks the right before the body is read."""

    shoal_requirement: Requirement
    shoal_path: str
    shoal_shape: RequestShape

    def get_route_handler(self) -> Handler:
        handler: Handler = super().get_route_handler()  # type: ignore[misc]
        requirement, shape = self.shoal_requirement, self.shoal_shape
        is_json = getattr(self, "body_field", None) is not None

        async def guarded(request: Request) -> Response:
            require_right(request.scope, requirement)
            shape.check(request.scope)
            if is_json and int(request.headers.get("content-length", 0)) > JSON_BYTES:
                raise body_too_large(JSON_BYTES)  # before it is read
            segments = request.scope["path_params"]
            request.scope["path_params"] = {
                name: decode_segment(value) if isinstance(value, str) else value
                for name, value in segments.items()
            }
            return await handler(StrictRequest(request.scope, request.receive, request._send))

        return guarded


class GuardedRoute(_Guarded, APIRoute):
    """A plain route of FastAPI's with a guard."""


def enforce_rights(router: APIRouter) -> None:
    """Guard all routes of a capability, before its router is included in an app.

    A route declares the right that it needs by `Depends(requires(…))`, which OpenAPI
    then shows.

    Raises:
        TypeError: A route declares no right, or several, or is not one of FastAPI's.
    """
    faults = []
    for context in iter_route_contexts(router.routes):
        route = context.original_route
        name = f"{'/'.join(sorted(context.methods or ['WebSocket']))} {context.path}"
        if not isinstance(route, APIRoute | APIWebSocketRoute):
            faults.append(f"{name}: routes must be FastAPI's, not {type(route).__name__}")
            continue
        declared = {c for c in _calls(context.dependant) if isinstance(c, Requirement)}
        declared |= {route.shoal_requirement} if isinstance(route, _Guarded) else set()
        if len(declared) != 1:
            rights = ", ".join(sorted(requirement.right for requirement in declared))
            faults.append(
                f"{name}: declares {f'several rights ({rights})' if rights else 'no right'};"
                ' it needs one, such as Depends(requires("read:boards"))'
            )
        elif isinstance(route, APIRoute):  # the dependency checks a WebSocket's right
            _guard(route, context, *declared)
    if faults:
        raise TypeError("\n".join(faults))


def _guard(route: APIRoute, context: RouteContext, requirement: Requirement) -> None:
    if not isinstance(route, _Guarded):
        kind = type(route)
        route.__class__ = (
            GuardedRoute
            if kind is APIRoute
            else type(f"Guarded{kind.__name__}", (_Guarded, kind), {})
        )
        route.description = f"{route.description}\n\n{describe_requirement(requirement)}".strip()
        route.openapi_extra = {
            **(route.openapi_extra or {}),
            "x-shoal-right": requirement.right,
            **({"x-shoal-right-for-others": requirement.others} if requirement.others else {}),
        }
    route.shoal_requirement = requirement  # type: ignore[attr-defined]
    route.shoal_path = context.path_format or route.path_format  # type: ignore[attr-defined]
    route.shoal_shape = request_shape(route, context)  # type: ignore[attr-defined]
    route.app = request_response(route.get_route_handler())


def describe_requirement(requirement: Requirement) -> str:
    """What OpenAPI says of the right that an operation needs."""
    sentence = f"Needs the right `{requirement.right}`"
    if requirement.others is None:
        return f"{sentence}."
    return f"{sentence}, and `{requirement.others}` for data that are not the caller's own."


def _calls(dependant: Dependant) -> Iterable[Any]:
    for child in dependant.dependencies:
        yield child.call
        yield from _calls(child)
