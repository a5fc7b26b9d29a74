"""The HTTP operation that takes files."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import Depends, Query, Request
from pydantic import AwareDatetime, BeforeValidator, Field

from shoal import Identifier, Invalid, NotFound, TenantContext, load_json, requires

from .answers import Body
from .files import KINDS, FileReader, FileText
from .items import MAX_METADATA_BYTES, ItemBatch, check_items, reject_number

AddItems = Callable[[TenantContext, ItemBatch], Awaitable[dict[str, Any]]]
"""Writes valid items; see `BatchResult` for what it returns."""
FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in KINDS},
    }
}

PLACES = {"id": "path.id", "text": "body"}
"""Where these fields of an item are in the request; the others are in the query."""


class AddedFile(Body):
    """What was read of a file."""

    id: str
    title: str
    characters: int = Field(description="Of the text that can be found.")
    truncated: bool = Field(description="Whether the file has more text, which cannot be found.")


class FileRoutes:
    """Files become items of the type `file`.

    Args:
        add_items: Writes items.
    """

    def __init__(self, add_items: AddItems) -> None:
        self._add_items, self._reader = add_items, FileReader()

    async def add_file(
        self,
        id: Identifier,
        request: Request,
        board_id: Annotated[Identifier, Query(description="The item's board.")],
        title: Annotated[
            str | None, Query(max_length=2_000, description="By default the file's own.")
        ] = None,
        updated_at: Annotated[
            Annotated[AwareDatetime, BeforeValidator(reject_number)] | None,
            Query(description="By default, now."),
        ] = None,
        url: Annotated[str | None, Query(max_length=2_000)] = None,
        metadata: Annotated[
            str | None, Query(max_length=MAX_METADATA_BYTES, description="A JSON object.")
        ] = None,
        ctx: TenantContext = Depends(requires("write:boards")),
    ) -> AddedFile:
        """Add a file, or replace the item with this id.

        It is PDF, DOCX, HTML, Markdown or text: the Content-Type says which, or of
        `application/octet-stream` its first bytes. Its text can be found when the
        response arrives.
        """
        if not ctx.may_see(board_id):
            raise NotFound(
                f"no board {board_id!r} that you may see",
                errors=[{"location": "query.board_id", "message": "unknown"}],
            )
        ctx.usage.require("items", 1)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        found = await self._reader.read(
            await request.body(), media_type or "application/octet-stream"
        )
        row = {
            "id": id,
            "board_id": board_id,
            "type": "file",
            "title": found.title if title is None else title,
            "text": found.text,
            "updated_at": (updated_at or datetime.now(UTC)).isoformat(),
            "url": url,
            "metadata": _read_metadata(metadata),
        }
        return await self._add(ctx, row, found)

    async def _add(self, ctx: TenantContext, row: dict[str, Any], found: FileText) -> AddedFile:
        batch = check_items([row])
        answer = {"rejected": [{"error": error} for error in batch.rejected.values()]}
        if batch.accepted:
            answer = await self._add_items(ctx, batch)
        for fault in answer["rejected"]:
            name, _, message = fault["error"].partition(": ")
            raise Invalid.at(PLACES.get(name, f"query.{name}"), message)
        return AddedFile(
            id=row["id"],
            title=row["title"],
            characters=len(found.text),
            truncated=found.truncated,
        )


def _read_metadata(text: str | None) -> Any:
    try:
        return None if text is None else load_json(text.encode())
    except Invalid as error:
        raise Invalid.at("query.metadata", error.detail) from None
    except orjson.JSONDecodeError as error:
        raise Invalid.at("query.metadata", f"must be a JSON object ({error})") from None
