"""The states of items over time, and which of them is the newest.

A state is what an item was from some time on, or that it was deleted then. The newest
one is that with the greatest (`updated_at`, place in the event log), whatever the order
in which they arrive.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ValidationError

from shoal import Event, Identifier, describe_validation_error

from .items import EPOCH, Item, check_time, reject_number

SOURCE = "shoal/search"
"""Source of the events that the routes append."""
TYPES = ("item.created", "item.updated", "item.deleted")
MICROSECOND = timedelta(microseconds=1)


class Version(NamedTuple):
    """What orders the states of one item.

    Attributes:
        time: `updated_at`, in microseconds since 1970.
        place: Of the event in the log: milliseconds and a sequence.
        edition: The number of the reindexing that wrote the state again; else 0.
    """

    time: int
    place: tuple[int, int]
    edition: int = 0

    def __str__(self) -> str:
        """The version as a text; texts compare as the versions do."""
        return f"{self.time:018}.{self.place[0]:015}.{self.place[1]:020}.{self.edition:015}"

    @classmethod
    def of(cls, updated_at: datetime, position: str | None) -> "Version":
        """The version of a state, by its event's place in the log; None is its end."""
        return cls(microseconds(updated_at), _read_place(position))

    @classmethod
    def parse(cls, text: str) -> "Version":
        time, milliseconds, sequence, edition = map(int, text.split("."))
        return cls(time, (milliseconds, sequence), edition)

    @property
    def updated_at(self) -> datetime:
        return EPOCH + self.time * MICROSECOND


class Deletion(BaseModel):
    """The data of `item.deleted`; other fields are ignored."""

    id: Identifier
    updated_at: Annotated[AwareDatetime, BeforeValidator(reject_number), AfterValidator(check_time)]


@dataclass(frozen=True, slots=True)
class State:
    """A state of an item.

    Attributes:
        id: The item's id.
        version: Orders the item's states.
        item: What it was; None where it was deleted, or where only the version counts.
        is_deletion: Whether it was deleted.
        by_request: Whether a request to search itself made it. If that was a DELETE, it
            deletes whatever is before it in the log, even what has a later time.
    """

    id: str
    version: Version
    item: Item | None = None
    is_deletion: bool = False
    by_request: bool = False

    def after(self, known: Version | None) -> "State":
        """This state, if another is known: a DELETE is newer than any before it."""
        deletes_all = self.by_request and self.is_deletion
        if not deletes_all or known is None or known.place >= self.version.place:
            return self
        time = max(self.version.time, known.time)
        return replace(self, version=self.version._replace(time=time))


def newest_states(states: Iterable[State]) -> dict[str, State]:
    """The newest state of each item, by its id, whatever their order."""
    newest: dict[str, State] = {}
    for state in sorted(states, key=lambda state: state.version.place):
        known = newest.get(state.id)
        state = state.after(None if known is None else known.version)
        if known is None or state.version >= known.version:
            newest[state.id] = state
    return newest


def read_states(events: Iterable[Event]) -> tuple[list[State], list[tuple[Event, str]]]:
    """The states that events tell of.

    Args:
        events: Events of a log; other types than those of items are ignored.

    Returns:
        A state for each event, and each event whose data is no item, with the reason.
    """
    states: list[State] = []
    faults: list[tuple[Event, str]] = []
    for event in events:
        if event.type not in TYPES:
            continue
        try:
            states.append(read_state(event))
        except ValidationError as error:
            faults.append((event, f"data.{describe_validation_error(error)}"))
        except ValueError as error:
            faults.append((event, str(error)))
    return states, faults


def read_state(event: Event) -> State:
    """The state that an event tells of.

    The item's id defaults to the event's subject, its time to the event's.

    Raises:
        ValueError: The data is not an item's.
    """
    data: Any = event.data if event.data is not None else {}
    if not isinstance(data, dict):
        raise ValueError("data: must be an object")
    by_request = event.source == SOURCE
    given = {"id": event.subject, "updated_at": event.time, **data}
    if event.type == "item.deleted":
        deleted = Deletion.model_validate(given)
        version = Version.of(deleted.updated_at, event.position)
        return State(deleted.id, version, is_deletion=True, by_request=by_request)
    item = Item.model_validate({key: given[key] for key in Item.model_fields if key in given})
    version = Version.of(item.updated_at, event.position)
    return State(item.id, version, item, by_request=by_request)


def _read_place(position: str | None) -> tuple[int, int]:
    """A position in the log as numbers."""
    if position is None:
        return microseconds(datetime.now(UTC)) // 1000, 0
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)


def microseconds(time: datetime) -> int:
    """A time in microseconds since 1970."""
    return (time - EPOCH) // MICROSECOND
