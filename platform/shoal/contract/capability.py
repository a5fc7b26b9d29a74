"""What a capability is: a name, its routes, and what else it needs from the platform."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from fastapi import APIRouter

from .context import Role, Services, TenantContext
from .events import Event
from .names import CAPABILITY
from .parameters import Parameters


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many replicas, and what each may use. `memory` is in bytes; `ongoing` is the
    number of requests that one replica works on at once.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    cpus: float = 0.0
    gpus: float = 0.0
    memory: int | None = None
    ongoing: int = 100


@dataclass(frozen=True, slots=True)
class Backend:
    """A heavier Serve deployment behind the routes, such as a model: `build(services)`
    is called on its replica and gives an object whose methods are called through
    `services.backend(name)`. With `batch`, the method it names receives a list of the
    calls' single arguments (up to `batch_size`, waiting `batch_wait` seconds) and
    returns as many results.
    """

    name: str
    build: Callable[[Services], Any]
    scaling: Scaling = field(default_factory=Scaling)
    batch: str | None = None
    batch_size: int = 32
    batch_wait: float = 0.002


class JobContext(Protocol):
    """What a running job is given."""

    run_id: str
    tenants: Sequence[TenantContext]
    """The tenants to work on: the one asked for, or all of them when the schedule
    started it. Role: admin, all boards.
    """
    arguments: Mapping[str, Any]
    scheduled_for: datetime
    """When the run was due (now, for one started by hand), in the job's time zone."""

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Show how far it is; also the place where a cancelled job stops."""


@dataclass(frozen=True, slots=True)
class Job:
    """Batch work, run outside the request path in a Ray task where `ray.data` may be
    used. Known as `<capability>.<name>`.

    `run` may be a coroutine function; what it returns (a small dict) is kept as the
    run's result. `cron` has five fields in `timezone` (None: the platform's). A run
    that is not done `deadline` after it was due appends a `shoal.job.late` event.
    """

    name: str
    run: Callable[[JobContext], Mapping[str, Any] | None | Awaitable[Mapping[str, Any] | None]]
    summary: str = ""
    cron: str | None = None
    timezone: str | None = None
    deadline: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A handler that follows the event log. Known as `<capability>.<name>`.

    That name is also the consumer group whose position in the log is kept, so renaming
    a stream makes it start again from the oldest event.

    Args:
        name: 1 to 32 of a-z, 0-9, _ and -, beginning with a letter.
        types: The event types to handle; `item.*` is a prefix.
        handle: `handle(ctx, events)` gets one tenant's events in order. After an error
            it is called again with the same events, so it must be idempotent by
            `(event.source, event.id)`.
        batch_size: The largest number of events in one call.
    """

    name: str
    types: tuple[str, ...]
    handle: Callable[[TenantContext, Sequence[Event]], Awaitable[None]]
    batch_size: int = 256


@dataclass(frozen=True, slots=True)
class Study:
    """An offline search for better parameters: `shoal tune <capability> --from FILE`
    maximises `objective(parameters, data)` by Ray Tune over the bounds of the
    capability's parameters, where `data = load(path)`.
    """

    load: Callable[[str], Any]
    objective: Callable[[Parameters, Any], float]
    metric: str


class PageContext(Protocol):
    """What a console page is given."""

    @property
    def client(self) -> Any:
        """`shoal.AsyncClient`, bound to the key that signed in: the Router guards it
        like anyone.
        """

    @property
    def tenant(self) -> str: ...
    @property
    def role(self) -> Role: ...


@dataclass(frozen=True, slots=True)
class Capability:
    """One feature of the platform. `name` is its Serve application, its route prefix
    and its console page.
    """

    name: str
    summary: str
    routes: Callable[[Services], APIRouter]
    parameters: type[Parameters] | None = None
    scaling: Scaling = field(default_factory=Scaling)
    backends: Sequence[Backend] = ()
    jobs: Sequence[Job] = ()
    streams: Sequence[Stream] = ()
    page: Callable[[PageContext], Awaitable[None] | None] | None = None
    """Draws its console page with `nicegui.ui`."""
    commands: Callable[[], Any] | None = None
    """Gives a `typer.Typer` that becomes `shoal <name> …`."""
    study: Study | None = None
    version: str = "0.1.0"

    def __post_init__(self) -> None:
        _check_name(self.name, "capability")
        for kind in ("backends", "jobs", "streams"):
            names = [member.name for member in getattr(self, kind)]
            for name in names:
                _check_name(name, f"{self.name}: {kind}")
            if len(set(names)) < len(names):
                raise ValueError(f"{self.name}: two {kind} have the same name")


def _check_name(name: str, what: str) -> None:
    if not CAPABILITY.fullmatch(name):
        raise ValueError(
            f"{what}: invalid name {name!r}; a name is 1 to 32 of a-z, 0-9, _ and -, and begins"
            " with a letter"
        )
