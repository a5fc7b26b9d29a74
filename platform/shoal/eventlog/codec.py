"""Events as entries of a Redis stream, their positions, and filters by type."""

import json
import re
from collections.abc import Callable, Mapping, Sequence

from pydantic_core import from_json

from shoal.contract.errors import Invalid
from shoal.contract.events import MAX_EVENT_BYTES, Event

POSITION = re.compile(r"\d{1,19}(-\d{1,19})?", re.ASCII)

Entry = tuple[bytes, dict[bytes, bytes]]
"""An entry of a stream: its position, and its fields.

They are `t`, an event's type, and `e`, the event in JSON; in a retry queue also `p`,
the event's position in the log.
"""


def encode_event(event: Event) -> dict[str, bytes]:
    """The fields of an event's entry: `t`, its type, and `e`, the event in JSON.

    Raises:
        Invalid: The event's data is not JSON, or nested too deeply to be read.
    """
    try:
        # pydantic would silently write null for NaN.
        json.dumps(event.data, allow_nan=False, default=str)
        encoded = event.model_dump_json().encode()
        if len(encoded) > MAX_EVENT_BYTES:
            raise ValueError(f"{len(encoded):,} bytes are over the limit of {MAX_EVENT_BYTES:,}")
        from_json(encoded)
    # UnicodeEncodeError and PydanticSerializationError are ValueErrors.
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(f"the data of event {event.id} must be JSON: {error}") from None
    return {"t": event.type.encode(), "e": encoded}


def encode_events(events: Sequence[Event]) -> list[dict[str, bytes]]:
    """The fields of each event's entry: see `encode_event`."""
    return [encode_event(event) for event in events]


def decode_event(fields: Mapping[bytes, bytes]) -> Event:
    """The event of an entry."""
    return Event.model_validate_json(fields[b"e"])


def placed_event(entry: Entry) -> Event:
    """The event of an entry, with its place in the log."""
    position, fields = entry
    return decode_event(fields).at(fields.get(b"p", position).decode())


def type_filter(types: Sequence[str]) -> Callable[[bytes], bool]:
    """A predicate of an entry's type.

    Args:
        types: The types to accept; `item.*` accepts all that begin with `item.`. None
            accepts every type.
    """
    exact = frozenset(t.encode() for t in types if not t.endswith("*"))
    prefixes = tuple(t[:-1].encode() for t in types if t.endswith("*"))
    if not types:
        return lambda _: True
    return lambda t: t in exact or (bool(prefixes) and t.startswith(prefixes))


def sort_key(position: str) -> tuple[int, int]:
    """A position as (milliseconds, sequence), which compares in the log's order."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)


def check_position(position: str, location: str = "after") -> str:
    """Return a position of a log; Invalid when it is none."""
    if not POSITION.fullmatch(position):
        raise Invalid.at(location, "not a position of the event log, such as 1700000000000-0")
    return position
