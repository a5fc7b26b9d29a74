"""The job that rebuilds the index from the event log, embedding with Ray Data."""

import asyncio
import json
import pickle
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import orjson

from shoal import Egress, Event, JobContext, TenantContext

from .embedder import EmbeddedItem, Embedder
from .indexes import Indexes
from .items import Item
from .parameters import SearchSettings
from .states import State, Version, newest_states, read_states
from .writer import Writer

COLUMNS = ("position", "id", "source", "type", "time", "subject", "data")
BATCH = 512
"""Items that are embedded and stored at once."""
PART = 20_000
"""States in memory together, beside those of a day; each time the model is loaded."""
DROP_SECONDS = 90.0
"""How long after a switch the former index is there: longer than the 60 seconds that
requests may take by default.
"""


class EmbedBatch:
    """A Ray Data actor that adds passages and vectors to batches of items (JSON)."""

    def __init__(self, settings: SearchSettings, egress: Egress | None) -> None:
        self._embedder = Embedder(settings, egress)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        items = [Item.model_validate_json(row) for row in batch["item"]]
        made = self._embedder.embed_items([(item.title, item.text) for item in items])
        return {"item": batch["item"], "embedded": [pickle.dumps(one) for one in made]}


@dataclass(frozen=True, slots=True)
class LoggedStates:
    """What a tenant's whole event log says, the archive included.

    Attributes:
        newest: The newest version of each item, by its id.
        deleted: The ids of those that were deleted.
        oldest: The earliest time of any state, in microseconds since 1970.
        end: The last place that was read.
    """

    newest: dict[str, Version]
    deleted: frozenset[str]
    oldest: int
    end: tuple[int, int]


def reindex(job: JobContext) -> dict[str, Any]:
    """Index every tenant's items from its event log.

    With the argument `fresh` all items are embedded and written anew, and those that
    are not in the log are dropped; without it, what is indexed already costs nothing.
    Searches are answered and changes indexed meanwhile.

    With the argument `model`, the name of a configured model, its index is written
    beside that which is searched, then searched in its place, and the others are
    dropped. A run that was killed goes on when it is run again.
    """
    fresh, model = bool(job.arguments.get("fresh")), job.arguments.get("model")
    done = {}
    for ctx in job.tenants:
        if model is None:
            done[ctx.tenant] = asyncio.run(reindex_tenant(job, ctx, fresh=fresh))
        else:
            done[ctx.tenant] = asyncio.run(change_model(job, ctx, str(model), fresh=fresh))
    if model is not None:
        time.sleep(DROP_SECONDS)
        for ctx in job.tenants:
            asyncio.run(drop_others(ctx))
    return {"items": sum(done.values()), "tenants": done}


async def change_model(job: JobContext, ctx: TenantContext, model: str, *, fresh: bool) -> int:
    """Index a tenant's items with a model, then search that index.

    What changes while the log is read again is written to both.
    """
    indexes = Indexes(ctx.services)
    await reindex_tenant(job, ctx, fresh=fresh, model=model)
    await indexes.offer(ctx, model)
    try:
        total = await reindex_tenant(job, ctx, fresh=False, model=model)
        await indexes.switch(ctx, model)
    except BaseException:
        await indexes.withdraw(ctx)
        raise
    return total


async def drop_others(ctx: TenantContext) -> None:
    """Drop the indexes of models and languages that are not searched any more."""
    kept = {writer.collection for writer in await Indexes(ctx.services).written(ctx)}
    for name in await ctx.stores.vectors.names():
        if name.startswith("items_") and name not in kept:
            await ctx.stores.vectors.drop(name)


async def reindex_tenant(
    job: JobContext, ctx: TenantContext, *, fresh: bool, model: str | None = None
) -> int:
    """Index a tenant's items from its event log; return how many there are.

    The index is that of `model`, or that which is searched.
    """
    indexes = Indexes(ctx.services)
    writer = await indexes.serving(ctx) if model is None else indexes.of(model)
    settings = ctx.services.settings(SearchSettings).using(writer.model)
    edition = time.time_ns() // 1_000_000 if fresh else 0
    logged = await read_log(ctx)
    done, total = 0, len(logged.newest)
    job.progress(done, total, f"{ctx.tenant}: {total:,} items in the log")
    async for states in logged_states(ctx, logged):
        states = [replace(s, version=s.version._replace(edition=edition)) for s in states]
        news = await writer.unknown(ctx, states)
        await writer.delete(ctx, news)
        left = {state.id: state for state in news if state.item is not None}
        items = {id: state.item for id, state in left.items() if state.item is not None}
        kept = {} if fresh else await writer.stored(ctx, items.values())
        await writer.store(ctx, [left.pop(id) for id in kept], kept)
        done += len(states) - len(left)
        texts = [items[id] for id in left]
        for made in embed_items(texts, settings, ctx.services.egress):
            await writer.store(ctx, [left[id] for id in made], made)
            done += len(made)
            job.progress(done, total, ctx.tenant)
    job.progress(total, total, ctx.tenant)
    if fresh:
        await drop_unlogged(ctx, writer, logged, edition)
    if logged.newest:
        await writer.forget(ctx, logged.oldest)
    return total - len(logged.deleted)


async def read_log(ctx: TenantContext) -> LoggedStates:
    """Read a tenant's log.

    What is live comes first, so that what is archived meanwhile is read, if twice.
    """
    states = [_without_item(state) async for state in _live_states(ctx)]
    for day in await ctx.stores.lake.days("events"):
        states += map(_without_item, await _archived_states(ctx, day))
    newest = newest_states(states)
    return LoggedStates(
        {id: state.version for id, state in newest.items()},
        frozenset(id for id, state in newest.items() if state.is_deletion),
        min((state.version.time for state in states), default=0),
        max((state.version.place for state in states), default=(0, 0)),
    )


async def logged_states(ctx: TenantContext, logged: LoggedStates) -> AsyncIterator[list[State]]:
    """The newest states that were read, again and with their items, in parts."""
    left = dict(logged.newest)

    def is_newest(state: State) -> bool:
        return state.id in left and left[state.id].place == state.version.place

    def take(state: State) -> State:
        return replace(state, version=left.pop(state.id))

    waiting = [take(state) async for state in _live_states(ctx) if is_newest(state)]
    for day in await ctx.stores.lake.days("events"):
        waiting += [take(s) for s in await _archived_states(ctx, day) if is_newest(s)]
        if len(waiting) >= PART:
            yield waiting
            waiting = []
    yield waiting


async def drop_unlogged(
    ctx: TenantContext, writer: Writer, logged: LoggedStates, edition: int
) -> None:
    """Delete the items that were not in the log when it was read."""
    async for versions in writer.all_versions(ctx):
        await writer.delete(
            ctx,
            [
                State(id, version._replace(edition=edition), is_deletion=True)
                for id, version in versions.items()
                if id not in logged.newest and version.place <= logged.end
            ],
        )


def embed_items(
    items: Sequence[Item], settings: SearchSettings, egress: Egress | None = None
) -> Iterator[dict[str, EmbeddedItem]]:
    """Embed items with Ray Data, in an actor that works ahead of the storing.

    Yields:
        Batches by item id. The longest texts come first: a batch of similar lengths
        needs little padding.
    """
    if not items:
        return
    from ray.data import from_items

    ordered = sorted(items, key=lambda item: len(item.passage), reverse=True)
    rows = from_items(
        [{"item": item.model_dump_json()} for item in ordered],
        override_num_blocks=-(-len(items) // BATCH),
    )
    made = rows.map_batches(
        EmbedBatch,
        fn_constructor_args=(settings, egress),
        batch_size=BATCH,
        concurrency=1,
        num_cpus=0,
    )
    for batch in made.iter_batches(batch_size=BATCH, batch_format="numpy"):
        ids = [orjson.loads(row)["id"] for row in batch["item"]]
        yield dict(zip(ids, map(pickle.loads, batch["embedded"]), strict=True))


async def _live_states(ctx: TenantContext) -> AsyncIterator[State]:
    async for position, event in ctx.stores.events.read(types=("item.*",)):
        for state in read_states([event.at(position)])[0]:
            yield state


async def _archived_states(ctx: TenantContext, day: date) -> list[State]:
    import pyarrow.compute as pc

    rows = await ctx.stores.lake.read("events", day, day, columns=COLUMNS)
    if rows is None:
        return []
    of_items = rows.filter(pc.starts_with(rows["type"], "item."))
    return await asyncio.to_thread(
        lambda: read_states(_event(row) for row in of_items.to_pylist())[0]
    )


def _without_item(state: State) -> State:
    return replace(state, item=None)


def _event(row: dict[str, Any]) -> Event:
    data = json.loads(row["data"]) if row["data"] else None
    fields = {name: row[name] for name in ("id", "source", "type", "time", "subject")}
    return Event(**fields, data=data).at(row["position"])
