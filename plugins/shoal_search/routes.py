"""The HTTP operations of search: writing and reading items, and vectors."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from shoal import (
    BatchResult,
    Event,
    Identifier,
    Meter,
    NotFound,
    Services,
    TenantContext,
    Unavailable,
    off_loop,
    requires,
    rows_body,
)

from .answers import Body, json_response
from .file_routes import FILE, AddedFile, FileRoutes
from .indexes import Indexes
from .items import MAX_ITEMS, Item, ItemBatch, ItemType, read_items
from .rows import SHOWN, content_digest
from .search_routes import add_search_routes
from .states import SOURCE, State, Version
from .stream import REQUEST_SECONDS

MAX_TEXTS = 1_000
"""Texts in one request for vectors."""
METERS: tuple[Meter, ...] = ("items", "embedding_texts")
"""What an item is counted as, once in each."""


class ItemsResult(BatchResult):
    indexed: int = Field(
        description="How many of the accepted items can be found now; the others soon will."
    )


class DeletedItem(Body):
    deleted: str = Field(description="The item's id.")


class ItemBody(Body):
    id: str
    board_id: str
    type: ItemType
    title: str
    text: str
    updated_at: datetime
    url: str | None
    metadata: dict[str, Any] | None = Field(description="As the item was added with it.")


class Texts(BaseModel):
    texts: list[Annotated[str, Field(min_length=1, max_length=20_000)]] = Field(
        min_length=1, max_length=MAX_TEXTS
    )
    kind: Literal["document", "query"] = "document"


class Vectors(Body):
    model: str
    dimension: int
    vectors: list[list[float]] = Field(
        description="One per text, of length 1: the dot product of two is their cosine."
    )


_ITEMS_BODY = rows_body(Item.model_json_schema(), MAX_ITEMS)


class ItemRoutes:
    """The operations, over one index per process."""

    def __init__(self, services: Services) -> None:
        self.indexes = Indexes(services)

    async def add_items(
        self, request: Request, ctx: TenantContext = Depends(requires("write:boards"))
    ) -> Response:
        """Add items or replace those with the same ids: JSON or NDJSON.

        Valid rows are durable when the response arrives, and `indexed` of them can be
        found; the others are indexed behind it. Each invalid row is reported with its
        index, as is each that is older than what is known of the item.
        """
        content_type = request.headers.get("content-type", "")
        batch = await off_loop(read_items, await request.body(), content_type)
        return json_response(await self.add_batch(ctx, batch))

    async def add_batch(self, ctx: TenantContext, batch: ItemBatch) -> dict[str, Any]:
        """Add valid items; see `add_items`."""
        news = await self._reject_known(ctx, batch)
        for meter in METERS:
            ctx.usage.require(meter, len(news))
        positions = await ctx.stores.events.append(await off_loop(_updates, news))
        ctx.usage.add("items", len(news))
        states = [
            State(item.id, Version.of(item.updated_at, position), item, by_request=True)
            for item, position in zip(news, positions, strict=True)
        ]
        indexed = len(batch.accepted) - await self._write(ctx, states)
        return {**batch.response(), "indexed": indexed}

    async def get_item(
        self, id: Identifier, ctx: TenantContext = Depends(requires("read:boards"))
    ) -> Response:
        """Get an item as indexed. 404 when there is none that the caller may see."""
        row = await self._find(ctx, id, (*SHOWN, "version"))
        return json_response(
            {
                "id": id,
                "board_id": row["board"],
                "type": row["type"],
                "title": row["title"],
                "text": row["body"],
                "updated_at": Version.parse(row["version"]).updated_at,
                "url": row["url"],
                "metadata": row["metadata"],
            }
        )

    async def delete_item(
        self, id: Identifier, ctx: TenantContext = Depends(requires("write:boards"))
    ) -> Response:
        """Delete an item. 404 when there is none that the caller may see."""
        row = await self._find(ctx, id, ("board", "version"))
        time = max(Version.parse(row["version"]).updated_at, datetime.now(UTC))
        data = {"id": id, "board_id": row["board"], "updated_at": time.isoformat()}
        [position] = await ctx.stores.events.append([_event("item.deleted", id, data)])
        version = Version.of(time, position)
        state = State(id, version, is_deletion=True, by_request=True)
        await self.indexes.write(ctx, [state])
        return json_response({"deleted": id})

    async def embed(
        self, body: Texts, ctx: TenantContext = Depends(requires("read:own"))
    ) -> Response:
        """Embed texts with the model that search uses, for other capabilities."""
        ctx.usage.require("embedding_texts", len(body.texts))
        index = await self.indexes.serving(ctx)
        vectors = await index.vectors(body.texts, body.kind)
        ctx.usage.add("embedding_texts", len(body.texts))
        return json_response(
            {"model": index.model, "dimension": vectors.shape[1], "vectors": vectors}
        )

    async def _find(self, ctx: TenantContext, id: str, fields: Sequence[str]) -> dict[str, Any]:
        """The row of an item that the caller may see."""
        row = (await (await self.indexes.serving(ctx)).rows(ctx, [id], fields)).get(id)
        if row is None or not ctx.may_see(row["board"]):
            raise NotFound(f"no item {id!r}")
        return row

    async def _reject_known(self, ctx: TenantContext, batch: ItemBatch) -> list[Item]:
        """Reject what the caller may not write, and what is older than what is known.

        A user writes only to boards they may see, and replaces nothing on others.

        Returns:
            The accepted items that are not as the index has them.
        """
        items = list(batch.accepted.items())
        ids = [item.id for _, item in items]
        contents = await off_loop(_content_digests, [item for _, item in items])
        searched = await self.indexes.serving(ctx)
        stored = await searched.rows(ctx, ids, ("board", "content"))
        versions = await searched.versions(ctx, ids)
        news: list[Item] = []
        for (index, item), content in zip(items, contents, strict=True):
            row, known = stored.get(item.id), versions.get(item.id)
            if not ctx.may_see(item.board_id):
                batch.reject(index, f"board_id: no board {item.board_id!r} that you may see")
            elif row is not None and not ctx.may_see(row["board"]):
                batch.reject(index, f"id: {item.id!r} is taken, on a board that you may not see")
            elif known is not None and known.updated_at > item.updated_at:
                batch.reject(index, _older(known, is_deleted=row is None))
            elif row is None or row["content"] != content:
                news.append(item)
        return news

    async def _write(self, ctx: TenantContext, states: Sequence[State]) -> int:
        """Write logged states while the request has time; the stream writes the others.

        Returns:
            How many of them the index lacks.
        """
        seconds = REQUEST_SECONDS if ctx.seconds is None else min(REQUEST_SECONDS, ctx.seconds / 4)
        try:
            async with asyncio.timeout(seconds):
                await self.indexes.write(ctx, states)
        except (TimeoutError, Unavailable):
            return len(await self.indexes.unknown(ctx, states))
        return 0


def routes(services: Services) -> APIRouter:
    """The capability's router."""
    handlers, router = ItemRoutes(services), APIRouter()
    router.post("/items", response_model=ItemsResult, openapi_extra=_ITEMS_BODY)(handlers.add_items)
    router.get("/items/{id}", response_model=ItemBody)(handlers.get_item)
    router.delete("/items/{id}", response_model=DeletedItem)(handlers.delete_item)
    router.put("/files/{id}", response_model=AddedFile, openapi_extra=FILE)(
        FileRoutes(handlers.add_batch).add_file
    )
    router.post("/embed", response_model=Vectors, openapi_extra={"x-shoal-safe": True})(
        handlers.embed
    )
    add_search_routes(router, services)
    return router


def _older(known: Version, *, is_deleted: bool) -> str:
    what = "the item was deleted" if is_deleted else "the item's current state is"
    time = known.updated_at.isoformat().replace("+00:00", "Z")
    return f"updated_at: {what} {'at' if is_deleted else 'of'} {time}, which is later"


def _content_digests(items: Sequence[Item]) -> list[str]:
    return [content_digest(item) for item in items]


def _updates(items: Sequence[Item]) -> list[Event]:
    return [_event("item.updated", item.id, item.model_dump(mode="json")) for item in items]


def _event(kind: str, id: str, data: dict[str, Any]) -> Event:
    return Event(type=kind, source=SOURCE, subject=id, data=data)
