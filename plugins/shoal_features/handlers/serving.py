"""Online features of one entity or of many."""

import time
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

import orjson
from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, Strict

from shoal import Integer, Invalid, TenantContext, Text, requires

from ..catalog import catalog, load_registry
from ..errors import error_entry, invalid
from ..online import ReadPlan, ServedValue, read_json, read_values
from ..registry import Registry
from ..values import format_time, from_micros
from ..views import USER
from .requests import JSON, resolve

MAX_IDS = 1_000
MAX_FEATURES = 500
OPTIONS = frozenset({"features", "tenant", "metadata"})
"""Query parameters that name no entity type."""


class Batch(BaseModel):
    """Which features of which entities."""

    model_config = ConfigDict(extra="forbid")
    entity: Text = Field(description="entity type, such as `user`")
    ids: list[Text | Annotated[Integer, Strict()]] = Field(min_length=1, max_length=MAX_IDS)
    features: list[Text] = Field(min_length=1, max_length=MAX_FEATURES)
    metadata: bool = False


GET_SCHEMA = {
    "parameters": [
        {
            "name": "user",
            "in": "query",
            "style": "form",
            "explode": True,
            "required": True,
            "schema": {
                "type": "object",
                "propertyNames": {"maxLength": 128},
                "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 512},
                "minProperties": 1,
                "maxProperties": 1,
            },
            "description": "the entity's id under its type's name, such as `user=123`",
        },
        {
            "name": "features",
            "in": "query",
            "required": True,
            "schema": {"type": "string", "maxLength": 100_000},
            "description": "names, comma-separated",
        },
        {"name": "metadata", "in": "query", "schema": {"type": "boolean"}},
    ]
}


async def get(
    request: Request, ctx: TenantContext = Depends(requires("read:own", others="read:tenant"))
) -> Response:
    """Features of one entity: `?user=123&features=boards_30d,actions_5min`.

    With `metadata=true`, also the type, times and status of each value.
    """
    _check_utf8(request.scope["query_string"])
    query = request.query_params
    registry = await load_registry(ctx)
    entity, entity_id = _parse_entity(query.multi_items())
    plan = _plan_read(
        registry, entity, query.getlist("features"), "query.features", f"query.{entity}"
    )
    _check_id(entity_id, f"query.{entity}")
    _require_to_read(ctx, plan, [entity_id])
    with_metadata = _parse_flag(query.get("metadata", "false"))
    results = await _read_results(ctx, registry, plan, [entity_id], with_metadata)
    return Response(results[0], media_type=JSON)


async def batch(
    body: Batch, ctx: TenantContext = Depends(requires("read:own", others="read:tenant"))
) -> Response:
    """Features of many entities, in the order of the ids."""
    registry = await load_registry(ctx)
    plan = _plan_read(registry, body.entity, body.features, "features", "entity")
    ids = [str(i) for i in body.ids]
    for n, entity_id in enumerate(ids):
        _check_id(entity_id, f"ids.{n}")
    _require_to_read(ctx, plan, ids)
    results = await _read_results(ctx, registry, plan, ids, body.metadata)
    head = b'{"entity":' + orjson.dumps(body.entity)
    return Response(head + b',"results":[' + b",".join(results) + b"]}", media_type=JSON)


def _require_to_read(ctx: TenantContext, plan: ReadPlan, ids: Sequence[str]) -> None:
    """A user's own features are theirs, and public views are all users'.

    All others are the tenant's.
    """
    is_own = plan.entity == USER and all(id == ctx.user for id in ids)
    if not is_own and not all(view.is_public for view, _ in plan.features):
        ctx.require("read:tenant")


def _parse_entity(items: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The entity type and id among the query parameters."""
    entities = [(k, v) for k, v in items if k not in OPTIONS]
    if not entities:
        raise invalid("query", "name one entity, such as user=123")
    if len(entities) > 1:
        raise Invalid(
            "name one entity, not " + ", ".join(k for k, _ in entities),
            errors=[error_entry(f"query.{k}", "not expected here") for k, _ in entities[1:]],
        )
    return entities[0]


def _plan_read(
    registry: Registry, entity: str, features: Sequence[str], location: str, entity_location: str
) -> ReadPlan:
    names = ",".join(features)
    if not names.strip(", ") or names.count(",") >= MAX_FEATURES:
        raise invalid(location, f"say which features, 1 to {MAX_FEATURES} of them")
    return resolve(lambda: catalog.read_plan(registry, entity, names), location, entity_location)


def _check_utf8(query: bytes) -> None:
    """Refuse a query that is not UTF-8: its parameters would be taken for others."""
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        raise invalid("query", "is not UTF-8") from None


def _parse_flag(text: str) -> bool:
    """`metadata`, as FastAPI reads a boolean."""
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if (flag := known.get(text.lower())) is None:
        raise invalid("query.metadata", f"must be true or false, not {text!r:.60}")
    return flag


def _check_id(entity_id: str, location: str) -> None:
    if not 0 < len(entity_id) <= 512 or any(
        ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in entity_id
    ):
        raise invalid(location, "an id has 1 to 512 characters, none of them a control character")


async def _read_results(
    ctx: TenantContext, registry: Registry, plan: ReadPlan, ids: list[str], with_metadata: bool
) -> list[bytes]:
    """Per id, `{"user_id": id, "features": {…}}`, and `"metadata": {…}` on request."""
    now, key = time.time_ns() // 1000, registry.join_key(plan.entity).encode()
    if not with_metadata:
        features = await read_json(ctx.stores.online, plan, ids, now)
        return [
            b'{"%s":%s,"features":%s}' % (key, orjson.dumps(i), f)
            for i, f in zip(ids, features, strict=True)
        ]
    found = await read_values(ctx.stores.online, plan, ids, now)
    return [
        b'{"%s":%s,"features":%s,"metadata":%s}'
        % (key, orjson.dumps(i), plan.encode_values(values), _encode_metadata(plan, values, now))
        for i, values in zip(ids, found, strict=True)
    ]


def _encode_metadata(plan: ReadPlan, values: Sequence[ServedValue], now: int) -> bytes:
    """Per feature: type, status, and where it has a value its times and age."""
    metadata: dict[str, Any] = {}
    for (_, feature), value in zip(plan.features, values, strict=True):
        entry: dict[str, Any] = {"type": feature.dtype, "status": value.reason or "present"}
        if value.event is not None and value.created is not None:
            entry |= {
                "event_timestamp": format_time(from_micros(value.event)),
                "created": format_time(from_micros(value.created)),
                "age_seconds": max(0.0, (now - value.event) / 1e6),
            }
        metadata[feature.name] = entry
    return orjson.dumps(metadata)
