"""The caller of a capability, with its rights and its access to data."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar, cast

from fastapi import Request

from shoal.egress.egress import Egress

from .errors import Forbidden, InternalError
from .parameters import Parameters
from .stores import Stores
from .usage import UNCOUNTED, Usage

P = TypeVar("P", bound=Parameters)
M = TypeVar("M")


class Role(StrEnum):
    """`reader` ⊂ `editor` ⊂ `admin`. The platform's own admins operate it."""

    reader = "reader"
    editor = "editor"
    admin = "admin"

    def covers(self, needed: "Role") -> bool:
        """Whether this role includes another."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Services(Protocol):
    """What a capability gets from the platform where it runs."""

    @property
    def egress(self) -> Egress:
        """Clients for connections that leave the platform; make no others."""

    def settings(self, model: type[M]) -> M:
        """This capability's section of the configuration.

        Args:
            model: A pydantic model with defaults, which validates the section.
        """

    def backend(self, name: str) -> Any:
        """A stub of one of this capability's backends.

        For example: `await services.backend("embedder").embed(texts)`.
        """


class Operations(Protocol):
    """Another capability's operations, by the operation ids of its OpenAPI document.

    For example: `await ctx.capability("features").get(user="7")`. The result is decoded
    JSON. Error responses are raised as `ShoalError`, as they are in the client.
    """

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]: ...


@dataclass(frozen=True, slots=True)
class TenantContext:
    """The caller of a capability: for a request, a batch of events, or a job.

    The platform creates it.

    Args:
        tenant: The tenant's id.
        role: What the caller may do.
        user: The user's id; None for the service itself.
        boards: The ids of the boards that the caller may see; None for all of the
            tenant's boards, which the service itself sees.
        request_id: Identifies the request in logs and error responses.
        stores: The tenant's stores.
        services: The capability's settings and backends.
        resolve: Finds the values of parameters; see `parameters`.
        operations: Opens another capability; see `capability`.
        variants: The names of the variants that the caller is assigned to, by
            experiment id, for the running experiments on this capability.
        usage: Counts what the tenant uses, and knows its quotas.
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
    usage: Usage = UNCOUNTED

    def parameters(self, model: type[P]) -> P:
        """The values of the capability's parameters for this caller.

        The tenant's promoted values override the model's defaults, and the values of
        the caller's variants override both. The first time that parameters varied by
        an experiment are read for a unit, an exposure event is logged.

        Args:
            model: The capability's model of parameters.
        """
        return cast(P, self.resolve(model))

    def capability(self, name: str) -> Operations | None:
        """Another capability, called on behalf of this caller.

        Returns:
            Its operations, or None if it is not deployed.
        """
        return self.operations(name)

    def may_see(self, board: str) -> bool:
        """Whether the caller may see a board, given by its id."""
        return self.boards is None or board in self.boards


async def current_tenant(request: Request) -> TenantContext:
    """FastAPI dependency: the caller's context.

    An operation requires the role `reader` for GET and HEAD and `editor` for other
    methods. To require another role, depend on `reader`, `editor` or `admin` instead.
    """
    return _context(request)


def _context(request: Request) -> TenantContext:
    context = request.scope.get("shoal.context")
    if context is None:
        raise InternalError("the request did not pass the router")
    return cast(TenantContext, context)


def _requires(role: Role) -> Callable[[Request], Awaitable[TenantContext]]:
    # async, because FastAPI runs a plain function in a thread
    async def dependency(request: Request) -> TenantContext:
        context = _context(request)
        if not context.role.covers(role):
            raise Forbidden(f"this operation needs the role {role}; yours is {context.role}")
        return context

    dependency.__name__ = role.value
    dependency.__doc__ = (
        f"FastAPI dependency: the caller's context, whose role is at least `{role}`."
    )
    return dependency


reader, editor, admin = _requires(Role.reader), _requires(Role.editor), _requires(Role.admin)
