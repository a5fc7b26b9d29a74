"""How events are written in Redis: the keys of a tenant's log, and an event as an entry
of a stream.

The log's keys begin with `@`, as no tenant's id does: no door can reach them. All of a
tenant's have the hash tag `{tenant}`, so that in a Redis Cluster they lie together and
a script may work on several.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence

from pydantic_core import from_json

from shoal.contract.errors import Invalid
from shoal.contract.events import Event

POSITION = re.compile(r"\d{1,19}(-\d{1,19})?", re.ASCII)
TENANTS = "@events"
"""Sorted set: who has a log, by the time of the last append. Also the channel that
carries the tenant's name at an append.
"""


def log(tenant: str) -> str:
    """The stream of all the tenant's events."""
    return f"@events:{{{tenant}}}"


def again(tenant: str, group: str) -> str:
    """The stream of what one group is to be given again, before anything newer."""
    return f"{log(tenant)}:again:{group}"


def dead(tenant: str) -> str:
    """The stream of what handlers could not handle."""
    return f"{log(tenant)}:dead"


def groups(tenant: str) -> str:
    """Hash: each group's position, up to which it has handled the log."""
    return f"{log(tenant)}:groups"


def archive(tenant: str) -> str:
    """Hash: `done`, the position up to which the lake has the log, and `intent`, up to
    where it is being written.
    """
    return f"{log(tenant)}:archive"


# The following need not outlive a power cut. They are in the online Redis, which does
# not wait for the disk.


def lease(tenant: str, purpose: str) -> str:
    """Who works on the tenant's log for a group, or archives it."""
    return f"{log(tenant)}:lease:{purpose}"


def work(stream: str, group: str) -> str:
    """Hash: `taken`, the last position of the batch that a group's worker took, and
    `tries`, how often it took `head` alone.
    """
    return f"{stream}:work:{group}"


def workers(group: str) -> str:
    """Sorted set: a group's living workers by when they last said so."""
    return f"@workers:{group}"


def write(event: Event) -> dict[str, bytes]:
    """The fields of the stream's entry. Invalid when the event's data is no JSON, or
    nested deeper than `read` can follow.
    """
    try:
        json.dumps(
            event.data, allow_nan=False, default=str
        )  # pydantic would write null for NaN, and say nothing
        written = event.model_dump_json().encode()
        from_json(written)
        return {"t": event.type.encode(), "e": written}
    except (
        ValueError,
        TypeError,
        RecursionError,
    ) as error:  # UnicodeEncodeError and PydanticSerializationError are ValueErrors
        raise Invalid(f"the data of event {event.id} must be JSON: {error}") from None


def read(fields: Mapping[bytes, bytes]) -> Event:
    return Event.model_validate_json(fields[b"e"])


def wanted(types: Sequence[str]) -> Callable[[bytes], bool]:
    """Whether an entry's type is among `types`; `item.*` stands for all that begin with
    `item.`, and none given for all.
    """
    exact = frozenset(t.encode() for t in types if not t.endswith("*"))
    starts = tuple(t[:-1].encode() for t in types if t.endswith("*"))
    if not types:
        return lambda _: True
    return lambda t: t in exact or (bool(starts) and t.startswith(starts))


def order(position: str) -> tuple[int, int]:
    """A position, to be compared."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)


def check_position(position: str) -> str:
    """Invalid when it is no position of a log."""
    if not POSITION.fullmatch(position):
        raise Invalid(f"{position!r} is not a position of the event log, such as 1700000000000-0")
    return position
