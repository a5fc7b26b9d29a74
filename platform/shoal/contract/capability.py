"""The declaration of a capability: its routes, jobs, streams and parameters."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any, Literal, Protocol

from fastapi import APIRouter

from .context import Services, TenantContext
from .errors import ShoalError
from .events import Event
from .names import CAPABILITY
from .parameters import Parameters
from .rights import Right


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many replicas a deployment has, and the resources of each.

    Args:
        min_replicas: The number of replicas when there is little load.
        max_replicas: The largest number of replicas.
        cpus: CPUs reserved for each replica.
        gpus: GPUs reserved for each replica.
        memory: Memory reserved for each replica, in bytes.
        ongoing: The largest number of requests that a replica handles at once.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    cpus: float = 0.0
    gpus: float = 0.0
    memory: int | None = None
    ongoing: int = 100


@dataclass(frozen=True, slots=True)
class Backend:
    """A Serve deployment of its own behind the routes, such as a model.

    Args:
        name: 1 to 32 of a-z, 0-9, _ and -, beginning with a letter.
        build: Called on each replica; returns the object whose methods are called
            through `services.backend(name)`.
        scaling: The replicas and their resources.
        batch: The name of a method whose concurrent calls are batched. Callers pass it
            one argument; it gets a list of these and returns a list of as many results.
        batch_size: The largest number of calls in one batch.
        batch_wait: How long a batch waits for more calls, in seconds.
    """

    name: str
    build: Callable[[Services], Any]
    scaling: Scaling = field(default_factory=Scaling)
    batch: str | None = None
    batch_size: int = 32
    batch_wait: float = 0.002


class JobContext(Protocol):
    """What a running job gets from the platform."""

    run_id: str
    tenants: Sequence[TenantContext]
    """The tenant that was asked for, or all tenants if the schedule started the run.

    Their role is admin, and they see all boards.
    """
    arguments: Mapping[str, Any]
    """The arguments that the run was started with."""
    scheduled_for: datetime
    """When the run was due, in the job's time zone; if started by hand, when it was."""

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Report progress; a cancelled run stops at this call.

        Args:
            done: The amount of work done, in any unit.
            total: The amount of work in all, in the same unit.
            message: What the job is doing.
        """


@dataclass(frozen=True, slots=True)
class Job:
    """Batch work that runs in a Ray task, with the full name `<capability>.<name>`.

    Args:
        name: 1 to 32 of a-z, 0-9, _ and -, beginning with a letter.
        run: A function or coroutine function. It may use `ray.data`. The small mapping
            that it returns is stored as the run's result.
        summary: One line for lists of jobs.
        cron: When to run, in five fields; None if it is only started by hand.
        timezone: The time zone of `cron`; None for the platform's.
        deadline: A run that has not finished this long after it was due appends a
            `shoal.job.late` event.
    """

    name: str
    run: Callable[[JobContext], Mapping[str, Any] | None | Awaitable[Mapping[str, Any] | None]]
    summary: str = ""
    cron: str | None = None
    timezone: str | None = None
    deadline: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A handler of events, with the full name `<capability>.<name>`.

    That name is also the consumer group's, which stores the position in the log: a
    renamed stream starts again from the oldest event.

    Args:
        name: 1 to 32 of a-z, 0-9, _ and -, beginning with a letter.
        types: The event types to handle; `item.*` matches all that begin with `item.`.
        handle: `handle(ctx, events)` gets one tenant's events in order, each with its
            `position` in the log. After an error it is called again with the same
            events, so it must be idempotent by `(event.source, event.id)`.
        batch_size: The largest number of events in one call.
    """

    name: str
    types: tuple[str, ...]
    handle: Callable[[TenantContext, Sequence[Event]], Awaitable[None]]
    batch_size: int = 256


@dataclass(frozen=True, slots=True)
class Study:
    """An offline search for better parameters, run by `shoal tune <capability>`.

    Ray Tune maximises the objective within the bounds of the capability's parameters,
    on one half of the cases. What is reported was measured on the other half.

    Args:
        load: Reads labelled cases, such as judged queries or labelled series, from the
            path given as `--from`. Cases are independent of each other.
        objective: `objective(parameters, cases)` returns the value to maximise.
        metric: The name of that value.
        fixed: Names of parameters of which the cases say nothing; they are not varied.
    """

    load: Callable[[str], Sequence[Any]]
    objective: Callable[[Parameters, Sequence[Any]], float]
    metric: str
    fixed: Collection[str] = ()


class PageContext(Protocol):
    """What a console page gets from the platform."""

    @property
    def client(self) -> Any:
        """A `shoal.AsyncClient` with the rights of the key that signed in."""

    @property
    def tenant(self) -> str: ...

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the page's address, such as `{"id": "a"}` of `?id=a`."""

    @property
    def timezone(self) -> tzinfo:
        """The reader's time zone, which the console names on the page."""

    def format_time(self, time: str | datetime | None) -> str:
        """A time of RFC 3339 in the reader's zone: "28 Nov, 14:05"; "" for None."""

    def may(self, right: Right) -> bool:
        """Whether the key that signed in has a right."""

    def require(self, right: Right) -> None:
        """Draw the page only for a key with a right; others are told what is missing.

        Raises:
            Forbidden: The console shows it in place of the page.
        """

    def notify_error(self, error: ShoalError) -> None:
        """Show an error in plain words, naming the fields that it is about."""

    def heading(self, text: str, level: Literal[1, 2, 3] = 2) -> Any:
        """Draw a heading; returns NiceGUI's element."""

    async def ask(self, question: str, explanation: str, action: str) -> bool:
        """Ask before something that cannot be undone; False where the reader declines.

        Args:
            question: Names what would be done, and to what.
            explanation: What follows from it.
            action: The text of the button that does it.
        """

    def on_change(self, refresh: Callable[[], Awaitable[None] | None]) -> None:
        """Call `refresh` when something of the tenant changed, or half a minute passed.

        Within a second or two of an event, of a write through the API and of a change
        of a job run. The page then says how old it is.
        """


@dataclass(frozen=True, slots=True)
class Capability:
    """A feature of the platform, as a plugin declares it.

    Args:
        name: 1 to 32 of a-z, 0-9, _ and -, beginning with a letter. It names the Serve
            application, the route prefix and the console page.
        summary: One line for the documentation and the console.
        routes: Called on each replica; returns the FastAPI routes.
        parameters: The parameters that experiments may vary.
        scaling: The replicas that serve the routes, and their resources.
        backends: Deployments that the routes call.
        jobs: Batch work.
        streams: Handlers of events.
        page: Draws the console page with `nicegui.ui`.
        commands: Returns a `typer.Typer` that becomes `shoal <name> …`.
        study: How `shoal tune` searches for better parameters.
        stores: Those whose libraries a replica imports as it starts. Others it imports
            with the first request that uses them, which delays all requests.
        version: The version of the API.

    Raises:
        ValueError: A name is invalid, or two members of one kind have the same name.
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
    commands: Callable[[], Any] | None = None
    study: Study | None = None
    stores: Sequence[Literal["vectors", "lake"]] = ()
    version: str = "0.1.0"

    def __post_init__(self) -> None:
        _check_name(self.name, "capability")
        for kind in ("backends", "jobs", "streams"):
            names = [member.name for member in getattr(self, kind)]
            for name in names:
                _check_name(name, f"{self.name}: {kind}")
            if len(set(names)) < len(names):
                raise ValueError(f"{self.name}: two {kind} have the same name")
        fixed = set(self.study.fixed) if self.study else set()
        if unknown := fixed - set(self.parameters.model_fields if self.parameters else ()):
            raise ValueError(f"{self.name}: the study fixes unknown parameters {sorted(unknown)}")


def _check_name(name: str, what: str) -> None:
    if not CAPABILITY.fullmatch(name):
        raise ValueError(
            f"{what}: invalid name {name!r}; a name is 1 to 32 of a-z, 0-9, _ and -, and begins"
            " with a letter"
        )
