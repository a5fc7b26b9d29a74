"""The caller of a capability, with its rights and its access to data."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol, TypeVar, cast

from starlette.requests import HTTPConnection

from shoal.egress.egress import Egress

from .errors import Forbidden, InternalError
from .events import MAX_REASON, Event, Rejection
from .names import mask_keys
from .parameters import Parameters
from .rights import MEANINGS, RIGHTS, SERVICE_RIGHTS, Right, Role
from .stores import Stores
from .usage import UNCOUNTED, Usage

P = TypeVar("P", bound=Parameters)
M = TypeVar("M")


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
        role: The name of the caller's role.
        rights: What the caller may do; see `may`.
        user: The user's id; None for the service itself.
        boards: The ids of the boards that the caller may see; None for all of the
            tenant's boards, which the service itself sees.
        request_id: Identifies the request in logs and error responses.
        stores: The tenant's stores.
        services: The capability's settings and backends.
        resolve: Finds the values of parameters; see `parameters`.
        operations: Opens another capability for a caller; see `capability`.
        variants: The names of the variants that the caller is assigned to, by
            experiment id, for the running experiments on this capability.
        usage: Counts what the tenant uses, and knows its quotas.
        seconds: How long the request may take; None where there is no request.
        rejections: What a stream's handler rejected; None elsewhere. See `reject`.
    """

    tenant: str
    role: str
    rights: frozenset[Right]
    user: str | None
    boards: frozenset[str] | None
    request_id: str
    stores: Stores
    services: Services
    resolve: Callable[[type[Parameters]], Parameters] = field(repr=False)
    operations: "OperationsOf" = field(repr=False)
    variants: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = UNCOUNTED
    seconds: float | None = None
    rejections: list[Rejection] | None = None

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
        """Another capability, called as this same caller.

        Returns:
            Its operations, or None if it is not deployed.
        """
        return self.operations(name, self)

    def as_service(self) -> "TenantContext":
        """The context of the tenant's own service: all its data, and no user.

        For what an operation must read beyond the caller's rights, and does not show.
        """
        return replace(
            self, role=Role.admin, rights=SERVICE_RIGHTS[Role.admin], user=None, boards=None
        )

    def reject(self, event: Event, reason: str) -> None:
        """Say that a stream's handler cannot use an event, however often it comes.

        The tenant's admins see it with the reason (`shoal events rejected`), and it is
        counted. It is not handled again; for what may work later, raise an error.

        Args:
            event: The event, as the handler got it.
            reason: Plain English that names the field and what it must be.

        Raises:
            TypeError: This is not the context of a stream's handler.
        """
        if self.rejections is None:
            raise TypeError("only a stream's handler rejects events")
        self.rejections.append(Rejection(event, mask_keys(reason)[:MAX_REASON]))

    def may(self, right: Right) -> bool:
        """Whether the caller has a right."""
        return right in self.rights

    def require(self, right: Right) -> None:
        """Raise Forbidden where the caller lacks a right."""
        if right not in self.rights:
            whom = "" if self.user is None else f" to the user {self.user!r}"
            raise Forbidden(
                f"this needs the right {right} ({MEANINGS[right]}), which the role"
                f" {self.role!r} does not give{whom}"
            )

    def may_see(self, board: str) -> bool:
        """Whether the caller may see a board, given by its id."""
        return self.boards is None or board in self.boards


OperationsOf = Callable[[str, TenantContext], Operations | None]
"""(name, caller) → a capability's operations, called as this caller, if deployed."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """FastAPI dependency: the caller's context, if the caller has a right."""

    right: Right
    others: Right | None = None

    async def __call__(self, connection: HTTPConnection) -> TenantContext:
        # async, because FastAPI runs a plain function in a thread
        context = _context(connection)
        context.require(self.right)
        return context


@cache
def requires(right: Right, others: Right | None = None) -> Requirement:
    """Declare the right that an operation needs: `Depends(requires("read:boards"))`.

    Every operation declares one. The Router refuses other callers before the body is
    read, and the operation gets the caller's context.

    Args:
        right: The right that every caller needs.
        others: What the operation demands by `ctx.require` for data that are not the
            caller's own, in the documentation.
    """
    for name in (right, *(() if others is None else (others,))):
        if name not in RIGHTS:
            raise ValueError(f"unknown right {name!r}; the rights are {', '.join(RIGHTS)}")
    return Requirement(right, others)


async def current_tenant(connection: HTTPConnection) -> TenantContext:
    """FastAPI dependency: the caller's context, without declaring a right."""
    return _context(connection)


def _context(connection: HTTPConnection) -> TenantContext:
    context = connection.scope.get("shoal.context")
    if context is None:
        raise InternalError("the request did not pass the router")
    return cast(TenantContext, context)
