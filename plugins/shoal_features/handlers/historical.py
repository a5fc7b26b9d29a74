"""Features as they were at the times of entity rows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import Depends, Request, Response

from shoal import Malformed, TenantContext, TooLarge, off_loop, read_object, requires

from ..catalog import load_registry, split_names
from ..errors import invalid
from ..registry import Registry
from .requests import (
    JSON,
    PARQUET,
    decode_parquet,
    encode_parquet,
    import_offline_modules,
    resolve,
)

if TYPE_CHECKING:
    from ..historical_request import HistoricalRequest

MAX_ROWS, MAX_FEATURES = 100_000, 500

HISTORICAL_SCHEMA = {
    "x-shoal-safe": True,
    "parameters": [
        {
            "name": name,
            "in": "query",
            "schema": {"type": "string", "maxLength": 100_000},
            "description": "with a Parquet body, in place of the field",
        }
        for name in ("features", "entity", "known_by", "time_zone")
    ],
    "requestBody": {
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "entities": {
                            "type": "array",
                            "maxItems": MAX_ROWS,
                            "items": {"type": "object", "maxProperties": 100},
                        },
                        "features": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MAX_FEATURES,
                            "items": {"type": "string", "maxLength": 512},
                        },
                        "entity": {"type": "string", "maxLength": 512},
                        "as_of": {"type": "string", "format": "date-time"},
                        "known_by": {"type": "string", "format": "date-time"},
                        "time_zone": {"type": "string", "maxLength": 64},
                    },
                }
            },
            PARQUET: {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}


async def historical(
    request: Request, ctx: TenantContext = Depends(requires("read:tenant"))
) -> Response:
    """Features at the times of entity rows, or with `as_of` of all entities.

    JSON in and out, or Parquet by Content-Type and Accept; with a Parquet body,
    `features`, `entity`, `known_by` and `time_zone` are in the query. Other columns of
    the entity rows are given back.
    """
    await import_offline_modules()
    from ..historical_query import all_entities, plan_query
    from ..historical_request import check_entity_rows, check_text
    from ..rows import encode_json_rows, rename_columns

    registry = await load_registry(ctx)
    wanted = await _parse_request(request, registry, ctx.tenant)
    features = resolve(
        lambda: registry.resolve(wanted.entity, wanted.features), "features", "entity"
    )
    if wanted.as_of is not None:
        rows = await all_entities(ctx.stores, features, wanted.as_of)
    else:
        rows = wanted.rows
    if rows.num_rows > MAX_ROWS:
        raise TooLarge(
            f"at most {MAX_ROWS} rows in one request, not {rows.num_rows};"
            " use the job features.historical"
        )
    check_entity_rows(rows)
    if wanted.own is not None:
        check_text(wanted.own)
    try:
        query = await plan_query(
            ctx.stores, features, rows, known_by=wanted.known_by, cutoff=wanted.cutoff
        )
    except ValueError as error:
        raise invalid("entities.0.known_by", str(error)) from error
    table = rename_columns(await anyio.to_thread.run_sync(query.run), wanted.key)
    table = wanted.add_own(table)
    if PARQUET in request.headers.get("accept", ""):
        return Response(encode_parquet(table), media_type=PARQUET)
    return Response(await anyio.to_thread.run_sync(encode_json_rows, table), media_type=JSON)


async def _parse_request(request: Request, registry: Registry, tenant: str) -> "HistoricalRequest":
    media_type = request.headers.get("content-type", JSON).split(";")[0].strip()
    query = dict(request.query_params)
    query.pop("tenant", None)
    raw = await request.body()
    return await off_loop(_read_request, raw, media_type, query, registry, tenant)


def _read_request(
    raw: bytes, media_type: str, query: Mapping[str, str], registry: Registry, tenant: str
) -> "HistoricalRequest":
    import pyarrow as pa

    from ..historical_request import check_tenant, parse_historical_request

    try:
        if media_type in (PARQUET, "application/octet-stream"):
            names = split_names(query.get("features", ""))
            body: Any = {**query, "features": names, "entities": decode_parquet(raw)}
        else:
            body, entities = read_object(raw, "entities", limit=MAX_ROWS)
            if query:
                name = min(query)
                raise invalid(f"query.{name}", "with JSON, parameters are fields of the body")
            if entities is not None:
                body["entities"] = entities
    except (pa.ArrowException, OSError) as error:
        raise Malformed(f"the body is not {media_type}: {error}") from error
    try:
        check_tenant(body.get("entities"), tenant)
        return parse_historical_request(body, registry)
    except pa.ArrowException as error:
        raise invalid("entities", f"the rows cannot be read: {error}") from error
