"""The HTTP operations of the feature store."""

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import Any

import anyio
import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from shoal import (
    Invalid,
    Malformed,
    NotFound,
    Services,
    TenantContext,
    TooLarge,
    current_tenant,
    editor,
    reader,
)

from .catalog import Catalog, split
from .freshness import freshness
from .online import Reading, bodies, read, write
from .registry import Feature, Registry, RegistryError, UnknownFeature, View
from .values import micros, moment

MAX_IDS = 1_000
MAX_FEATURES = 500
MAX_ROWS = 100_000
MAX_WRITTEN = 10_000
PARQUET = "application/vnd.apache.parquet"
JSON = "application/json"
EARLIEST, LATEST = (
    datetime(1900, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
)
"""Between these are the times of a historical question's rows."""
OPTIONS = frozenset({"features", "tenant", "metadata"})


class Batch(BaseModel):
    """Which features of which entities."""

    model_config = ConfigDict(extra="forbid")
    entity: str = Field(description="entity type, such as `user`")
    ids: list[str | int] = Field(description=f"at most {MAX_IDS}")
    features: list[str] = Field(min_length=1, max_length=MAX_FEATURES)
    metadata: bool = False


class Definitions(BaseModel):
    """A compiled registry, as `shoal features apply` sends it."""

    views: list[dict[str, Any]]
    services: dict[str, list[str]] = {}


class Written(BaseModel):
    """Rows of a view. Each has the entity's id by its type or join key,
    `event_timestamp`, perhaps `created`, and values.
    """

    model_config = ConfigDict(extra="forbid")
    rows: list[dict[str, Any]]
    to: str = Field("online", pattern="^(online|offline|online_and_offline)$")


def routes(services: Services) -> APIRouter:
    router = APIRouter()
    catalog = Catalog()

    async def known(ctx: TenantContext) -> Registry:
        return await catalog.registry(ctx.tenant, ctx.stores.online)

    @router.get("", openapi_extra=GET_EXTRA)
    async def get(request: Request, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """Features of one entity: `?user=123&features=boards_30d,actions_5min`. With
        `metadata=true`, where each value comes from.
        """
        query = request.query_params
        named = [(k, v) for k, v in query.multi_items() if k not in OPTIONS]
        registry = await known(ctx)
        if len(named) != 1:
            raise Invalid(
                "name one entity, such as user=123"
                if not named
                else "name one entity, not " + ", ".join(k for k, _ in named),
                errors=[
                    {"location": f"query.{k}", "message": "not expected here"} for k, _ in named[1:]
                ],
            )
        (entity, entity_id), wanted = named[0], ",".join(query.getlist("features"))
        reading = _reading(catalog, registry, entity, wanted, "query.")
        _check_id(entity_id, f"query.{entity}")
        now = time.time_ns() // 1000
        head = (
            b'{"'
            + _join_key(registry, entity).encode()
            + b'":'
            + orjson.dumps(entity_id)
            + b',"features":'
        )
        if _flag(query.get("metadata")):
            answers = (await read(ctx.stores.online, reading, [entity_id], now))[0]
            body = (
                b"{"
                + b",".join(
                    b'"%s":%s' % (n.encode(), a.json)
                    for n, a in zip(reading.names, answers, strict=True)
                )
                + b"}"
            )
            return Response(
                head + body + b',"metadata":' + _metadata(reading, answers, now) + b"}",
                media_type=JSON,
            )
        return Response(
            head + (await bodies(ctx.stores.online, reading, [entity_id], now))[0] + b"}",
            media_type=JSON,
        )

    @router.post("/batch", openapi_extra={"x-shoal-safe": True})
    async def batch(body: Batch, ctx: TenantContext = Depends(reader)) -> Response:
        """Features of many entities, in the order of the ids."""
        if not 1 <= len(body.ids) <= MAX_IDS:
            message = f"1 to {MAX_IDS} ids in one request, not {len(body.ids)}"
            raise Invalid(message, errors=[{"location": "ids", "message": message}])
        registry = await known(ctx)
        reading = _reading(catalog, registry, body.entity, ",".join(body.features), "")
        ids = [str(i) for i in body.ids]
        for n, one in enumerate(ids):
            _check_id(one, f"ids.{n}")
        now, key = time.time_ns() // 1000, _join_key(registry, body.entity).encode()
        if body.metadata:
            found = await read(ctx.stores.online, reading, ids, now)
            parts = [
                b'{"%s":%s,"features":{%s},"metadata":%s}'
                % (
                    key,
                    orjson.dumps(i),
                    b",".join(
                        b'"%s":%s' % (n.encode(), a.json)
                        for n, a in zip(reading.names, answers, strict=True)
                    ),
                    _metadata(reading, answers, now),
                )
                for i, answers in zip(ids, found, strict=True)
            ]
        else:
            whole = await bodies(ctx.stores.online, reading, ids, now)
            parts = [
                b'{"%s":%s,"features":%s}' % (key, orjson.dumps(i), one)
                for i, one in zip(ids, whole, strict=True)
            ]
        entity = orjson.dumps(body.entity)
        return Response(
            b'{"entity":' + entity + b',"results":[' + b",".join(parts) + b"]}", media_type=JSON
        )

    @router.post("/historical", openapi_extra=HISTORICAL_EXTRA)
    async def historical(request: Request, ctx: TenantContext = Depends(reader)) -> Response:
        """Features as they were at the times of entity rows, or with `as_of` of all
        entities at one time. JSON in and out, or Parquet by Content-Type and Accept
        (with a Parquet body, `features`, `entity` and `known_by` are in the query).
        """
        history, wire = await _later("historical_query"), await _later("rows")
        registry = await known(ctx)
        asked = await _asked(request, registry)
        features = _resolve(registry, asked.entity, asked.features, "features")
        if asked.as_of is not None:
            table = await history.everyone(ctx.stores, features, asked.as_of)
        else:
            assert asked.rows is not None
            table = asked.rows
        if table.num_rows > MAX_ROWS:
            raise TooLarge(
                f"at most {MAX_ROWS} rows in one request, not {table.num_rows}; use the job features.historical"
            )
        _check_rows(table)
        try:
            one = await history.question(
                ctx.stores, features, table, known_by=asked.known_by, cutoff=asked.cutoff
            )
        except ValueError as error:
            raise Invalid(
                str(error), errors=[{"location": "entities.0.known_by", "message": str(error)}]
            ) from error
        answer = await anyio.to_thread.run_sync(one.answer)
        answer = wire.named(answer, asked.key)
        if PARQUET in request.headers.get("accept", ""):
            return Response(_parquet(answer), media_type=PARQUET)
        return Response(
            await anyio.to_thread.run_sync(partial(wire.json_rows, answer)), media_type=JSON
        )

    @router.get("/views")
    async def views(ctx: TenantContext = Depends(current_tenant)) -> dict[str, Any]:
        """The registered views with their features, and the feature services."""
        return {"tenant": ctx.tenant, **(await known(ctx)).to_dict()}

    @router.put("/definitions")
    async def apply(body: Definitions, ctx: TenantContext = Depends(editor)) -> dict[str, Any]:
        """Register definitions in place of the old ones, all or nothing."""
        try:
            registry = Registry.from_dict(body.model_dump())
            new = await catalog.replace(ctx.tenant, ctx.stores.online, registry)
        except RegistryError as error:
            raise Invalid(
                f"the definitions were not registered: {error}", errors=error.errors
            ) from error
        return {
            "views": [v.name for v in registry.views],
            "services": list(registry.services),
            "new": new,
        }

    @router.get("/freshness", name="freshness")
    async def fresh(ctx: TenantContext = Depends(current_tenant)) -> dict[str, Any]:
        """Per view: age of the newest value, lag of the stream, events too late; shares
        of nulls and drift from the last monitoring.
        """
        return {
            "views": await freshness(ctx.stores.online, await known(ctx), time.time_ns() // 1000)
        }

    @router.post("/views/{view}/rows")
    async def push(
        view: str, body: Written, ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """Write values of a view online, offline or both. Newer wins by (event time,
        created time). Good rows are taken.
        """
        wire, one = await _later("rows"), _view(await known(ctx), view)
        if one.kind == "stream":
            raise Invalid(f"{view} is computed from events: append events to the log instead")
        if len(body.rows) > MAX_WRITTEN:
            raise TooLarge(f"at most {MAX_WRITTEN} rows in one request, not {len(body.rows)}")
        good, rejected = wire.parse(one, body.rows, whole=body.to.endswith("offline"))
        now = time.time_ns() // 1000
        if "online" in body.to.split("_and_"):
            await write(ctx.stores.online, one, [r.packed(one, now) for r in good], now)
        if body.to.endswith("offline") and good:
            await wire.keep(ctx.stores.lake, one, good, now)
        return {"accepted": len(good), "rejected": rejected}

    @router.get("/views/{view}/rows")
    async def rows(
        view: str,
        start: str | None = None,
        end: str | None = None,
        latest: bool = False,
        ctx: TenantContext = Depends(current_tenant),
    ) -> Response:
        """The offline rows of a view with event times from `start` to `end`, both
        included, as Parquet; with `latest`, the newest of each entity.
        """
        wire, offline, one = (
            await _later("rows"),
            await _later("offline"),
            _view(await known(ctx), view),
        )
        bounds = [
            _time(wire, t, f"query.{n}") if t else None for n, t in (("start", start), ("end", end))
        ]
        table = await offline.between(ctx.stores.lake, one, bounds[0], bounds[1], latest)
        return Response(_parquet(wire.named(table, one.join_key)), media_type=PARQUET)

    @router.post(
        "/datasets/{name}",
        openapi_extra={
            "requestBody": {
                "content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}}
            }
        },
    )
    async def upload(
        name: str, request: Request, ctx: TenantContext = Depends(editor)
    ) -> dict[str, int]:
        """Add entity rows (Parquet, as for `historical`) to a data set, for the job
        `features.historical`.
        """
        one, registry, wire = await _dataset(name), await known(ctx), await _later("rows")
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(pa.BufferReader(await request.body()))
            rows = wire.asked(
                {
                    "entities": table,
                    "features": ["-"],
                    "entity": request.query_params.get("entity"),
                },
                registry,
            ).rows
        except (pa.ArrowException, OSError) as error:
            raise Malformed(f"the body is not Parquet: {error}") from error
        except wire.Wrong as error:
            raise Invalid(str(error), errors=error.errors) from error
        assert rows is not None
        _check_rows(rows)
        return {"accepted": await one.ask(ctx.stores.lake, rows)}

    @router.get("/datasets/{name}")
    async def download(
        name: str, part: int | None = None, ctx: TenantContext = Depends(current_tenant)
    ) -> Any:
        """How many rows a data set has, and of how many parts its answer is; with
        `part` (from 0) that part as Parquet.
        """
        one, offline = await _dataset(name), await _later("offline")
        asked, answered = await one.asked(ctx.stores.lake), await one.answered(ctx.stores.lake)
        if part is None:
            rows = [f.dataset().count_rows() if f.paths else 0 for f in (asked, answered)]
            return {"rows": rows[0], "answered": rows[1], "parts": len(answered.paths)}
        if not 0 <= part < len(answered.paths):
            raise NotFound(
                f"the answer of {name!r} has {len(answered.paths)} parts, no part {part}"
            )
        table = offline.Files([answered.paths[part]], answered.filesystem).dataset().to_table()
        return Response(_parquet(table), media_type=PARQUET)

    @router.delete("/datasets/{name}")
    async def forget(name: str, ctx: TenantContext = Depends(editor)) -> dict[str, int]:
        """Remove a data set and its answer."""
        return {"files": await (await _dataset(name)).forget(ctx.stores.lake)}

    return router


async def _later(module: str) -> Any:
    """A module of ours that stands on Arrow, DuckDB and Polars: imported, in a thread,
    once someone asks for what needs it. Replicas that only serve stay small.
    """
    name = f"{__package__}.{module}"
    return sys.modules.get(name) or await anyio.to_thread.run_sync(import_module, name)


async def _dataset(name: str) -> Any:
    try:
        return (await _later("datasets")).Dataset(name)
    except ValueError as error:
        raise Invalid(
            str(error), errors=[{"location": "path.name", "message": str(error)}]
        ) from error


def _reading(catalog: Catalog, registry: Registry, entity: str, names: str, where: str) -> Reading:
    if not names.strip(", ") or names.count(",") >= MAX_FEATURES:
        raise Invalid(
            f"say which features, 1 to {MAX_FEATURES} of them",
            errors=[{"location": f"{where}features", "message": "missing"}],
        )
    try:
        return catalog.reading(registry, entity, names)
    except (KeyError, UnknownFeature) as error:
        raise _unknown(registry, entity, error, f"{where}features") from error


def _resolve(
    registry: Registry, entity: str, names: list[str], where: str
) -> list[tuple[View, Feature]]:
    try:
        return registry.resolve(entity, names)
    except (KeyError, UnknownFeature) as error:
        raise _unknown(registry, entity, error, where) from error


def _unknown(registry: Registry, entity: str, error: Exception, where: str) -> Invalid:
    if isinstance(error, UnknownFeature):
        errors = [
            {
                "location": where,
                "message": f"unknown feature {n!r}",
                "feature": n,
                "nearest": list(near),
            }
            for n, near in error.nearest.items()
        ]
        return Invalid(str(error), errors=errors)
    message = f"unknown entity type {entity!r}; there is {', '.join(registry.entities) or 'none'}"
    return Invalid(
        message, errors=[{"location": where.replace("features", "entity"), "message": message}]
    )


def _join_key(registry: Registry, entity: str) -> str:
    return next(v.join_key for v in registry.views if v.entity == entity)


def _view(registry: Registry, name: str) -> View:
    try:
        return registry.view(name)
    except KeyError:
        raise NotFound(
            f"no view {name!r}; there is {', '.join(v.name for v in registry.views)}"
        ) from None


def _check_id(entity_id: str, where: str) -> None:
    if not 0 < len(entity_id) <= 512 or any(
        ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in entity_id
    ):
        message = "an id has 1 to 512 characters, none of them a control character"
        raise Invalid(f"{where}: {message}", errors=[{"location": where, "message": message}])


def _flag(value: str | None) -> bool:
    return value is not None and value.lower() in ("1", "true", "yes")


def _metadata(reading: Reading, answers: Any, now: int) -> bytes:
    """Per feature: its type, event time, created time, age in seconds, and why it is
    null.
    """
    found: dict[str, Any] = {}
    for (_, feature), answer in zip(reading.features, answers, strict=True):
        entry: dict[str, Any] = {"type": feature.dtype, "status": answer.reason or "present"}
        if answer.event is not None:
            entry |= {
                "event_timestamp": moment(answer.event).isoformat(),
                "created": moment(answer.created).isoformat(),
                "age_seconds": max(0.0, (now - answer.event) / 1e6),
            }
        found[feature.name] = entry
    return orjson.dumps(found)


def _time(wire: Any, text: str, where: str) -> datetime:
    try:
        return wire.parse_time(text)
    except ValueError as error:
        raise Invalid(str(error), errors=[{"location": where, "message": str(error)}]) from error


def _check_rows(rows: Any) -> None:
    """A Parquet file's text may be no UTF-8 and its times past the year 9999, where
    Python's end; a TTL is subtracted from the earliest.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        rows.validate(full=True)
    except pa.ArrowException as error:
        raise Invalid(
            f"the rows cannot be read: {error}",
            errors=[{"location": "entities", "message": str(error)}],
        ) from error
    for column in [c for c in ("at", "known_by") if c in rows.column_names and rows.num_rows]:
        ends = pc.min_max(rows[column].cast(pa.int64())).as_py()
        if ends["min"] < micros(EARLIEST) or ends["max"] > micros(LATEST):
            name = {"at": "event_timestamp"}.get(column, column)
            message = f"a time is between the years {EARLIEST.year} and {LATEST.year}"
            raise Invalid(f"{name}: {message}", errors=[{"location": name, "message": message}])


def _check_entity(registry: Registry, entity: Any) -> None:
    """Not given or empty: the rows themselves say it, where there are any."""
    if entity is not None and not isinstance(entity, str):
        message = f"the name of an entity type, not {entity!r:.60}"
        raise Invalid(f"entity: {message}", errors=[{"location": "entity", "message": message}])
    if (entity or not registry.entities) and entity not in registry.entities:
        raise _unknown(registry, entity or "", KeyError(entity), "entity")


def _parquet(table: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


async def _asked(request: Request, registry: Registry) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wire = await _later("rows")
    raw = await request.body()
    kind = request.headers.get("content-type", JSON).split(";")[0].strip()
    try:
        if kind in (PARQUET, "application/octet-stream"):
            query: Mapping[str, Any] = request.query_params
            body = {
                **query,
                "features": split(query.get("features", "")),
                "entities": pq.read_table(pa.BufferReader(raw)),
            }
        else:
            body = orjson.loads(raw)
    except (orjson.JSONDecodeError, pa.ArrowException, OSError) as error:
        raise Malformed(f"the body is not {kind}: {error}") from error
    if isinstance(body, dict):
        _check_entity(registry, body.get("entity"))
    try:
        return wire.asked(body, registry)
    except wire.Wrong as error:
        raise Invalid(str(error), errors=error.errors) from error
    except pa.ArrowException as error:
        raise Invalid(
            f"the rows cannot be read: {error}",
            errors=[{"location": "entities", "message": str(error)}],
        ) from error


GET_EXTRA = {
    "parameters": [
        {
            "name": "user",
            "in": "query",
            "schema": {"type": "string"},
            "description": "the entity's id, under its type's name",
        },
        {
            "name": "features",
            "in": "query",
            "required": True,
            "schema": {"type": "string"},
            "description": "names, comma-separated",
        },
        {"name": "metadata", "in": "query", "schema": {"type": "boolean"}},
        {
            "name": "tenant",
            "in": "query",
            "schema": {"type": "string"},
            "description": "must be the credential's own",
        },
    ]
}
HISTORICAL_EXTRA = {
    "x-shoal-safe": True,
    "requestBody": {
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "entities": {"type": "array", "items": {"type": "object"}},
                        "features": {"type": "array", "items": {"type": "string"}},
                        "entity": {"type": "string"},
                        "as_of": {"type": "string", "format": "date-time"},
                        "known_by": {"type": "string", "format": "date-time"},
                    },
                }
            },
            PARQUET: {"schema": {"type": "string", "format": "binary"}},
        }
    },
}
