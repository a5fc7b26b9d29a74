"""The index of a tenant's items: write, delete and search, over the tenant's stores."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

import numpy as np
import orjson

from shoal import Hit, NotFound, TenantContext, VectorSchema

from .analyzer import Analyzer
from .bm25 import bm25
from .embedder import EmbedRequest
from .encoder import Kind
from .fusion import Scores, fuse
from .items import Item, dump_json
from .onnx_encoder import OnnxModel
from .parameters import SearchParameters, SearchSettings
from .query_encoder import QueryEncoder
from .statistics import Statistics

EMBED_BATCH = 64
"""Texts in one call of the embedder: a query waits for at most these."""
WRITE_BATCH = 512
"""Items in one write to the vector store."""
FIELDS: dict[str, Literal["string", "integer", "float", "boolean"]] = {
    "board": "string",
    "type": "string",
    "updated": "integer",
    "title": "string",
    "body": "string",
    "url": "string",
    "metadata": "string",
}
_ENSURED: set[tuple[str, str]] = set()
"""The (tenant, collection) pairs that this process knows to exist."""

shared_analyzer = lru_cache(maxsize=None)(Analyzer)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to look for.

    Attributes:
        text: The query as typed.
        boards: Only on these boards; None is all.
        types: Only of these types; None is all.
        after: Only changed after this time, in milliseconds since 1970.
        limit: How many hits.
    """

    text: str
    boards: frozenset[str] | None = None
    types: frozenset[str] | None = None
    after: int | None = None
    limit: int = 20

    def filter(self) -> tuple[str, dict[str, Any]]:
        """The filter expression, applied before the search, and its values."""
        clauses: list[str] = []
        values: dict[str, Any] = {}
        for name, wanted in (("board", self.boards), ("type", self.types)):
            if wanted is not None:
                clauses.append(f"{name} in {{{name}}}")
                values[name] = sorted(wanted)
        if self.after is not None:
            clauses.append("updated > {after}")
            values["after"] = self.after
        return " and ".join(clauses), values


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """A stored item and its scores. `updated` is in milliseconds since 1970."""

    id: str
    board: str
    type: str
    updated: int
    title: str
    text: str
    url: str | None
    metadata: dict[str, Any] | None
    scores: Scores


class Index:
    """Writes and searches items.

    Args:
        settings: Model and language, which choose the collection.
        embed: Calls the embedder: float32 (texts, dimension), rows of length 1.
        fetch_model: Gives the exported model for queries; None leaves them to `embed`.
    """

    def __init__(
        self,
        settings: SearchSettings,
        embed: Callable[[EmbedRequest], Awaitable[np.ndarray]],
        fetch_model: Callable[[], Awaitable[OnnxModel | None]] | None = None,
    ) -> None:
        self.collection = settings.collection
        self.analyzer = shared_analyzer(settings.language)
        self._embed, self._encode_query = embed, QueryEncoder(embed, fetch_model)

    # Writing

    async def write(self, ctx: TenantContext, items: Sequence[Item]) -> None:
        """Store items, replacing those with the same ids; they can be found at once."""
        for some in chunks(items, WRITE_BATCH):
            await self.store(ctx, some, await self.vectors([item.passage for item in some]))

    async def vectors(self, texts: Sequence[str], kind: Kind = "document") -> np.ndarray:
        """Embed texts: float32 of shape (texts, dimension), each row of length 1."""
        return np.concatenate(
            [await self._embed((kind, few)) for few in chunks(texts, EMBED_BATCH)]
        )

    async def store(self, ctx: TenantContext, items: Sequence[Item], vectors: np.ndarray) -> None:
        """Store items with their vectors: float32 of shape (items, dimension)."""
        rows = [self._row(item, vector) for item, vector in zip(items, vectors, strict=True)]
        await self._ensure(ctx, vectors.shape[1])
        ids = [item.id for item in items]
        try:
            old = await ctx.stores.vectors.get(self.collection, ids, ["text"])
            await ctx.stores.vectors.upsert(self.collection, rows)
        except NotFound:  # dropped meanwhile, with its tenant
            _ENSURED.discard((ctx.tenant, self.collection))
            await self._ensure(ctx, vectors.shape[1])
            old = []
            await ctx.stores.vectors.upsert(self.collection, rows)
        await self._statistics(ctx).replace(
            (r["text"].split() for r in old), (r["text"].split() for r in rows)
        )

    async def delete(self, ctx: TenantContext, ids: Sequence[str]) -> int:
        """Delete items.

        Returns:
            How many of them existed.
        """
        try:
            old = await ctx.stores.vectors.get(self.collection, ids, ["text"])
            if old:
                await ctx.stores.vectors.delete(self.collection, [row["id"] for row in old])
        except NotFound:
            return 0
        await self._statistics(ctx).replace((row["text"].split() for row in old), ())
        return len(old)

    async def boards(self, ctx: TenantContext, ids: Sequence[str]) -> dict[str, str]:
        """The boards of those items that exist, by item id."""
        try:
            return {
                row["id"]: row["board"]
                for row in await ctx.stores.vectors.get(self.collection, ids, ["board"])
            }
        except NotFound:
            return {}

    async def clear(self, ctx: TenantContext) -> None:
        """Remove everything."""
        _ENSURED.discard((ctx.tenant, self.collection))
        with suppress(NotFound):
            await ctx.stores.vectors.drop(self.collection)
        await self._statistics(ctx).clear()

    # Searching

    async def search(
        self, ctx: TenantContext, query: SearchQuery, parameters: SearchParameters, now: int
    ) -> tuple[list[ScoredItem], int]:
        """Find the best items.

        The nearest by meaning and the best by words are searched concurrently. Each
        candidate is then scored in all parts, so that a score does not depend on which
        search found the item.

        Args:
            ctx: Whose items.
            query: What to look for.
            parameters: Weights and the number of candidates.
            now: Milliseconds since 1970, for recency.

        Returns:
            The best items in order, and how many candidates were scored.
        """
        stems = self.analyzer.stems(query.text)
        filter, values = query.filter()
        vectors, limit = ctx.stores.vectors, max(parameters.candidates, query.limit)
        fields = (*FIELDS, "text")

        async def by_meaning() -> tuple[np.ndarray, list[Hit]]:
            vector: Any = await self._encode_query(ctx.tenant, query.text)
            return vector, await vectors.nearest(
                self.collection, vector, limit=limit, filter=filter, values=values, fields=fields
            )

        async def by_words() -> list[Hit]:
            return await vectors.matching(
                self.collection,
                " ".join(stems),
                limit=limit,
                filter=filter,
                values=values,
                fields=(*fields, "vector"),
            )

        try:
            (vector, near), matching, corpus = await asyncio.gather(
                by_meaning(),
                by_words() if stems else _no_hits(),
                self._statistics(ctx).corpus_for(stems),
            )
        except NotFound:  # no item was ever written
            return [], 0
        candidates = {hit.id: hit for hit in near}
        others = [hit for hit in matching if hit.id not in candidates]
        candidates |= {hit.id: hit for hit in others}
        cosines = [hit.score for hit in near]
        if others:
            cosines += (
                np.array([hit.fields["vector"] for hit in others], np.float32) @ vector
            ).tolist()
        hits = list(candidates.values())
        documents = [hit.fields["text"].split() for hit in hits]
        ranked = fuse(
            cosines,
            bm25(stems, documents, corpus, k1=parameters.bm25_k1, b=parameters.bm25_b),
            [hit.fields["updated"] for hit in hits],
            now=now,
            parameters=parameters,
            limit=query.limit,
        )
        return [_scored(hits[i], scores) for i, scores in ranked], len(hits)

    async def has_items(self, ctx: TenantContext, board: str) -> bool:
        """Whether any item is on this board."""
        try:
            return (
                await ctx.stores.vectors.count(
                    self.collection, filter="board == {board}", values={"board": board}
                )
                > 0
            )
        except NotFound:
            return False

    def _row(self, item: Item, vector: np.ndarray) -> dict[str, Any]:
        return {
            "id": item.id,
            "vector": vector,
            "board": item.board_id,
            "type": item.type,
            "updated": item.updated_ms,
            "title": item.title,
            "body": item.text,
            "url": item.url or "",
            "metadata": dump_json(item.metadata).decode() if item.metadata else "",
            "text": self.analyzer.indexed(item.passage),
        }

    async def _ensure(self, ctx: TenantContext, dimension: int) -> None:
        if (ctx.tenant, self.collection) not in _ENSURED:
            await ctx.stores.vectors.ensure(
                self.collection, VectorSchema(dimension, FIELDS, text=True)
            )
            _ENSURED.add((ctx.tenant, self.collection))

    def _statistics(self, ctx: TenantContext) -> Statistics:
        return Statistics(ctx.stores, self.collection)


def _scored(hit: Hit, scores: Scores) -> ScoredItem:
    row = hit.fields
    metadata = orjson.loads(row["metadata"]) if row["metadata"] else None
    updated, url = int(row["updated"]), row["url"] or None
    return ScoredItem(
        hit.id, row["board"], row["type"], updated, row["title"], row["body"], url, metadata, scores
    )


def chunks(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Split `rows` into pieces of `size`; the last one may be shorter."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


async def _no_hits() -> list[Hit]:
    return []
