"""Erasing an entity, such as a user, and retracting events, over all capabilities."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoal.contract.events import Event
from shoal.eventlog.tombstones import KEPT_SECONDS

from .context import PlatformContext, counts_by_kind

if TYPE_CHECKING:
    from shoal.eventlog.retraction import Selection

DAYS = KEPT_SECONDS // 86_400
REMAINS = {
    "events": f"for {DAYS} days the digests of the events' sources and ids, so that an event that"
    " is sent again is not accepted",
    "redis": "what was deleted is in the Redis servers' files until these are next written anew,"
    " and an event's bytes in the log's memory until the log is trimmed, after an hour",
    "lake": "the lake's own log has the least and greatest values of deleted files for an hour,"
    " until the job `platform.compact` runs",
    "backups": "backups made before, until you delete them, and what was exported, as to Kafka",
}
"""What remains of retracted events."""
REMAINS_OF_ENTITY = REMAINS | {
    "tombstone": f"for {DAYS} days the id in Redis, so that values from before do not come back",
    "audit": "the audit log says who erased the entity, and when",
    "jobs": "finished job runs whose results name it, until newer ones take their place",
    "platform": "memberships, API keys and people of identity providers: remove them there",
    "content": "items, files and tasks on boards, which are the tenant's: delete them there",
}


@dataclass(frozen=True, slots=True)
class Removal:
    """What an erasure or a retraction did.

    Attributes:
        removed: How much was removed or computed again, by `<where>.<kind>`.
        remains: By place, what is still there, and until when.
    """

    removed: dict[str, int]
    remains: dict[str, str]


async def retract(
    platform: PlatformContext, tenant: str, names: Iterable[tuple[str, str]]
) -> Removal:
    """Retract a tenant's events: see `shoal.eventlog.retraction`.

    Args:
        platform: The platform.
        tenant: The tenant's id.
        names: Source and id of each event.

    Raises:
        Conflict: The log is being archived, or other events are being retracted.
        Unavailable: A store is; call this again to continue.
    """
    from shoal.eventlog.retraction import Selection  # imports pyarrow

    return Removal(await _retract(platform, tenant, Selection.of_ids(names)), dict(REMAINS))


async def erase_entity(platform: PlatformContext, tenant: str, entity: str, id: str) -> Removal:
    """Erase a tenant's entity: what capabilities have of it, and the events about it.

    Raises:
        Conflict: The log is being archived, or other events are being retracted.
        Unavailable: A store is; call this again to continue.
    """
    from shoal.eventlog.retraction import Selection, is_about  # imports pyarrow

    of = {"entity": entity, "id": id}
    found = await platform.call_hook("shoal_entity_events", tenant, **of)
    tests = [test for test in found.values() if test]

    def matches(event: Event) -> bool:
        return is_about(event, entity, id) or any(test(event) for test in tests)

    erased = counts_by_kind(await platform.call_hook("shoal_entity_erased", tenant, **of))
    retracted = await _retract(platform, tenant, Selection(matches, text=id))
    return Removal(dict(Counter(erased) + Counter(retracted)), dict(REMAINS_OF_ENTITY))


async def _retract(
    platform: PlatformContext, tenant: str, selection: "Selection"
) -> dict[str, int]:
    from shoal.eventlog.retraction import retract_events

    counts: Counter[str] = Counter()

    async def tell(events: Sequence[Event]) -> None:
        counts.update(
            counts_by_kind(
                await platform.call_hook("shoal_events_retracted", tenant, events=events)
            )
        )

    groups = sorted({*platform.groups(), *await platform.event_log.group_names(tenant)})
    removed = await retract_events(platform.stores, tenant, selection, groups, tell)
    return {f"events.{place}": n for place, n in removed.items()} | dict(counts)
