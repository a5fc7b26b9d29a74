"""The HTTP side: what may be asked, and what is answered."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from shoal import (
    Event,
    Identifier,
    Invalid,
    NotFound,
    Services,
    TenantContext,
    current_tenant,
    reader,
)

from . import index as stored
from .index import WRITTEN, Found, Index, chunks
from .items import Item, Type, checked, no_number, rows
from .parameters import SearchParameters, SearchSettings
from .snippets import snippet

SOURCE = "shoal/search"
"""Of the events that say what came in through these routes, so that the stream does not
index them again.
"""
TEXTS = 1_000
"""Texts in one request for vectors."""


class Rejected(BaseModel):
    index: int
    error: str


class Added(BaseModel):
    accepted: int
    rejected: list[Rejected]


class HitScores(BaseModel):
    semantic: float
    keyword: float
    recency: float


class HitBody(BaseModel):
    id: str
    board_id: str
    type: Type
    title: str
    snippet: str
    updated_at: datetime
    url: str | None
    metadata: dict[str, Any] | None
    score: float
    scores: HitScores


class Results(BaseModel):
    hits: list[HitBody]
    total: int = Field(
        description="How many items were scored: the nearest by meaning and the best by words."
    )
    took_ms: float


class Texts(BaseModel):
    texts: list[Annotated[str, Field(min_length=1, max_length=20_000)]] = Field(
        min_length=1, max_length=TEXTS
    )
    kind: Literal["document", "query"] = "document"


class Vectors(BaseModel):
    model: str
    dimension: int
    vectors: list[list[float]] = Field(
        description="One for each text, of length 1: their product is their cosine."
    )


_ITEM = Item.model_json_schema()
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "array", "items": _ITEM}},
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "One item a line."}
            },
        },
    }
}


def routes(services: Services) -> APIRouter:
    router = APIRouter()
    settings = services.settings(SearchSettings)
    embedder = services.backend("embedder")
    index = Index(settings, embedder.embed, embedder.graph)

    @router.post("/items", response_model=Added, openapi_extra=_BODY)
    async def add_items(request: Request, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """Add items, or replace those with the same ids: a JSON array (or one object),
        or NDJSON. Each bad one is reported by its index, the others are taken, and
        found from the answer on.
        """
        good, bad = checked(rows(await request.body(), request.headers.get("content-type", "")))
        good, hidden = await _allowed(index, ctx, good)
        items = [item for _, item in good]
        for some in chunks(
            items, WRITTEN
        ):  # where it breaks off, what is found is in the log as well
            await index.write(ctx, some)
            await ctx.stores.events.append(
                [_event("item.updated", i.id, i.model_dump(mode="json")) for i in some]
            )
        rejected = sorted([*bad, *hidden], key=lambda fault: fault["index"])
        return _json({"accepted": len(items), "rejected": rejected})

    @router.delete("/items/{id:path}")
    async def delete_item(id: Identifier, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """Remove an item; 404 when there is none that the caller may see."""
        board = (await index.boards(ctx, [id])).get(id)
        if board is None or not ctx.may_see(board):
            raise NotFound(f"no item {id!r}")
        # The log first: were it away afterwards, a second attempt would find no item,
        # and the log keep it for ever.
        await ctx.stores.events.append([_event("item.deleted", id, {"id": id, "board_id": board})])
        await index.delete(ctx, [id])
        return _json({"deleted": id})

    @router.get("", response_model=Results)
    async def search(
        q: Annotated[str, Query(min_length=1, max_length=4_096, description="What to look for.")],
        limit: Annotated[int, Query(ge=1, le=200)] = 20,
        board: Annotated[
            list[Identifier] | None, Query(description="Only on these boards.")
        ] = None,
        type: Annotated[list[Type] | None, Query(description="Only of these types.")] = None,
        updated_after: Annotated[
            Annotated[AwareDatetime, BeforeValidator(no_number)] | None,
            Query(description="Only changed after this time."),
        ] = None,
        ctx: TenantContext = Depends(reader),
    ) -> Response:
        """Find items by meaning, words and recency, of the boards that the caller may
        see. Best first, with the three parts of each score.
        """
        began = time.perf_counter()
        if "\0" in q or not q.strip():
            raise Invalid(
                "q says nothing to look for",
                errors=[{"location": "query.q", "message": "is blank or holds a NUL"}],
            )
        query = stored.Query(
            q,
            boards=_boards(ctx, board),
            types=frozenset(type) if type else None,
            after=round(updated_after.timestamp() * 1000) if updated_after else None,
            limit=limit,
        )
        found: list[Found] = []
        total = 0
        if query.boards is None or query.boards:
            parameters = ctx.parameters(SearchParameters)
            found, total = await index.search(
                ctx, query, parameters, now=time.time_ns() // 1_000_000
            )
        if not total and board:
            for name in board:
                if not await index.holds(ctx, name):
                    raise _unknown(name)
        stems = index.words.stems(q)
        hits = [_hit(hit, snippet(hit.text, stems, index.words)) for hit in found]
        return _json(
            {
                "hits": hits,
                "total": total,
                "took_ms": round((time.perf_counter() - began) * 1000, 2),
            }
        )

    @router.post("/embed", response_model=Vectors, openapi_extra={"x-shoal-safe": True})
    async def embed(body: Texts, ctx: TenantContext = Depends(reader)) -> Response:
        """Texts as vectors of the model that search uses, for other capabilities to
        compare meanings with.
        """
        vectors = await index.vectors(body.texts, body.kind)
        return _json({"model": settings.model, "dimension": vectors.shape[1], "vectors": vectors})

    return router


async def _allowed(
    index: Index, ctx: TenantContext, good: list[tuple[int, Item]]
) -> tuple[list[tuple[int, Item]], list[dict[str, Any]]]:
    """The rows that the caller may write: a user writes to boards that they see, and
    replaces nothing on others.
    """
    if ctx.boards is None:
        return good, []
    held = await index.boards(ctx, [item.id for _, item in good])
    allowed, hidden = [], []
    for number, item in good:
        if not ctx.may_see(item.board_id):
            hidden.append(
                {
                    "index": number,
                    "error": f"board_id: there is no board {item.board_id!r} that you may see",
                }
            )
        elif not ctx.may_see(held.get(item.id, item.board_id)):
            hidden.append(
                {
                    "index": number,
                    "error": f"id: {item.id!r} is taken, on a board that you may not see",
                }
            )
        else:
            allowed.append((number, item))
    return allowed, hidden


def _boards(ctx: TenantContext, wanted: list[str] | None) -> frozenset[str] | None:
    """The boards to search: those asked for, of those that the caller may see. None:
    all. NotFound for one they may not see.
    """
    for name in wanted or ():
        if not ctx.may_see(name):
            raise _unknown(name)
    return frozenset(wanted) if wanted else ctx.boards


def _unknown(board: str) -> NotFound:
    """The same for a board that is not there, that holds no item, and that the caller
    may not see.
    """
    return NotFound(
        f"there is no board {board!r} with items that you may see",
        errors=[{"location": "query.board", "message": "unknown"}],
    )


def _hit(hit: Found, passage: str) -> dict[str, Any]:
    scores = hit.scores
    return {
        "id": hit.id,
        "board_id": hit.board,
        "type": hit.type,
        "title": hit.title,
        "snippet": passage,
        "updated_at": datetime.fromtimestamp(hit.updated / 1000, UTC),
        "url": hit.url,
        "metadata": hit.metadata,
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
