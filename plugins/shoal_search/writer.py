"""The one way in which states of items reach the index."""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from shoal import NotFound, TenantContext

from .analyzer import Analyzer
from .embedder import EmbeddedItem, EmbedRequest, item_batches
from .encoder import Kind
from .items import Item
from .parameters import SearchSettings
from .rows import digest, make_row, read_passages, schema
from .states import State, Version, newest_states

EMBED_BATCH = 64
"""Texts in one call of the embedder: a query waits for at most these."""
WRITE_BATCH = 256
"""Items in one write to the vectors store."""
PAGE = 1_000
"""Rows of a listing that are read at once."""

shared_analyzer = lru_cache(maxsize=None)(Analyzer)

T = TypeVar("T")


class Writer:
    """Writes states to a tenant's index, which keeps the newest one of each item.

    It makes no difference in which order, how often and by how many processes states
    are written.

    Args:
        settings: Model and language, which choose the collection.
        embed: Calls the embedder: see `Embedder.embed`.
    """

    def __init__(
        self, settings: SearchSettings, embed: Callable[[EmbedRequest], Awaitable[Any]]
    ) -> None:
        self.model, self.collection = settings.model, settings.collection
        self.analyzer = shared_analyzer(settings.language)
        self._embed = embed

    async def write(self, ctx: TenantContext, states: Iterable[State]) -> None:
        """Write states; what they say can be found once this returns.

        A text that the index has of the same item is not embedded again.
        """
        for some in chunks(list(newest_states(states).values()), WRITE_BATCH):
            news = await self.unknown(ctx, some)
            await self.delete(ctx, news)
            items = {state.id: state.item for state in news if state.item is not None}
            embedded = await self.stored(ctx, items.values())
            embedded |= await self.embed(
                ctx, [item for id, item in items.items() if id not in embedded]
            )
            await self.store(ctx, [state for state in news if state.id in items], embedded)

    async def unknown(self, ctx: TenantContext, states: Collection[State]) -> list[State]:
        """Those states that are newer than what the index has of their items.

        A DELETE gets a time that is not before that of the item it deletes.
        """
        known = await self.versions(ctx, [state.id for state in states])
        placed = [state.after(known.get(state.id)) for state in states]
        return [s for s in placed if (found := known.get(s.id)) is None or found < s.version]

    async def versions(self, ctx: TenantContext, ids: Sequence[str]) -> dict[str, Version]:
        """The versions that the index has, of items and of deletions, by item id."""
        try:
            found = await ctx.stores.vectors.versions(self.collection, ids) if ids else {}
        except NotFound:
            return {}
        return {id: Version.parse(version) for id, (version, _) in found.items()}

    async def rows(
        self, ctx: TenantContext, ids: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """The rows of those items that the index has, by item id."""
        try:
            found = await ctx.stores.vectors.get(self.collection, ids, fields) if ids else []
        except NotFound:
            return {}
        return {row["id"]: row for row in found}

    async def delete(self, ctx: TenantContext, states: Collection[State]) -> None:
        """Delete the items of those states that are deletions."""
        versions = {state.id: str(state.version) for state in states if state.is_deletion}
        if versions:
            await self._in_collection(
                ctx, lambda: ctx.stores.vectors.retire(self.collection, versions)
            )

    async def store(
        self, ctx: TenantContext, states: Sequence[State], embedded: Mapping[str, EmbeddedItem]
    ) -> None:
        """Write the items of states, with their passages and vectors by item id."""
        if states:
            rows = await asyncio.to_thread(self._make_rows, states, embedded)
            await self._in_collection(ctx, lambda: ctx.stores.vectors.upsert(self.collection, rows))

    async def vectors(self, texts: Sequence[str], kind: Kind = "document") -> np.ndarray:
        """Embed texts: float32 of shape (texts, dimension), each row of length 1."""
        return np.concatenate(
            [await self._embed((kind, few)) for few in chunks(texts, EMBED_BATCH)]
        )

    async def stored(self, ctx: TenantContext, items: Collection[Item]) -> dict[str, EmbeddedItem]:
        """Those items, by id, whose texts the index has as they are."""
        fields = ("digest", "passages", "vectors")
        rows = await self.rows(ctx, [item.id for item in items], fields)
        return {
            item.id: EmbeddedItem(read_passages(row), row["vectors"])
            for item in items
            if (row := rows.get(item.id)) is not None and row["digest"] == digest(item)
        }

    async def embed(self, ctx: TenantContext, items: Sequence[Item]) -> dict[str, EmbeddedItem]:
        """Embed items, by id; each different text once.

        Texts of similar lengths go together, as that needs little padding.
        """
        texts = sorted({(item.title, item.text) for item in items}, key=lambda text: len(text[1]))
        made: dict[tuple[str, str], EmbeddedItem] = {}
        for some in item_batches(texts):
            made |= zip(some, await self._embed(("item", some)), strict=True)
        ctx.usage.add("embedding_texts", sum(len(one.passages) for one in made.values()))
        return {item.id: made[item.title, item.text] for item in items}

    async def all_versions(self, ctx: TenantContext) -> AsyncIterator[dict[str, Version]]:
        """The versions of all items that the index has, by item id, in parts."""
        after: str | None = None
        with suppress(NotFound):
            while True:
                page = await ctx.stores.vectors.rows(
                    self.collection, limit=PAGE, after=after, fields=["version"]
                )
                yield {row["id"]: Version.parse(row["version"]) for row in page.rows}
                if (after := page.next) is None:
                    return

    async def forget(self, ctx: TenantContext, before: int) -> None:
        """Forget the deletions before a time in microseconds since 1970."""
        with suppress(NotFound):
            await ctx.stores.vectors.forget(self.collection, str(Version(before, (0, 0))))

    def _make_rows(
        self, states: Sequence[State], embedded: Mapping[str, EmbeddedItem]
    ) -> list[dict[str, Any]]:
        return [
            make_row(item, state.version, embedded[item.id], self.analyzer)
            for state in states
            if (item := state.item) is not None
        ]

    async def _in_collection(self, ctx: TenantContext, write: Callable[[], Awaitable[T]]) -> T:
        """Write; where the collection does not exist, create it first."""
        try:
            return await write()
        except NotFound:
            dimension = (await self.vectors(["."])).shape[1]
            await ctx.stores.vectors.ensure(self.collection, schema(dimension))
            return await write()


def chunks(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Split `rows` into pieces of `size`; the last one may be shorter."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
