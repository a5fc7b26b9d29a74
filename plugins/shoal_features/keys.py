"""Keys of the capability in Redis: what a key holds is its first part.

The ids of entities, and the names of entity types and views, come after it, so no
tenant's names make one kind of key another.
"""

from collections.abc import Sequence

REGISTRY = ("registry",)
"""String: the tenant's definitions (JSON)."""

STATUS = ("status",)
"""Hash: view → JSON of the event time of its newest value, when it was last updated,
and its lag then, all in µs.
"""

PROFILES = ("profiles",)
"""Hash: view → JSON of each feature's share of nulls and drift, when last measured."""

PROFILED = ("profiled",)
"""String: exists while nulls and drift have been measured recently."""

CORRECTED = ("corrected",)
"""Hash: view → how many events too late for the stream the batch has covered."""

REBUILT = ("rebuilt",)
"""Hash: stream view → digest of the definition that its windows were filled for."""

LIFETIMES = ("lifetimes",)
"""String: JSON of entity type → seconds that its stored values are kept for."""

LAST_NIGHTLY_RUN = ("last_nightly_run",)
"""String: when the nightly run last began, in ms since 1970."""

RETRACTIONS = ("retractions",)
"""Counter: grows when an entity is erased and when events are retracted."""

ERASED = ("erased",)
"""Hash: JSON of entity type and id → when it was erased, in µs since 1970."""


def values(entity: str, entity_id: str) -> tuple[str, ...]:
    """Hash: feature → its stored value, of one entity."""
    return ("values", entity, entity_id)


def values_of(entity: str) -> tuple[str, ...]:
    """The prefix of the keys of an entity type's values."""
    return ("values", entity)


def window(
    entity: str, entity_id: str, view: str, distinct: Sequence[str] = ()
) -> list[tuple[str, ...]]:
    """The keys of an entity's events of a view, as the scripts of windows take them.

    They are the events' times, columns and tiles, values ahead of the clock, and for
    each of the columns `distinct` the latest times of its values. All are in the
    Cluster slot of the entity's own key.
    """
    times = ("{}", *values(entity, entity_id), "{}", view)
    latest = [(*times, "latest", column) for column in distinct]
    return [times, *((*times, kind) for kind in ("columns", "tiles", "ahead")), *latest]


def erased(entity: str, entity_id: str) -> tuple[str, ...]:
    """String: when the entity was erased, in µs since 1970."""
    return ("{}", *values(entity, entity_id), "{}", ".erased")  # no view's name


def retracted(entity: str, entity_id: str) -> tuple[str, ...]:
    """Set: members of the entity's retracted events."""
    return ("{}", *values(entity, entity_id), "{}", ".retracted")


def late_events(view: str) -> tuple[str, ...]:
    """Hash of events that came too late for a view: member → JSON [entity, µs]."""
    return ("late_events", view)


def future_events(view: str) -> tuple[str, ...]:
    """Sorted set, by time, of events that are too far ahead of our clock.

    Each is JSON [member, entity, µs, columns].
    """
    return ("future_events", view)
