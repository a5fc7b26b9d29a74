"""The index of one tenant's items: writing, deleting, searching, over the tenant's
doors to Milvus and Redis.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

import numpy as np
import orjson

from shoal import Hit, NotFound, TenantContext, VectorSchema

from .analyzer import Words
from .bm25 import bm25
from .embedder import Call, Kind
from .fusion import Scores, fuse
from .items import Item, dumped
from .onnx_encoder import Graph
from .parameters import SearchParameters, SearchSettings
from .query_encoder import Queries
from .statistics import Statistics

EMBEDDED = 64
"""Texts in one call of the embedder: a query that comes meanwhile waits for no more
than these.
"""
WRITTEN = 512
"""Items in one write to Milvus."""
FIELDS: dict[str, Literal["string", "integer", "float", "boolean"]] = {
    "board": "string",
    "type": "string",
    "updated": "integer",
    "title": "string",
    "body": "string",
    "url": "string",
    "metadata": "string",
}
ENSURED: set[tuple[str, str]] = set()
"""(tenant, collection) that this process knows to exist."""

shared_words = lru_cache(maxsize=None)(Words)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. `boards` and `types`: only these; None: all. `after`: changed
    after, in milliseconds since 1970.
    """

    text: str
    boards: frozenset[str] | None = None
    types: frozenset[str] | None = None
    after: int | None = None
    limit: int = 20

    def filter(self) -> tuple[str, dict[str, Any]]:
        """The Milvus expression and its values: applied before the search, so that
        nothing outside it can take a place.
        """
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
class Found:
    """One hit: the item as it is stored, and how it was scored."""

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
    """`embed` gives the vectors of texts, float32 of shape (texts, dimension), each of
    length 1; `graph` the same model for queries.
    """

    def __init__(
        self,
        settings: SearchSettings,
        embed: Callable[[Call], Awaitable[np.ndarray]],
        graph: Callable[[], Awaitable[Graph | None]] | None = None,
    ) -> None:
        self.collection = settings.collection
        self.words = shared_words(settings.language)
        self._embed, self._query = embed, Queries(embed, graph)

    # Writing

    async def write(self, ctx: TenantContext, items: Sequence[Item]) -> None:
        """Store items, replacing those with the same ids. On return they are found."""
        for some in chunks(items, WRITTEN):
            await self.store(ctx, some, await self.vectors([item.passage for item in some]))

    async def vectors(self, texts: Sequence[str], kind: Kind = "document") -> np.ndarray:
        """Texts as vectors: float32 of shape (texts, dimension), each of length 1."""
        return np.concatenate([await self._embed((kind, few)) for few in chunks(texts, EMBEDDED)])

    async def store(self, ctx: TenantContext, items: Sequence[Item], vectors: np.ndarray) -> None:
        """Store items whose vectors are known: float32 of shape (items, dimension)."""
        rows = [self._row(item, vector) for item, vector in zip(items, vectors, strict=True)]
        await self._ensure(ctx, vectors.shape[1])
        ids = [item.id for item in items]
        try:
            old = await ctx.stores.vectors.get(self.collection, ids, ["text"])
            await ctx.stores.vectors.upsert(self.collection, rows)
        except NotFound:  # dropped since, with its tenant
            ENSURED.discard((ctx.tenant, self.collection))
            await self._ensure(ctx, vectors.shape[1])
            old = []
            await ctx.stores.vectors.upsert(self.collection, rows)
        await self._statistics(ctx).replace(
            (r["text"].split() for r in old), (r["text"].split() for r in rows)
        )

    async def delete(self, ctx: TenantContext, ids: Sequence[str]) -> int:
        """Remove items; how many there were."""
        try:
            old = await ctx.stores.vectors.get(self.collection, ids, ["text"])
            if old:
                await ctx.stores.vectors.delete(self.collection, [row["id"] for row in old])
        except NotFound:
            return 0
        await self._statistics(ctx).replace((row["text"].split() for row in old), ())
        return len(old)

    async def boards(self, ctx: TenantContext, ids: Sequence[str]) -> dict[str, str]:
        """The boards of those of the items that exist, by id."""
        try:
            return {
                row["id"]: row["board"]
                for row in await ctx.stores.vectors.get(self.collection, ids, ["board"])
            }
        except NotFound:
            return {}

    async def clear(self, ctx: TenantContext) -> None:
        """Remove everything."""
        ENSURED.discard((ctx.tenant, self.collection))
        with suppress(NotFound):
            await ctx.stores.vectors.drop(self.collection)
        await self._statistics(ctx).clear()

    # Searching

    async def search(
        self, ctx: TenantContext, query: Query, parameters: SearchParameters, now: int
    ) -> tuple[list[Found], int]:
        """The best hits in order, and how many candidates there were.

        The nearest by meaning and the best by words are found at once; each candidate
        of either is then scored in all three parts, so a hit's score does not depend on
        which search found it.
        """
        stems = self.words.stems(query.text)
        filter, values = query.filter()
        vectors, limit = ctx.stores.vectors, max(parameters.candidates, query.limit)
        fields = (*FIELDS, "text")

        async def by_meaning() -> tuple[np.ndarray, list[Hit]]:
            vector: Any = await self._query(ctx.tenant, query.text)
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
                by_meaning(), by_words() if stems else _nothing(), self._statistics(ctx).of(stems)
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
        return [_found(hits[i], scores) for i, scores in ranked], len(hits)

    async def holds(self, ctx: TenantContext, board: str) -> bool:
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
            "metadata": dumped(item.metadata).decode() if item.metadata else "",
            "text": self.words.indexed(item.passage),
        }

    async def _ensure(self, ctx: TenantContext, dimension: int) -> None:
        if (ctx.tenant, self.collection) not in ENSURED:
            await ctx.stores.vectors.ensure(
                self.collection, VectorSchema(dimension, FIELDS, text=True)
            )
            ENSURED.add((ctx.tenant, self.collection))

    def _statistics(self, ctx: TenantContext) -> Statistics:
        return Statistics(ctx.stores, self.collection)


def _found(hit: Hit, scores: Scores) -> Found:
    row = hit.fields
    metadata = orjson.loads(row["metadata"]) if row["metadata"] else None
    updated, url = int(row["updated"]), row["url"] or None
    return Found(
        hit.id, row["board"], row["type"], updated, row["title"], row["body"], url, metadata, scores
    )


def chunks(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`rows` in pieces of `size`, the last one shorter."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


async def _nothing() -> list[Hit]:
    return []
