"""Who is calling, and the only way to data."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar, cast

from fastapi import Request

from .errors import Forbidden, InternalError
from .parameters import Parameters
from .stores import Stores

P = TypeVar("P", bound=Parameters)
M = TypeVar("M")


class Role(StrEnum):
    """`reader` ⊂ `editor` ⊂ `admin`. An admin operates the platform."""

    reader = "reader"
    editor = "editor"
    admin = "admin"

    def covers(self, needed: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Services(Protocol):
    """What the platform gives a capability where it runs: its settings and its
    backends.
    """

    def settings(self, model: type[M]) -> M:
        """This capability's section of the configuration, validated by `model` (a
        pydantic model with defaults).
        """

    def backend(self, name: str) -> Any:
        """A stub of one of this capability's backends: `await
        services.backend("embedder").embed(texts)`.
        """


class Operations(Protocol):
    """Another capability's operations, by the operation ids of its OpenAPI: `await
    ctx.capability("features").get(user="7")`. Answers are decoded JSON; refusals are
    the same errors that the client raises.
    """

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]: ...


@dataclass(frozen=True, slots=True)
class TenantContext:
    """One caller's way in, made by the platform for a request, a batch of events, or a
    job.

    `user` is None for the service itself. `boards` are the ids of the boards that the
    user may see; None means all of the tenant's (the service itself). `stores` are the
    tenant's own.
    """

    tenant: str
    role: Role
    user: str | None
    boards: frozenset[str] | None
    request_id: str
    stores: Stores
    services: Services
    resolve: Callable[[type[Parameters]], Parameters] = field(repr=False)
    operations: Callable[[str], Operations | None] = field(repr=False)
    variants: Mapping[str, str] = field(default_factory=dict)
    """experiment id → variant's name, for the running experiments on this capability
    that this user is in.
    """

    def parameters(self, model: type[P]) -> P:
        """Defaults ← the tenant's promoted values ← the variants this caller is in. The
        first use of a varied parameter by a unit logs one exposure.
        """
        return cast(P, self.resolve(model))

    def capability(self, name: str) -> Operations | None:
        """Another capability, called as this same caller; None where it is not
        deployed.
        """
        return self.operations(name)

    def may_see(self, board: str) -> bool:
        return self.boards is None or board in self.boards


async def current_tenant(request: Request) -> TenantContext:
    """FastAPI dependency: the caller's context. The role an operation needs is `reader`
    for GET and HEAD and `editor` for the rest, unless the route says otherwise by
    depending on `reader`, `editor` or `admin` instead.
    """
    return _context(request)


def _context(request: Request) -> TenantContext:
    context = request.scope.get("shoal.context")
    if context is None:
        raise InternalError("this route is not behind the router")
    return cast(TenantContext, context)


def _needs(role: Role) -> Callable[[Request], Awaitable[TenantContext]]:
    async def dependency(
        request: Request,
    ) -> TenantContext:  # async: FastAPI would run a plain function in a thread
        context = _context(request)
        if not context.role.covers(role):
            raise Forbidden(
                f"this operation needs the role {role}; the credential's is {context.role}"
            )
        return context

    dependency.__name__ = role.value
    dependency.__doc__ = (
        f"FastAPI dependency: the caller's context, where the role is at least `{role}`."
    )
    return dependency


reader, editor, admin = _needs(Role.reader), _needs(Role.editor), _needs(Role.admin)
