"""Milvus: a collection per tenant and name, searched exactly (FLAT, cosine) and by BM25."""

import logging
import math
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from pymilvus import AsyncMilvusClient, DataType, Function, FunctionType
from pymilvus.exceptions import MilvusException

from shoal.contract.errors import Conflict, InternalError, Invalid, NotFound, ShoalError, Unavailable
from shoal.contract.stores import Hit, VectorSchema

from .connections import shared
from .door import Door

logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it raises, with three stack traces

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
COLUMN = re.compile(r"[a-z][a-z0-9_]{0,62}")
OWN = frozenset({"id", "vector", "text", "text_sparse"})
TEXT_BYTES = 65_535
"""What a Milvus VARCHAR holds."""
ID_BYTES = 2_048
BATCH = 1_000
TIMEOUT = 30.0

TYPES = {
    "string": DataType.VARCHAR,
    "integer": DataType.INT64,
    "float": DataType.DOUBLE,
    "boolean": DataType.BOOL,
}
TOKEN = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{([A-Za-z_]\w*)\}""", re.DOTALL)
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def collection_name(tenant: str, name: str) -> str:
    """The Milvus name. A tenant's alphabet is `a-z 0-9 _ -`, so the capitals delimit: no two pairs give one name."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Invalid("a collection's name is 1 to 63 of a-z, 0-9 and _, beginning with a letter")
    return f"{prefix(tenant)}{name}"


def prefix(tenant: str) -> str:
    """How all Milvus names of a tenant's collections begin, and no other's."""
    return f"T_{tenant.replace('-', 'M')}_N_"


def literal(value: Any) -> str:
    """A value as a literal of Milvus' expression language. Lists become lists. Invalid for anything it cannot say exactly."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise Invalid("a filter's value is not finite")
        return repr(float(value))
    if isinstance(value, str):
        return f'"{value.translate(ESCAPES)}"'
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return f"[{', '.join(map(literal, value))}]"
    raise Invalid(
        f"a filter's value may be a string, number, boolean or list of them, not {type(value).__name__}"
    )


def bound(filter: str, values: Mapping[str, Any] | None) -> str:
    """`filter` with its `{name}` placeholders replaced by literals; text inside the filter's own quotes is left alone.

    Milvus has templates of its own, but milvus-lite ignores them (3.2), so the values are written as literals here.
    """
    values = values or {}
    used = set()

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return match[0]
        used.add(name)
        return literal(values[name])

    try:
        expression = TOKEN.sub(fill, filter)
    except KeyError as error:
        raise ValueError(f"the filter's placeholder {error} has no value") from None
    if unused := set(values) - used:
        raise ValueError(f"the filter has no placeholder for {', '.join(sorted(unused))}")
    return expression


class VectorsDoor(Door):
    """See `shoal.contract.stores.Vectors`."""

    __slots__ = ()

    async def ensure(self, name: str, schema: VectorSchema) -> None:
        client, collection = self._client(), collection_name(self._tenant, name)
        async with _translated(name):
            if not await client.has_collection(collection, timeout=TIMEOUT):
                try:
                    await _create(client, collection, schema)
                except MilvusException as error:
                    if "exist" not in str(error).lower():  # else another process was faster
                        raise
            found = await client.describe_collection(collection, timeout=TIMEOUT)
            expected = _columns(schema)
            actual = {
                f["name"]: (DataType(f["type"]), int(f["params"].get("dim", 0))) for f in found["fields"]
            }
            if actual != expected:
                differing = sorted(
                    k for k in actual.keys() | expected.keys() if actual.get(k) != expected.get(k)
                )
                raise Conflict(f"the collection {name} exists with another schema: {', '.join(differing)}")
            await client.load_collection(collection, timeout=TIMEOUT)

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> int:
        collection = collection_name(self._tenant, name)
        by_id = {_checked(i, row)["id"]: row for i, row in enumerate(rows)}  # of one id twice, the last
        data = [_row(row) for row in by_id.values()]
        async with _translated(name):
            for start in range(0, len(data), BATCH):
                await self._client().upsert(collection, data[start : start + BATCH], timeout=TIMEOUT)
        return len(data)

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        collection = collection_name(self._tenant, name)
        gone = 0
        for batch in _batches(ids):
            there = [row["id"] for row in await self.get(name, batch)]
            if there:
                async with _translated(name):
                    await self._client().delete(collection, filter=f"id in {literal(there)}", timeout=TIMEOUT)
                gone += len(there)
        return gone

    async def get(self, name: str, ids: Sequence[str], fields: Sequence[str] = ()) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for batch in _batches(ids):
            for row in await self._query(name, f"id in {literal(batch)}", ["id", *fields]):
                found[row["id"]] = row
        return [found[i] for i in ids if i in found]

    async def nearest(
        self,
        name: str,
        vector: Sequence[float],
        *,
        limit: int,
        filter: str = "",
        values: Mapping[str, Any] | None = None,
        fields: Sequence[str] = (),
    ) -> list[Hit]:
        query = np.asarray(vector, np.float32)
        if query.ndim != 1 or not np.isfinite(query).all():
            raise Invalid("the vector must be one-dimensional and finite")
        return await self._search(
            name, query.tolist(), "vector", "COSINE", limit, bound(filter, values), fields
        )

    async def matching(
        self,
        name: str,
        text: str,
        *,
        limit: int,
        filter: str = "",
        values: Mapping[str, Any] | None = None,
        fields: Sequence[str] = (),
    ) -> list[Hit]:
        if not text.strip():
            return []
        return await self._search(name, text, "text_sparse", "BM25", limit, bound(filter, values), fields)

    async def count(self, name: str, *, filter: str = "", values: Mapping[str, Any] | None = None) -> int:
        rows = await self._query(name, bound(filter, values), ["count(*)"])
        return int(rows[0]["count(*)"]) if rows else 0

    async def flush(self, name: str) -> None:
        async with _translated(name):
            await self._client().flush(collection_name(self._tenant, name), timeout=TIMEOUT)

    async def drop(self, name: str) -> None:
        async with _translated(name):
            await self._client().drop_collection(collection_name(self._tenant, name), timeout=TIMEOUT)

    async def names(self) -> list[str]:
        """The tenant's collections."""
        start = prefix(self._tenant)
        async with _translated(""):
            found = await self._client().list_collections(timeout=TIMEOUT)
        return sorted(n.removeprefix(start) for n in found if n.startswith(start))

    def _client(self) -> Any:
        uri, token = self._config.vectors, self._config.token
        return shared((uri, token), lambda: AsyncMilvusClient(uri=uri, token=token, timeout=5.0))

    async def _search(
        self, name: str, query: Any, column: str, metric: str, limit: int, filter: str, fields: Sequence[str]
    ) -> list[Hit]:
        if limit < 1:
            return []

        async def search() -> Any:
            return await self._client().search(
                collection_name(self._tenant, name),
                [query],
                filter=filter,
                limit=min(limit, 16_384),
                output_fields=list(fields) or ["id"],
                anns_field=column,
                search_params={"metric_type": metric},
                timeout=TIMEOUT,
            )

        hits = []
        for hit in (await self._loaded(name, search))[0]:
            score = float(hit["distance"])
            score = abs(score) if metric == "BM25" else score  # milvus-lite gives it negative
            entity = hit.get("entity") or {}
            hits.append(
                Hit(hit["id"], score if math.isfinite(score) else 0.0, {f: entity.get(f) for f in fields})
            )
        return hits

    async def _query(self, name: str, filter: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        async def query() -> Any:
            return await self._client().query(
                collection_name(self._tenant, name),
                filter=filter,
                output_fields=list(fields),
                timeout=TIMEOUT,
            )

        return [dict(row) for row in await self._loaded(name, query)]

    async def _loaded(self, name: str, call: Any) -> Any:
        """The call's answer; where the collection is not loaded (milvus-lite forgets that with a restart), load and ask again."""
        async with _translated(name):
            try:
                return await call()
            except MilvusException as error:
                if "not loaded" not in str(error) and "released" not in str(error):
                    raise
                await self._client().load_collection(collection_name(self._tenant, name), timeout=TIMEOUT)
                return await call()


def _columns(schema: VectorSchema) -> dict[str, tuple[DataType, int]]:
    columns = {"id": (DataType.VARCHAR, 0), "vector": (DataType.FLOAT_VECTOR, schema.dimension)}
    columns |= {name: (TYPES[kind], 0) for name, kind in schema.fields.items()}
    if schema.text:
        columns |= {"text": (DataType.VARCHAR, 0), "text_sparse": (DataType.SPARSE_FLOAT_VECTOR, 0)}
    return columns


async def _create(client: Any, collection: str, schema: VectorSchema) -> None:
    for name in schema.fields:
        if name in OWN or not COLUMN.fullmatch(name):
            raise Invalid(f"{name!r} cannot name a field")
    made = client.create_schema(auto_id=False, enable_dynamic_field=False)
    made.add_field("id", DataType.VARCHAR, is_primary=True, max_length=ID_BYTES)
    made.add_field("vector", DataType.FLOAT_VECTOR, dim=schema.dimension)
    for name, kind in schema.fields.items():
        extra = {"max_length": TEXT_BYTES} if kind == "string" else {}
        made.add_field(name, TYPES[kind], nullable=True, **extra)
    index = client.prepare_index_params()
    index.add_index(field_name="vector", index_type="FLAT", metric_type="COSINE")
    if schema.text:
        made.add_field(
            "text",
            DataType.VARCHAR,
            max_length=TEXT_BYTES,
            enable_analyzer=True,
            analyzer_params={"tokenizer": "standard"},
        )
        made.add_field("text_sparse", DataType.SPARSE_FLOAT_VECTOR)
        made.add_function(
            Function(
                name="bm25",
                function_type=FunctionType.BM25,
                input_field_names=["text"],
                output_field_names=["text_sparse"],
            )
        )
        index.add_index(
            field_name="text_sparse",
            index_type="SPARSE_INVERTED_INDEX",
            metric_type="BM25",
            params={"bm25_k1": schema.bm25_k1, "bm25_b": schema.bm25_b},
        )
    await client.create_collection(collection, schema=made, index_params=index, timeout=TIMEOUT)


def _checked(i: int, row: Mapping[str, Any]) -> Mapping[str, Any]:
    key = row.get("id")
    if not isinstance(key, str) or not key or len(key.encode(errors="replace")) > ID_BYTES:
        raise Invalid(
            f"an id is 1 to {ID_BYTES} bytes of text",
            errors=[{"location": f"{i}.id", "message": "not an id"}],
        )
    vector = np.asarray(row.get("vector"), np.float32)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise Invalid(
            "a vector is not finite",
            errors=[{"location": f"{i}.vector", "message": "must be finite numbers"}],
        )
    for name, value in row.items():
        if isinstance(value, str) and len(value.encode(errors="replace")) > TEXT_BYTES:
            message = f"longer than {TEXT_BYTES} bytes"
            raise Invalid(f"{name} is {message}", errors=[{"location": f"{i}.{name}", "message": message}])
        if isinstance(value, float) and not math.isfinite(value):
            raise Invalid(
                f"{name} is not finite", errors=[{"location": f"{i}.{name}", "message": "must be finite"}]
            )
    return row


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "vector": np.asarray(row["vector"], np.float32)}


def _batches(ids: Sequence[str]) -> Iterable[list[str]]:
    if any(not isinstance(i, str) for i in ids):
        raise Invalid("an id is text")
    unique = list(dict.fromkeys(ids))
    return (unique[i : i + BATCH] for i in range(0, len(unique), BATCH))


@asynccontextmanager
async def _translated(name: str) -> AsyncIterator[None]:
    """Faults of Milvus as errors of Shoal."""
    try:
        yield
    except ShoalError:
        raise
    except (grpc.RpcError, ConnectionError, TimeoutError) as error:
        raise Unavailable("Milvus is away", retry_after=1) from error
    except MilvusException as error:
        text = str(error.message)
        if isinstance(error.__cause__, grpc.RpcError) or "connect" in text.lower() or "retry" in text.lower():
            raise Unavailable("Milvus is away", retry_after=1) from error
        if "does not exist" in text or "not found" in text or "can't find collection" in text:
            raise NotFound(f"no collection {name}") from error
        if "filter" in text.lower() or "expr" in text.lower() or "parse" in text.lower():
            raise Invalid(f"the filter is wrong: {text[:300]}") from error
        raise InternalError(f"Milvus: {text[:300]}") from error
