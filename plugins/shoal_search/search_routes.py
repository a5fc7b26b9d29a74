"""The HTTP operations that find items."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime, BeforeValidator

from shoal import (
    AnyOf,
    Cursor,
    Equals,
    Identifier,
    Invalid,
    Not,
    NotFound,
    Services,
    TenantContext,
    VectorCondition,
    requires,
)

from .answers import (
    SearchResults,
    SimilarItems,
    Suggestions,
    correction_bodies,
    hit_bodies,
    json_response,
    sorted_hit,
    suggested_item,
)
from .bm25 import Corpus
from .candidates import nearest_items
from .corrections import Correction
from .filters import (
    FACET_VALUES,
    MAX_FILTERS,
    conditions,
    read_facets,
    read_filters,
)
from .indexes import Indexes
from .items import ItemType, reject_number
from .pages import Position, page_by_relevance, page_by_time, read_position, write_position
from .parameters import SearchParameters, SearchSettings
from .query_text import MAX_QUERY, QueryText, read_query, typed_words
from .reranker import rerank
from .rows import SHOWN
from .scopes import Scope, narrow
from .searcher import Question, Searcher
from .suggester import suggest
from .writer import shared_analyzer

Time = Annotated[AwareDatetime, BeforeValidator(reject_number)] | None
Typed = Annotated[str, Query(min_length=1, max_length=MAX_QUERY, description="What to look for.")]
Boards = Annotated[
    list[Identifier] | None, Query(max_length=1_000, description="Only on these boards.")
]
Types = Annotated[list[ItemType] | None, Query(max_length=4, description="Only of these types.")]
After = Annotated[Time, Query(description="Only changed after this time.")]
Before = Annotated[Time, Query(description="Only changed before this time.")]
Filters = Annotated[
    list[Annotated[str, Query(max_length=2_000)]] | None,
    Query(
        max_length=MAX_FILTERS,
        description="Only with such metadata: `metadata.status=done`, `metadata.size>=3`. All must "
        'hold; `metadata.status=["open","done"]` is one of several.',
    ),
]


MAX_SIMILAR = 200
"""Items nearest to one that are ordered by meaning and recency."""
MAX_WORDS = 30
"""Words that an item must have, where hits are sorted by time."""


class _Scoped:
    """The filters that searches have in common."""

    def __init__(
        self,
        board: Boards = None,
        type: Types = None,
        updated_after: After = None,
        updated_before: Before = None,
        filter: Filters = None,
        ctx: TenantContext = Depends(requires("read:boards")),
    ) -> None:
        for name in board or ():
            if not ctx.may_see(name):
                raise unknown_board(name)
        self.ctx, self.wanted_boards = ctx, board or []
        self.boards = frozenset(board) if board else ctx.boards
        self.collection = ""  # chosen once the request is known to be valid
        self.conditions: list[VectorCondition] = [
            *conditions(self.boards, set(type) if type else None, updated_after, updated_before),
            *read_filters(filter or ()),
        ]
        self.described = repr(
            (sorted(board or ()), sorted(type or ()), updated_after, updated_before, filter)
        )

    def scope(self) -> Scope:
        return Scope(self.ctx.stores, self.ctx.tenant, self.collection, tuple(self.conditions))


class SearchRoutes:
    """The operations, over one searcher for each model and process."""

    def __init__(self, services: Services) -> None:
        self._analyzer = shared_analyzer(services.settings(SearchSettings).language)
        self._indexes = Indexes(services)
        self._searchers: dict[str, Searcher] = {}
        is_reranked = services.settings(SearchSettings).reranker is not None
        self._compare = services.backend("embedder").compare if is_reranked else None

    async def search(
        self,
        q: Typed,
        limit: Annotated[int, Query(ge=1, le=200)] = 20,
        cursor: Cursor = None,
        sort: Literal["relevance", "updated_at"] = "relevance",
        facets: Annotated[
            str,
            Query(
                max_length=2_000,
                description="Count the values of these among all that pass the filters: `board`, "
                "`type`, `month`, `metadata.NAME`, separated by commas.",
            ),
        ] = "",
        explain: bool = False,
        scoped: _Scoped = Depends(_Scoped),
    ) -> Response:
        """Find items by meaning, words and recency on the boards the caller may see.

        The best hits come first, each with the three parts of its score. In `q`,
        `"exact phrases"` must be in an item, and `-words` must not.
        """
        began, now = time.perf_counter(), time.time_ns() // 1_000_000
        query, fields = self._read(q), read_facets(facets)
        described = repr((q, sort, scoped.described))
        position = read_position(cursor, described, now)
        answer: dict[str, Any] = {"hits": [], "total": 0, "cursor": None, "corrections": []}
        if fields:
            answer["facets"] = {name: [] for name in fields}
        searcher = await self._choose_index(scoped)
        try:
            if scoped.boards is None or scoped.boards:
                scope = await narrow(scoped.scope(), query, self._analyzer)
                if sort == "updated_at" or not query.text:
                    found = self._newest(searcher, scoped, scope, query, position, limit)
                else:
                    found = self._best(
                        searcher, scoped, scope, query, position, limit, explain=explain
                    )
                part, counted = await asyncio.gather(found, self._facets(scope, fields))
                next = part.pop("next")
                answer |= part
                answer["cursor"] = next and write_position(next, described)
                answer |= {"facets": counted} if fields else {}
        except NotFound:  # no item was ever written
            pass
        if not answer["total"]:
            await self._require_boards(scoped)
        return json_response({**answer, "took_ms": _milliseconds(began)})

    async def _choose_index(self, scoped: _Scoped) -> Searcher:
        """Search in the index that serves now, to the end of the request."""
        index = await self._indexes.serving(scoped.ctx)
        scoped.collection = index.collection
        if index.model not in self._searchers:
            encoder = self._indexes.query_encoder(index.model)
            self._searchers[index.model] = Searcher(self._analyzer, encoder)
        return self._searchers[index.model]

    async def _best(
        self,
        searcher: Searcher,
        scoped: _Scoped,
        scope: Scope,
        query: QueryText,
        position: Position,
        limit: int,
        *,
        explain: bool,
    ) -> dict[str, Any]:
        """The best items, with whatever else is answered."""
        parameters = scoped.ctx.parameters(SearchParameters)
        ranking = await searcher.rank(scope, query, parameters, position.now)
        if self._compare is not None:
            ranking = await rerank(ranking, query.text, self._compare)
        page, next = await page_by_relevance(scope, ranking, position, limit)
        question = ranking.question
        return {
            "hits": await hit_bodies(page, question, self._analyzer, explain=explain),
            "total": question.corpus.documents,
            "next": next,
            "corrections": correction_bodies(query, question.corrections),
        }

    async def _newest(
        self,
        searcher: Searcher,
        scoped: _Scoped,
        scope: Scope,
        query: QueryText,
        position: Position,
        limit: int,
    ) -> dict[str, Any]:
        """The items that have every word of the query, the newest first."""
        words, corrections = typed_words(query.text, self._analyzer), list[Correction]()
        ways = {word: word.ways for word in words}
        while True:
            asked = [AnyOf("words", way) for each in ways.values() for way in each]
            having = scope.within(*asked[:MAX_WORDS])
            (ids, next), total = await asyncio.gather(
                page_by_time(having, position, limit), having.count()
            )
            if total or corrections:
                break
            corrections = await searcher.correct(scope, query, words)
            if not corrections:
                break
            ways |= {correction.word: [correction.terms] for correction in corrections}
        rows = await self._rows(scoped, ids, SHOWN)
        terms = {term for each in ways.values() for way in each for term in way}
        return {
            "hits": [sorted_hit(rows[id], terms, self._analyzer) for id in ids if id in rows],
            "total": total,
            "next": next,
            "corrections": correction_bodies(query, corrections),
        }

    async def _rows(
        self, scoped: _Scoped, ids: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """Rows by id, without those that left the caller's boards meanwhile."""
        rows = await scoped.ctx.stores.vectors.get(scoped.collection, ids, fields)
        return {row["id"]: row for row in rows if scoped.ctx.may_see(row["board"])}

    async def _facets(self, scope: Scope, fields: Mapping[str, str]) -> dict[str, Any]:
        found = await asyncio.gather(
            *(
                scope.stores.vectors.facet(
                    scope.collection, field, limit=FACET_VALUES, filter=scope.filter
                )
                for field in fields.values()
            )
        )
        return {
            name: [{"value": value, "count": count} for value, count in values]
            for name, values in zip(fields, found, strict=True)
        }

    async def suggest(
        self,
        q: Typed,
        limit: Annotated[int, Query(ge=1, le=20)] = 5,
        scoped: _Scoped = Depends(_Scoped),
    ) -> Response:
        """Suggest titles, and ways to complete the last word, while somebody types.

        Both come from the newest items on the boards the caller may see that have what
        was typed.
        """
        began = time.perf_counter()
        query = self._read(q)
        answer: dict[str, Any] = {"queries": [], "items": []}
        if scoped.boards is None or scoped.boards:
            with suppress(NotFound):  # no item was ever written
                await self._choose_index(scoped)
                found = await suggest(scoped.scope(), query, self._analyzer, limit)
                answer["queries"] = found.queries
                answer["items"] = [suggested_item(row, marks) for row, marks in found.rows]
        return json_response({**answer, "took_ms": _milliseconds(began)})

    async def similar(
        self,
        id: Identifier,
        limit: Annotated[int, Query(ge=1, le=200)] = 20,
        scoped: _Scoped = Depends(_Scoped),
    ) -> Response:
        """Find the items most similar to one, by meaning and recency.

        404 when there is no item with this id that the caller may see.
        """
        began, now = time.perf_counter(), time.time_ns() // 1_000_000
        missing = NotFound(f"no item {id!r}")
        await self._choose_index(scoped)
        try:
            rows = await self._rows(scoped, [id], ["board", "vectors"])
        except NotFound:  # no item was ever written
            raise missing from None
        if id not in rows:
            raise missing
        hits = []
        if len(vectors := rows[id]["vectors"]):
            scope = scoped.scope().within(Not(Equals("id", id)))
            vector = vectors.mean(axis=0)
            vector = vector / (np.linalg.norm(vector) or 1)
            parameters = scoped.ctx.parameters(SearchParameters)
            near = await nearest_items(scope, vector, MAX_SIMILAR)
            question = Question(vector, (), Corpus(0, 1, {}), (), parameters, now)
            best = question.score(near).found[:limit]
            hits = await hit_bodies(best, question, self._analyzer)
        return json_response({"hits": hits, "took_ms": _milliseconds(began)})

    def _read(self, q: str) -> QueryText:
        if "\0" in q or not q.strip():
            raise Invalid(
                "q must not be blank",
                errors=[{"location": "query.q", "message": "is blank or contains a NUL"}],
            )
        return read_query(q, self._analyzer)

    async def _require_boards(self, scoped: _Scoped) -> None:
        """NotFound where a board that was asked for has no items."""
        for name in scoped.wanted_boards:
            scope = replace(scoped.scope(), filter=(Equals("board", name),))
            try:
                found = await scope.count()
            except NotFound:
                found = 0
            if not found:
                raise unknown_board(name)


def add_search_routes(router: APIRouter, services: Services) -> None:
    """Add the operations to the capability's router."""
    handlers = SearchRoutes(services)
    router.get("", response_model=SearchResults, responses={404: {}})(handlers.search)
    router.get("/suggest", response_model=Suggestions, responses={404: {}})(handlers.suggest)
    router.get("/similar/{id}", response_model=SimilarItems, responses={404: {}})(handlers.similar)


def unknown_board(board: str) -> NotFound:
    """The same error for a board that does not exist, is empty, or is not visible."""
    return NotFound(
        f"no board {board!r} with items that you may see",
        errors=[{"location": "query.board", "message": "unknown"}],
    )


def _milliseconds(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)
