"""What a group of workers follows, and what it does with it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shoal.contract.events import Event, Rejection


@dataclass(frozen=True, slots=True)
class Handled:
    """What came of a batch: recorded once, in the step that moves past its events.

    Attributes:
        used: What was used, by field of the tenant's usage.
        rejections: The events that the handler cannot use.
    """

    used: Mapping[str, int] = field(default_factory=dict)
    rejections: Sequence[Rejection] = ()


Handler = Callable[[str, list[Event]], Awaitable[Handled | None]]
"""`handle(tenant, events)`: events of one tenant, in order."""

Tenants = Callable[[], Awaitable[Sequence[str]]]
"""The tenants whose logs are followed."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A group's subscription to the logs of all tenants.

    Attributes:
        group: Names the position in each log; its workers share the tenants.
        handle: Called at least once for each event, again after an error.
        types: Event types (`item.*` is a prefix); none for all.
        batch_size: Events of one call, at most.
        deliveries: How often an event is delivered before it becomes a dead letter.
            `Unavailable` does not count: then the event waits, and all behind it.
    """

    group: str
    handle: Handler
    types: tuple[str, ...] = ()
    batch_size: int = 256
    deliveries: int = 5
