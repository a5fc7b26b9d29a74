"""Retracting events: out of the log, its queues and dead letters, and the archive.

What is retracted is first put into a stream of its own, from where capabilities take it
back out of what they made of it, and is gone when they have. So a retraction that is
killed is completed by the next one. The digest of an event's source and id is kept for
`KEPT_SECONDS`: until then the event is not accepted again.
"""

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from shoal.contract.errors import Conflict
from shoal.contract.events import Event
from shoal.contract.names import check_tenant
from shoal.stores.configuration import StoreConfig
from shoal.stores.lake import EVENTS, TenantLake, run
from shoal.stores.lake_table import LakeTable
from shoal.stores.leases import acquire_lease, release_lease, renew_lease
from shoal.stores.redis_client import async_redis, run_atomically, translate_errors

from . import keys, rejections
from .archive import LEASE_SECONDS, archived_event
from .codec import Entry, decode_event, encode_event, sort_key
from .dead_letters import delete_dead_letters
from .streams import PAGE, append_command
from .tombstones import KEPT_SECONDS, digest

WAIT_SECONDS = 60.0
"""Seconds to wait for an archiving of the log to end."""

Tell = Callable[[Sequence[Event]], Awaitable[None]]


@dataclass(frozen=True)
class Selection:
    """Which events to retract.

    Attributes:
        matches: Whether an event is one of them.
        ids: The ids that they have; None for any.
        text: What each of them has in one of its texts.
    """

    matches: Callable[[Event], bool]
    ids: frozenset[str] | None = None
    text: str = ""

    @classmethod
    def of_ids(cls, names: Iterable[tuple[str, str]]) -> "Selection":
        """The events with these sources and ids."""
        wanted = frozenset(names)
        ids = frozenset(id for _, id in wanted)
        return cls(lambda event: (event.source, event.id) in wanted, ids)

    def candidates(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The archived rows that may be of events that match."""
        if self.ids is not None:
            return rows.filter(pc.is_in(rows["id"], pa.array(sorted(self.ids), pa.string())))
        mask = pc.match_substring(rows["data"], json.dumps(self.text, ensure_ascii=False)[1:-1])
        for column in ("subject", "source", "type", "id"):
            mask = pc.or_kleene(mask, pc.equal(rows[column], self.text))
        return rows.filter(mask)


def is_about(event: Event, entity: str, id: str) -> bool:
    """Whether an event names an entity by its type.

    `data.user_id` and `data.user` name a user; `data.unit` names one where
    `data.unit_type` is `user`, as in exposures.
    """
    if not isinstance(event.data, dict):
        return False
    named = [event.data.get(f"{entity}_id"), event.data.get(entity)]
    if event.data.get("unit_type") == entity:
        named.append(event.data.get("unit"))
    return any(isinstance(n, str | int) and not isinstance(n, bool) and str(n) == id for n in named)


async def retract_events(
    config: StoreConfig, tenant: str, selection: Selection, groups: Sequence[str], tell: Tell
) -> dict[str, int]:
    """Remove events for good, and tell capabilities of them.

    Args:
        config: Where the stores are.
        tenant: The tenant's id.
        selection: Which events.
        groups: The groups that may have queues of them.
        tell: Called with the events, once they are in no log, queue or archive. It must
            be idempotent.

    Returns:
        How many were removed, by place.

    Raises:
        Conflict: The log is being archived, or events are being retracted.
        Unavailable: A store is; what was begun is completed by the next call.
    """
    check_tenant(tenant)
    work = _Retraction(config, tenant, selection, tell)
    with translate_errors():
        async with _archive_lease(config, tenant):
            await work.forget_expired()
            await work.take_archived()
            for stream in [keys.log(tenant), *(keys.retry_queue(tenant, g) for g in groups)]:
                await work.take(stream)
            await work.remove_dead_letters()
            for group in groups:
                await work.remove_rejections(group)
            await work.finish()
    return dict(work.counts)


@asynccontextmanager
async def _archive_lease(config: StoreConfig, tenant: str) -> AsyncIterator[None]:
    """Keep the log from being archived, which would bring events back."""
    client, lease = async_redis(config.online), keys.lease(tenant, "archive")
    owner, deadline = secrets.token_hex(8), time.monotonic() + WAIT_SECONDS
    while not await acquire_lease(client, lease, owner, LEASE_SECONDS):
        if time.monotonic() > deadline:
            raise Conflict(f"the events of {tenant} are being archived or retracted: try again")
        await asyncio.sleep(0.2)

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            await renew_lease(client, lease, owner, LEASE_SECONDS)

    renewing = asyncio.ensure_future(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await release_lease(client, lease, owner)


class _Retraction:
    """The steps of one retraction."""

    def __init__(self, config: StoreConfig, tenant: str, selection: Selection, tell: Tell) -> None:
        self._config, self._tenant = config, tenant
        self._selection, self._tell = selection, tell
        self._events = async_redis(config.events)
        self._table = TenantLake(config.lake, tenant).table(EVENTS)
        self.counts: Counter[str] = Counter()

    async def forget_expired(self) -> None:
        await self._events.zremrangebyscore(keys.retracted(self._tenant), "-inf", time.time())

    async def take_archived(self) -> None:
        """Remove events from the lake, a day at a time."""
        for day in await run(self._table.days):
            positions: set[str] = set()
            async for found in _matching_rows(self._table, day, self._selection):
                await self._keep([event for _, event in found])
                positions.update(position for position, _ in found)
            if positions:
                gone = pa.array(sorted(positions), pa.string())
                self.counts["archive"] += await run(self._table.rewrite, _without(gone), [day])
        await run(self._table.rewrite, lambda _: None, [])  # what a killed one left

    async def take(self, stream: str) -> None:
        """Remove events from the log, or from a retry queue."""
        done = await self._events.hget(keys.archive(self._tenant), "done")
        archived = sort_key(done.decode()) if done else (0, 0)
        async for page in self._pages(stream):
            found = await asyncio.to_thread(self._matching, page)
            if not found:
                continue
            await self._keep([decode_event(fields) for _, fields in found])
            await self._events.xdel(stream, *(position for position, _ in found))
            if stream == keys.log(self._tenant):
                old = sum(sort_key(at.decode()) <= archived for at, _ in found)
                await self._events.hincrby(keys.archive(self._tenant), "archived", -old)
                self.counts["log"] += len(found)
            else:
                self.counts["retry queues"] += len(found)

    async def remove_dead_letters(self) -> None:
        async for page in self._pages(keys.dead_letters(self._tenant)):
            if found := await asyncio.to_thread(self._matching, page):
                self.counts["dead letters"] += await delete_dead_letters(
                    self._events, self._tenant, [position for position, _ in found]
                )

    async def remove_rejections(self, group: str) -> None:
        stream = keys.rejections(self._tenant, group)
        async for page in self._pages(stream):
            digests = [digest(*rejections.event_name(fields[b"r"])) for _, fields in page]
            known = await self._events.zmscore(keys.retracted(self._tenant), digests)
            gone = [at for (at, _), expiry in zip(page, known, strict=True) if expiry]
            if gone:
                self.counts["rejections"] += await self._events.xdel(stream, *gone)

    async def finish(self) -> None:
        """Tell capabilities what is gone, and forget it."""
        stream = keys.retracting(self._tenant)
        async for page in self._pages(stream):
            events = [decode_event(fields) for _, fields in page]
            await self._tell(list({(e.source, e.id): e for e in events}.values()))
            await self._events.xdel(stream, *(position for position, _ in page))
        await self._events.delete(stream)

    async def _pages(self, stream: str) -> AsyncIterator[list[Entry]]:
        position = "-"
        while page := await self._events.xrange(stream, position, "+", count=PAGE):
            yield page
            position = f"({page[-1][0].decode()}"

    def _matching(self, page: Sequence[Entry]) -> list[Entry]:
        return [entry for entry in page if self._selection.matches(decode_event(entry[1]))]

    async def _keep(self, events: Sequence[Event]) -> None:
        """Have events told of later, and not accepted again."""
        told = keys.retracting(self._tenant)
        expiry = time.time() + KEPT_SECONDS
        for start in range(0, len(events), PAGE):
            page = events[start : start + PAGE]
            scores = [part for e in page for part in (expiry, digest(e.source, e.id))]
            commands = [("ZADD", keys.retracted(self._tenant), *scores)]
            commands += [append_command(told, encode_event(event)) for event in page]
            await run_atomically(self._events, commands, self._config.replicas)


def _without(positions: pa.Array) -> Callable[[pa.RecordBatch], pa.RecordBatch | None]:
    """Removes the rows at some positions of the log."""

    def change(rows: pa.RecordBatch) -> pa.RecordBatch | None:
        kept = rows.filter(pc.invert(pc.is_in(rows["position"], positions)))
        return None if kept.num_rows == rows.num_rows else kept

    return change


async def _matching_rows(
    table: LakeTable, day: date, selection: Selection
) -> AsyncIterator[list[tuple[str, Event]]]:
    """A day's archived events that match, with their positions, by batches of rows."""
    batches = table.batches(day)

    def next_matching() -> list[tuple[str, Event]] | None:
        if (rows := next(batches, None)) is None:
            return None
        events = [
            (row["position"], archived_event(row)) for row in selection.candidates(rows).to_pylist()
        ]
        return [(position, event) for position, event in events if selection.matches(event)]

    while (found := await run(next_matching)) is not None:
        if found:
            yield found
