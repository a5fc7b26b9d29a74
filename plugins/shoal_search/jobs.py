"""The job that rebuilds the index from the event log, embedding with Ray Data."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from shoal import Event, JobContext, TenantContext

from .embedder import Embedder
from .index import Index
from .items import Item
from .parameters import SearchSettings
from .stream import latest_states

COLUMNS = ("position", "id", "source", "type", "time", "subject", "data")
BATCH = 512
"""Items that are embedded and stored at once."""


class EmbedBatch:
    """A Ray Data actor that adds vectors to batches of items (JSON)."""

    def __init__(self, settings: SearchSettings) -> None:
        self._embedder = Embedder(settings)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        items = [Item.model_validate_json(row) for row in batch["item"]]
        return {
            "item": batch["item"],
            "vector": self._embedder.encode([item.passage for item in items]),
        }


def reindex(job: JobContext) -> dict[str, Any]:
    """Index every tenant's items from its event log.

    With the argument `fresh` the index is emptied first, which also drops items that
    the log never contained; without it, search continues over the old index meanwhile.
    """
    done = {}
    for ctx in job.tenants:
        done[ctx.tenant] = _reindex(job, ctx, fresh=bool(job.arguments.get("fresh")))
    return {"items": sum(done.values()), "tenants": done}


def _reindex(job: JobContext, ctx: TenantContext, *, fresh: bool) -> int:
    settings = ctx.services.settings(SearchSettings)
    index = Index(settings, _no_embedding)
    known = asyncio.run(archived_states(ctx))
    changed, position = asyncio.run(changes_since(ctx, "0"))
    known |= changed
    job.progress(0, len(known), f"{ctx.tenant}: {len(known):,} items in the log")
    if fresh:
        asyncio.run(index.clear(ctx))
    todo = known
    while todo:
        if gone := [id for id, item in todo.items() if item is None]:
            asyncio.run(index.delete(ctx, gone))
        written = len(gone)
        for some, vectors in embed_items(
            [item for item in todo.values() if item is not None], settings
        ):
            asyncio.run(index.store(ctx, some, vectors))
            written += len(some)
            job.progress(written, len(todo), ctx.tenant)
        # What changed meanwhile is in the index, unless it was just written over with
        # its older state.
        changed, position = asyncio.run(changes_since(ctx, position))
        todo = {id: item for id, item in changed.items() if id in todo}
        known |= todo
    return sum(item is not None for item in known.values())


async def archived_states(ctx: TenantContext) -> dict[str, Item | None]:
    """The last state of each item in the archived log; None where it was deleted."""
    import pyarrow.compute as pc

    lake, rows = ctx.stores.lake, []
    # By day, so that only the events of items are in memory together.
    for day in await lake.days("events"):
        if (found := await lake.read("events", day, day, columns=COLUMNS)) is not None:
            rows += found.filter(pc.starts_with(found["type"], "item.")).to_pylist()
    rows.sort(key=lambda row: _order(row["position"]))
    return latest_states(map(_event, rows))[0]


async def changes_since(ctx: TenantContext, position: str) -> tuple[dict[str, Item | None], str]:
    """The last state of each item that changed after a position of the live log.

    Returns:
        The states, and the position of the last change.
    """
    found = [pair async for pair in ctx.stores.events.read(position, types=("item.*",))]
    return latest_states(event for _, event in found)[0], found[-1][0] if found else position


def embed_items(
    items: list[Item], settings: SearchSettings
) -> Iterator[tuple[list[Item], np.ndarray]]:
    """Embed items with Ray Data, in an actor that works ahead of the storing.

    Yields:
        Batches of items with their vectors, float32 of shape (items, dimension), the
        longest texts first: a batch of similar lengths needs little padding.
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
        EmbedBatch, fn_constructor_args=(settings,), batch_size=BATCH, concurrency=1, num_cpus=0
    )
    for batch in made.iter_batches(batch_size=BATCH, batch_format="numpy"):
        some = [Item.model_validate_json(row) for row in batch["item"]]
        yield some, np.stack(list(batch["vector"])).astype(np.float32)


def _event(row: dict[str, Any]) -> Event:
    data = orjson.loads(row["data"]) if row["data"] else None
    return Event(
        id=row["id"],
        source=row["source"],
        type=row["type"],
        time=row["time"],
        subject=row["subject"],
        data=data,
    )


def _order(position: str) -> tuple[int, ...]:
    """A position of the log, comparable: numbers joined by `-`."""
    return tuple(int(part) for part in position.split("-"))


async def _no_embedding(call: Any) -> np.ndarray:
    raise RuntimeError("this job embeds with Ray Data")
