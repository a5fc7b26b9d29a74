"""Searches the index of a tenant's items."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shoal import AnyOf, Between, Equals, Hit, NotFound, TenantContext, VectorCondition

from .bm25 import Corpus, bm25
from .embedder import EmbedRequest
from .fusion import Scores, fuse
from .onnx_encoder import OnnxModel
from .parameters import SearchParameters, SearchSettings
from .query_encoder import QueryEncoder
from .rows import SHOWN
from .writer import shared_analyzer

LENGTH = 40
"""Terms of an item, where BM25 needs the mean."""


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

    def filter(self) -> list[VectorCondition]:
        """What is searched."""
        conditions: list[VectorCondition] = []
        for name, wanted in (("board", self.boards), ("type", self.types)):
            if wanted is not None:
                conditions.append(AnyOf(name, sorted(wanted)))
        if self.after is not None:
            conditions.append(Between("updated", above=self.after))
        return conditions


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as the index has it. `updated` is in milliseconds since 1970."""

    id: str
    board: str
    type: str
    updated: int
    title: str
    text: str
    url: str | None
    metadata: dict[str, Any] | None

    @classmethod
    def of(cls, id: str, row: Mapping[str, Any]) -> "StoredItem":
        """The item of a row with the fields `SHOWN`."""
        return cls(id, *(row[name] for name in SHOWN))


@dataclass(frozen=True, slots=True)
class FoundItem:
    """An item and its scores."""

    item: StoredItem
    scores: Scores


class Searcher:
    """Searches and reads items.

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
        self._encode_query = QueryEncoder(embed, fetch_model)

    async def search(
        self, ctx: TenantContext, query: SearchQuery, parameters: SearchParameters, now: int
    ) -> tuple[list[FoundItem], int]:
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
        stems, filter = self.analyzer.stems(query.text), query.filter()
        vectors, limit = ctx.stores.vectors, max(parameters.candidates, query.limit)
        fields = (*SHOWN, "words")

        async def by_meaning() -> tuple[np.ndarray, list[Hit]]:
            vector: Any = await self._encode_query(ctx.tenant, query.text)
            return vector, await vectors.nearest(
                self.collection, vector, limit=limit, filter=filter, fields=fields
            )

        async def by_words() -> list[Hit]:
            return await vectors.matching(
                self.collection,
                "words",
                stems,
                limit=limit,
                filter=filter,
                fields=(*fields, "vectors"),
            )

        try:
            (vector, near), matching, corpus = await asyncio.gather(
                by_meaning(), by_words() if stems else _no_hits(), self._corpus(ctx, stems, filter)
            )
        except NotFound:  # no item was ever written
            return [], 0
        candidates = {hit.id: hit for hit in near}
        others = [hit for hit in matching if hit.id not in candidates]
        candidates |= {hit.id: hit for hit in others}
        cosines = [hit.score for hit in near]
        cosines += [float(np.max(hit.fields["vectors"] @ vector, initial=-1)) for hit in others]
        hits = list(candidates.values())
        documents = [hit.fields["words"].split() for hit in hits]
        ranked = fuse(
            cosines,
            bm25(stems, documents, corpus, k1=parameters.bm25_k1, b=parameters.bm25_b),
            [hit.fields["updated"] for hit in hits],
            now=now,
            parameters=parameters,
            limit=query.limit,
        )
        found = [FoundItem(StoredItem.of(hits[i].id, hits[i].fields), s) for i, s in ranked]
        return found, len(hits)

    async def has_items(self, ctx: TenantContext, board: str) -> bool:
        """Whether any item is on this board."""
        try:
            on_board = [Equals("board", board)]
            return await ctx.stores.vectors.count(self.collection, filter=on_board) > 0
        except NotFound:
            return False

    async def _corpus(
        self, ctx: TenantContext, terms: Collection[str], filter: Sequence[VectorCondition]
    ) -> Corpus:
        """The statistics of what is searched, which is all that the asker may see."""
        names = list(dict.fromkeys(terms))
        total, *frequencies = await asyncio.gather(
            *(
                ctx.stores.vectors.count(self.collection, filter=[*filter, *more])
                for more in ([], *([Equals("words", name)] for name in names))
            )
        )
        return Corpus(total, total * LENGTH, dict(zip(names, frequencies, strict=True)))


async def _no_hits() -> list[Hit]:
    return []
