"""The HTTP operations of search."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from shoal import (
    BatchResult,
    Event,
    Identifier,
    Invalid,
    Meter,
    NotFound,
    Services,
    TenantContext,
    off_loop,
    requires,
    rows_body,
)

from .file_routes import FILE, AddedFile, FileRoutes
from .index import WRITE_BATCH, Index, ScoredItem, SearchQuery, chunks
from .items import MAX_ITEMS, Item, ItemBatch, ItemType, read_items, reject_number
from .parameters import SearchParameters, SearchSettings
from .snippets import snippet

SOURCE = "shoal/search"
"""Source of the events that these routes append; the stream does not index them."""
MAX_TEXTS = 1_000
"""Texts in one request for vectors."""
METERS: tuple[Meter, ...] = ("items", "embedding_texts")
"""What an item is counted as, once in each."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DeletedItem(_Body):
    deleted: str = Field(description="The item's id.")


class HitScores(_Body):
    semantic: float
    keyword: float
    recency: float


class HitBody(_Body):
    id: str
    board_id: str
    type: ItemType
    title: str
    snippet: str
    updated_at: datetime
    url: str | None
    metadata: dict[str, Any] | None = Field(description="As the item was added with it.")
    score: float
    scores: HitScores


class SearchResults(_Body):
    hits: list[HitBody]
    total: int = Field(
        description="How many items were scored: the nearest by meaning and the best by words."
    )
    took_ms: float


class Texts(BaseModel):
    texts: list[Annotated[str, Field(min_length=1, max_length=20_000)]] = Field(
        min_length=1, max_length=MAX_TEXTS
    )
    kind: Literal["document", "query"] = "document"


class Vectors(_Body):
    model: str
    dimension: int
    vectors: list[list[float]] = Field(
        description="One per text, of length 1: the dot product of two is their cosine."
    )


_ITEMS_BODY = rows_body(Item.model_json_schema(), MAX_ITEMS)


class SearchRoutes:
    """The operations, over one index per process."""

    def __init__(self, services: Services) -> None:
        self.settings = services.settings(SearchSettings)
        embedder = services.backend("embedder")
        self.index = Index(self.settings, embedder.embed, embedder.onnx_model)

    async def add_items(
        self, request: Request, ctx: TenantContext = Depends(requires("write:boards"))
    ) -> Response:
        """Add items or replace those with the same ids: JSON or NDJSON.

        Valid rows can be found when the response arrives; each invalid row is
        reported with its index.
        """
        content_type = request.headers.get("content-type", "")
        batch = await off_loop(read_items, await request.body(), content_type)
        return _json(await self.add_batch(ctx, batch))

    async def add_batch(self, ctx: TenantContext, batch: ItemBatch) -> dict[str, Any]:
        """Add valid items; see `add_items`."""
        await self._reject_hidden(ctx, batch)
        for meter in METERS:
            ctx.usage.require(meter, len(batch.accepted))
        for items in chunks(list(batch.accepted.values()), WRITE_BATCH):
            # Logged part by part, so that after a fault no item is in the index alone.
            await self.index.write(ctx, items)
            await ctx.stores.events.append(
                [_event("item.updated", item.id, item.model_dump(mode="json")) for item in items]
            )
        for meter in METERS:
            ctx.usage.add(meter, len(batch.accepted))
        return batch.response()

    async def delete_item(
        self, id: Identifier, ctx: TenantContext = Depends(requires("write:boards"))
    ) -> Response:
        """Delete an item. 404 when there is none that the caller may see."""
        board = (await self.index.boards(ctx, [id])).get(id)
        if board is None or not ctx.may_see(board):
            raise NotFound(f"no item {id!r}")
        # The log first: had it failed after the index, a retry would find no item, and
        # the deletion would never be logged.
        await ctx.stores.events.append([_event("item.deleted", id, {"id": id, "board_id": board})])
        await self.index.delete(ctx, [id])
        return _json({"deleted": id})

    async def search(
        self,
        q: Annotated[str, Query(min_length=1, max_length=4_096, description="What to look for.")],
        limit: Annotated[int, Query(ge=1, le=200)] = 20,
        board: Annotated[
            list[Identifier] | None, Query(max_length=1_000, description="Only on these boards.")
        ] = None,
        type: Annotated[
            list[ItemType] | None, Query(max_length=4, description="Only of these types.")
        ] = None,
        updated_after: Annotated[
            Annotated[AwareDatetime, BeforeValidator(reject_number)] | None,
            Query(description="Only changed after this time."),
        ] = None,
        ctx: TenantContext = Depends(requires("read:boards")),
    ) -> Response:
        """Find items by meaning, words and recency on the boards the caller may see.

        The best hits come first, each with the three parts of its score.
        """
        began = time.perf_counter()
        if "\0" in q or not q.strip():
            raise Invalid(
                "q must not be blank",
                errors=[{"location": "query.q", "message": "is blank or contains a NUL"}],
            )
        query = SearchQuery(
            q,
            boards=_searched_boards(ctx, board),
            types=frozenset(type) if type else None,
            after=round(updated_after.timestamp() * 1000) if updated_after else None,
            limit=limit,
        )
        found: list[ScoredItem] = []
        total = 0
        if query.boards is None or query.boards:
            parameters = ctx.parameters(SearchParameters)
            now = time.time_ns() // 1_000_000
            found, total = await self.index.search(ctx, query, parameters, now=now)
        if not total and board:
            for name in board:
                if not await self.index.has_items(ctx, name):
                    raise _unknown_board(name)
        analyzer = self.index.analyzer
        stems = analyzer.stems(q)
        hits = [_hit(item, snippet(item.text, stems, analyzer)) for item in found]
        took = round((time.perf_counter() - began) * 1000, 2)
        return _json({"hits": hits, "total": total, "took_ms": took})

    async def embed(
        self, body: Texts, ctx: TenantContext = Depends(requires("read:own"))
    ) -> Response:
        """Embed texts with the model that search uses, for other capabilities."""
        ctx.usage.require("embedding_texts", len(body.texts))
        vectors = await self.index.vectors(body.texts, body.kind)
        ctx.usage.add("embedding_texts", len(body.texts))
        return _json(
            {"model": self.settings.model, "dimension": vectors.shape[1], "vectors": vectors}
        )

    async def _reject_hidden(self, ctx: TenantContext, batch: ItemBatch) -> None:
        """A user writes only to boards they may see, and replaces nothing on others."""
        if ctx.boards is None:
            return
        stored = await self.index.boards(ctx, [item.id for item in batch.accepted.values()])
        for row, item in list(batch.accepted.items()):
            if not ctx.may_see(item.board_id):
                batch.reject(row, f"board_id: no board {item.board_id!r} that you may see")
            elif not ctx.may_see(stored.get(item.id, item.board_id)):
                batch.reject(row, f"id: {item.id!r} is taken, on a board that you may not see")


def routes(services: Services) -> APIRouter:
    """The capability's router."""
    handlers, router = SearchRoutes(services), APIRouter()
    router.post("/items", response_model=BatchResult, openapi_extra=_ITEMS_BODY)(handlers.add_items)
    router.delete("/items/{id}", response_model=DeletedItem)(handlers.delete_item)
    router.put("/files/{id}", response_model=AddedFile, openapi_extra=FILE)(
        FileRoutes(handlers.add_batch).add_file
    )
    router.get("", response_model=SearchResults, responses={404: {}})(handlers.search)
    router.post("/embed", response_model=Vectors, openapi_extra={"x-shoal-safe": True})(
        handlers.embed
    )
    return router


def _searched_boards(ctx: TenantContext, wanted: list[str] | None) -> frozenset[str] | None:
    """The wanted boards, or all that the caller may see (None: every board)."""
    for name in wanted or ():
        if not ctx.may_see(name):
            raise _unknown_board(name)
    return frozenset(wanted) if wanted else ctx.boards


def _unknown_board(board: str) -> NotFound:
    """The same error for a board that does not exist, is empty, or is not visible."""
    return NotFound(
        f"no board {board!r} with items that you may see",
        errors=[{"location": "query.board", "message": "unknown"}],
    )


def _hit(item: ScoredItem, passage: str) -> dict[str, Any]:
    scores = item.scores
    return {
        "id": item.id,
        "board_id": item.board,
        "type": item.type,
        "title": item.title,
        "snippet": passage,
        "updated_at": datetime.fromtimestamp(item.updated / 1000, UTC),
        "url": item.url,
        "metadata": item.metadata,
        "score": round(scores.total, 6),
        "scores": {
            part: round(getattr(scores, part), 6) for part in ("semantic", "keyword", "recency")
        },
    }


def _event(kind: str, id: str, data: dict[str, Any]) -> Event:
    return Event(type=kind, source=SOURCE, subject=id, data=data)


def _json(value: Any) -> Response:
    return Response(
        orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z),
        media_type="application/json",
    )
