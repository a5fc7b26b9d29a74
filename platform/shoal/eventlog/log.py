"""The event log as the platform uses it, whatever it is stored in."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from shoal.contract.events import Event

from .subscription import Handler, Tenants


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a group's handler could not handle."""

    id: str
    group: str
    position: str
    error: str
    deliveries: int
    event: Event


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """What is known of an event that a group's handler cannot use, and why."""

    id: str
    group: str
    position: str | None
    reason: str
    event_id: str
    source: str
    type: str
    time: str
    subject: str | None


@dataclass(frozen=True, slots=True)
class GroupState:
    """How far a group is in one tenant's log.

    Attributes:
        group: The group's name.
        position: Up to where it has handled the log.
        lag: Events after that, counted up to 10,000.
        behind: Seconds since the oldest of them was appended.
    """

    group: str
    position: str
    lag: int
    behind: float


class EventLog(Protocol):
    """The logs of all tenants. A tenant appends and reads by `ctx.stores.events`.

    All methods but `consume`, which waits, raise `Unavailable` when the log cannot be
    reached.
    """

    async def consume(
        self,
        group: str,
        worker: str,
        handler: Handler,
        *,
        types: Sequence[str] = (),
        tenants: Tenants | None = None,
        stop: asyncio.Event | None = None,
        batch_size: int = 256,
        deliveries: int = 5,
        lease: float = 10.0,
        concurrency: int = 8,
    ) -> None:
        """Follow the logs as one worker of a group, until stopped or cancelled.

        Events are handled at least once, those of one tenant in order. After an error
        or a worker's death the same events are delivered again, one by one; one that
        fails `deliveries` times becomes a dead letter. `Unavailable` does not count as
        an error: the event waits, and all behind it. The tenants take turns of a second
        or 32 batches, and one that waits or is slow takes no other's turn.

        Args:
            group: The group; each has its own position in each log.
            worker: A name that no other living worker of the group has.
            handler: Called with a tenant and its events.
            types: Event types (`item.*` is a prefix); none for all.
            tenants: Whose logs to follow; None for all that exist.
            stop: Ends the worker, once set, after the batches in progress.
            batch_size: Events of one call, at most.
            deliveries: How often an event is delivered before it becomes a dead letter.
            lease: Seconds after which a silent worker counts as dead.
            concurrency: Tenants that are handled at the same time; a handler that is
                slower than a turn does not count.
        """

    async def tenants(self) -> list[str]:
        """The tenants that have a log."""

    async def groups(self, tenant: str) -> list[GroupState]:
        """The groups that follow a tenant's log."""

    async def group_names(self, tenant: str) -> list[str]:
        """The names of the groups that have a position or dead letters in a log."""

    async def forget_group(self, tenant: str, group: str) -> bool:
        """Remove a group, whose position would keep the log from being trimmed.

        Its rejections too; its dead letters remain.

        Returns:
            Whether there was anything of it.
        """

    async def dead_letters(
        self, tenant: str, *, group: str | None = None, after: str = "0", limit: int = 100
    ) -> list[DeadLetter]:
        """A tenant's dead letters, oldest first.

        Args:
            tenant: The tenant's id.
            group: Whose letters; None for all groups'.
            after: The id of the last letter of the page before.
            limit: How many, at most.
        """

    async def delete_dead_letters(self, tenant: str, ids: Sequence[str]) -> int:
        """Delete dead letters; return how many there were."""

    async def dead_letter_counts(self, tenant: str) -> dict[str, int]:
        """How many dead letters each group has."""

    async def rejections(
        self,
        tenant: str,
        *,
        group: str | None = None,
        before: tuple[str, str] | None = None,
        limit: int = 100,
    ) -> list[RejectedEvent]:
        """Events that the groups' handlers rejected, newest first.

        Of each group the last 1,000 of 30 days are kept.

        Args:
            tenant: The tenant's id.
            group: Whose; None for all groups'.
            before: The id and group of the last one of the page before.
            limit: How many, at most.
        """

    async def rejection_counts(self, tenant: str) -> dict[str, int]:
        """How many events each group has rejected in all, kept or not."""

    async def replay(
        self, tenant: str, group: str, *, ids: Sequence[str] | None = None, after: str | None = None
    ) -> int:
        """Have a group handle events again, in the log's order, before anything newer.

        Args:
            tenant: The tenant's id.
            group: The group that handles them.
            ids: Dead letters of the group.
            after: A position; all events after it, archived ones included.

        Returns:
            How many events.

        Raises:
            NotFound: One of `ids` is no dead letter of the group.
            ValueError: Neither `ids` nor `after` is given, or both.
        """

    async def archive(
        self,
        tenant: str,
        keep: timedelta = timedelta(hours=1),
        wait: timedelta = timedelta(0),
    ) -> int:
        """Write the log's new events to the lake, 100,000 at most, then trim the log.

        An event stays in the log until it is archived, handled by every group, and
        older than `keep`.

        Args:
            tenant: The tenant's id.
            keep: How long events stay in the log at least.
            wait: Write only if an event has waited for as long, or 10,000 wait.

        Returns:
            How many events were archived.

        Raises:
            Conflict: The tenant's log is being archived elsewhere.
        """
