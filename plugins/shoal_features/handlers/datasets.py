"""Data sets: entity rows for a join of any size, and its result."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Query, Request, Response
from pydantic import WithJsonSchema

from shoal import Malformed, NotFound, TenantContext, off_loop, requires

from ..catalog import load_registry
from ..errors import invalid
from .requests import PARQUET, decode_parquet, encode_parquet, import_offline_modules

if TYPE_CHECKING:
    from ..datasets import Dataset

DatasetName = Annotated[
    str, WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_]{0,39}$"})
]
"""Checked by `Dataset`, whose module imports pyarrow."""
FILE = {"schema": {"type": "string", "format": "binary"}}
UPLOAD_SCHEMA = {
    "parameters": [
        {
            "name": "entity",
            "in": "query",
            "schema": {"type": "string", "maxLength": 512},
            "description": "the entity type, where several have the join key",
        },
        {
            "name": "time_zone",
            "in": "query",
            "schema": {"type": "string", "maxLength": 64},
            "description": "where times without a zone are, such as Europe/Lisbon",
        },
    ],
    "requestBody": {
        "required": True,
        "content": {PARQUET: FILE, "application/octet-stream": FILE},
    },
}


async def upload(
    name: DatasetName, request: Request, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, int]:
    """Add entity rows, as Parquet, to a data set for the job `features.historical`."""
    dataset, registry = await _open_dataset(name), await load_registry(ctx)
    import pyarrow as pa

    from ..historical_request import (
        check_entity_rows,
        check_tenant,
        own_columns,
        parse_entity_rows,
        parse_zone,
    )

    entity = request.query_params.get("entity") or None
    zone = parse_zone(request.query_params.get("time_zone"))

    def read(body: bytes) -> pa.Table:
        try:
            table = decode_parquet(body)
            check_tenant(table, ctx.tenant)
            rows, key, _ = parse_entity_rows(table, registry, entity, [], zone)
        except (pa.ArrowException, OSError) as error:
            raise Malformed(f"the body is not Parquet: {error}") from error
        check_entity_rows(rows)
        if own := own_columns(table, key).column_names:
            message = f"a data set has no other columns, as its result has no order: {own[0]}"
            raise invalid("body", message)
        return rows

    rows = await off_loop(read, await request.body())
    return {"accepted": await dataset.add_rows(ctx.stores.lake, rows)}


async def download(
    name: DatasetName,
    part: Annotated[int, Query(ge=0, le=10**6)] | None = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> Any:
    """The sizes of a data set and of its result; with `part` (from 0), that part.

    A part of the result is Parquet.
    """
    dataset, lake = await _open_dataset(name), ctx.stores.lake
    rows, result = await dataset.row_files(lake), await dataset.result_files(lake)
    parts = len(result.paths)
    if part is None:
        return {"rows": rows.row_count(), "answered": result.row_count(), "parts": parts}
    if not 0 <= part < parts:
        raise NotFound(f"the result of {name!r} has {parts} parts, no part {part}")
    from ..offline import ParquetFiles

    table = ParquetFiles([result.paths[part]], result.filesystem).dataset().to_table()
    return Response(encode_parquet(table), media_type=PARQUET)


async def forget(
    name: DatasetName, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, int]:
    """Remove a data set and its result."""
    return {"files": await (await _open_dataset(name)).delete(ctx.stores.lake)}


async def _open_dataset(name: str) -> "Dataset":
    await import_offline_modules()
    from ..datasets import Dataset

    try:
        return Dataset(name)
    except ValueError as error:
        raise invalid("path.name", str(error)) from error
