"""Milvus: a collection per tenant and name, searched exactly and by BM25."""

import asyncio
import logging
import math
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import numpy as np
from pymilvus import AsyncMilvusClient, DataType, Function, FunctionType
from pymilvus.exceptions import DataNotMatchException, MilvusException, ParamError

from shoal.contract.errors import (
    Conflict,
    InternalError,
    Invalid,
    NotFound,
    ShoalError,
    Unavailable,
)
from shoal.contract.stores import Hit, VectorSchema

from .configuration import StoreConfig
from .connections import shared_client
from .tenant_store import TenantStore

# It logs what it raises, with three stack traces.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
OWN = frozenset({"id", "vector", "text", "text_sparse"})
TEXT_BYTES = 65_535
"""The largest VARCHAR of Milvus."""
ID_BYTES = 2_048
NO_COLLECTION, NOT_LOADED, INVALID, UNAVAILABLE = 100, 101, (6, 1100, 1101), (2, 8, 9)
"""Error codes of Milvus and milvus-lite."""
BATCH = 1_000
TIMEOUT = 30.0
"""Seconds for one call of Milvus."""

TYPES = {
    "string": DataType.VARCHAR,
    "integer": DataType.INT64,
    "float": DataType.DOUBLE,
    "boolean": DataType.BOOL,
}
TOKEN = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{([A-Za-z_]\w*)\}""", re.DOTALL)
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def collection_name(tenant: str, name: str) -> str:
    """The collection's name in Milvus, different for each tenant and name.

    A tenant's id has no capital letters, so they delimit it.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Invalid("a collection name is 1 to 63 of a-z, 0-9 and _, beginning with a letter")
    return f"{prefix(tenant)}{name}"


def prefix(tenant: str) -> str:
    """The prefix of the names of a tenant's collections, and of no other's."""
    return f"T_{tenant.replace('-', 'M')}_N_"


def literal(value: Any) -> str:
    """A value as a literal of Milvus's expression language; Invalid for other types."""
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
        "a filter's value may be a string, number, boolean or list of them, "
        f"not {type(value).__name__}"
    )


def fill_placeholders(filter: str, values: Mapping[str, Any] | None) -> str:
    """Replace the `{name}` placeholders of a filter outside its quotes by literals.

    Milvus has filter templates, but milvus-lite 3.2 ignores them.
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


class VectorStore(TenantStore):
    """See `shoal.contract.stores.Vectors`."""

    __slots__ = ()

    async def ensure(self, name: str, schema: VectorSchema) -> None:
        client, collection = self._client(), collection_name(self._tenant, name)
        columns = _columns(schema)
        async with _translate_errors(name):
            if not await client.has_collection(collection, retry_times=1):
                with _ignore("exist"):  # created concurrently
                    await client.create_collection(
                        collection, schema=_milvus_schema(client, schema), retry_times=1
                    )
            found = await client.describe_collection(collection, retry_times=1)
            actual = {
                f["name"]: (DataType(f["type"]), int(f["params"].get("dim", 0)))
                for f in found["fields"]
            }
            if actual != columns:
                differing = sorted(
                    k for k in actual.keys() | columns.keys() if actual.get(k) != columns.get(k)
                )
                raise Conflict(
                    f"the collection {name} exists with another schema: {', '.join(differing)}"
                )
            there = await client.list_indexes(collection)
            missing = [
                params for column, params in _indexes(client, schema).items() if column not in there
            ]
            with _ignore("exist"):
                await asyncio.gather(
                    *(client.create_index(collection, params, retry_times=1) for params in missing)
                )
            await client.load_collection(collection, retry_times=1)

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> int:
        collection = collection_name(self._tenant, name)
        checked = [_check_row(i, row) for i, row in enumerate(rows)]
        data = list({row["id"]: row for row in checked}.values())  # of one id, the last
        for start in range(0, len(data), BATCH):
            async with _translate_errors(name):
                await self._client().upsert(collection, data[start : start + BATCH], retry_times=1)
        return len(data)

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        collection = collection_name(self._tenant, name)
        gone = 0
        for batch in _batches(ids):
            there = [row["id"] for row in await self.get(name, batch)]
            if there:
                async with _translate_errors(name):
                    await self._client().delete(
                        collection, filter=f"id in {literal(there)}", retry_times=1
                    )
                gone += len(there)
        return gone

    async def get(
        self, name: str, ids: Sequence[str], fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
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
        query = _finite(vector)
        if query is None:
            raise Invalid("the query vector must be a list of finite numbers")
        return await self._search(
            name,
            query.tolist(),
            "vector",
            "COSINE",
            limit,
            fill_placeholders(filter, values),
            fields,
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
        return await self._search(
            name, text, "text_sparse", "BM25", limit, fill_placeholders(filter, values), fields
        )

    async def count(
        self, name: str, *, filter: str = "", values: Mapping[str, Any] | None = None
    ) -> int:
        rows = await self._query(name, fill_placeholders(filter, values), ["count(*)"])
        return int(rows[0]["count(*)"]) if rows else 0

    async def flush(self, name: str) -> None:
        async with _translate_errors(name):
            await self._client().flush(collection_name(self._tenant, name), retry_times=1)

    async def drop(self, name: str) -> None:
        async with _translate_errors(name):
            await self._client().drop_collection(collection_name(self._tenant, name), retry_times=1)

    async def names(self) -> list[str]:
        """The tenant's collections."""
        start = prefix(self._tenant)
        async with _translate_errors(""):
            found = await self._client().list_collections(retry_times=1)
        return sorted(n.removeprefix(start) for n in found if n.startswith(start))

    def _client(self) -> Any:
        uri, token = self._config.vectors, self._config.token
        return shared_client(
            (uri, token), lambda: AsyncMilvusClient(uri=uri, token=token, timeout=3.0)
        )

    async def _search(
        self,
        name: str,
        query: Any,
        column: str,
        metric: str,
        limit: int,
        filter: str,
        fields: Sequence[str],
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
                retry_times=1,
            )

        hits = []
        for hit in (await self._loaded(name, search))[0]:
            score = float(hit["distance"])
            entity = hit.get("entity") or {}
            hits.append(
                Hit(
                    hit["id"],
                    score if math.isfinite(score) else 0.0,
                    {f: entity.get(f) for f in fields},
                )
            )
        return hits

    async def _query(self, name: str, filter: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        async def query() -> Any:
            return await self._client().query(
                collection_name(self._tenant, name),
                filter=filter,
                output_fields=list(fields),
                retry_times=1,
            )

        return [dict(row) for row in await self._loaded(name, query)]

    async def _loaded(self, name: str, call: Any) -> Any:
        """Make a call, and load the collection first where it is not loaded.

        milvus-lite forgets which collections are loaded when it restarts.
        """
        async with _translate_errors(name):
            try:
                return await call()
            except MilvusException as error:
                if error.code != NOT_LOADED:
                    raise
                await self._client().load_collection(
                    collection_name(self._tenant, name), retry_times=1
                )
                return await call()


def _columns(schema: VectorSchema) -> dict[str, tuple[DataType, int]]:
    columns = {"id": (DataType.VARCHAR, 0), "vector": (DataType.FLOAT_VECTOR, schema.dimension)}
    columns |= {name: (TYPES[kind], 0) for name, kind in schema.fields.items()}
    if schema.text:
        columns |= {"text": (DataType.VARCHAR, 0), "text_sparse": (DataType.SPARSE_FLOAT_VECTOR, 0)}
    return columns


def _milvus_schema(client: Any, schema: VectorSchema) -> Any:
    """The schema for pymilvus."""
    for name in schema.fields:
        if name in OWN or not NAME.fullmatch(name):
            raise Invalid(f"{name!r} is not a valid field name")
    made = client.create_schema(auto_id=False, enable_dynamic_field=False)
    made.add_field("id", DataType.VARCHAR, is_primary=True, max_length=ID_BYTES)
    made.add_field("vector", DataType.FLOAT_VECTOR, dim=schema.dimension)
    for name, kind in schema.fields.items():
        made.add_field(
            name,
            TYPES[kind],
            nullable=True,
            **({"max_length": TEXT_BYTES} if kind == "string" else {}),
        )
    if schema.text:
        analyzer = {"tokenizer": "standard"}
        made.add_field(
            "text",
            DataType.VARCHAR,
            max_length=TEXT_BYTES,
            enable_analyzer=True,
            analyzer_params=analyzer,
        )
        made.add_field("text_sparse", DataType.SPARSE_FLOAT_VECTOR)
        made.add_function(Function("bm25", FunctionType.BM25, ["text"], ["text_sparse"]))
    return made


def _indexes(client: Any, schema: VectorSchema) -> dict[str, Any]:
    """Index parameters by column, apart, so that they are created concurrently."""
    params: dict[str, dict[str, Any]] = {"vector": {"index_type": "FLAT", "metric_type": "COSINE"}}
    if schema.text:
        tuning = {"bm25_k1": schema.bm25_k1, "bm25_b": schema.bm25_b}
        params["text_sparse"] = {
            "index_type": "SPARSE_INVERTED_INDEX",
            "metric_type": "BM25",
            "params": tuning,
        }
    made = {}
    for column, given in params.items():
        made[column] = client.prepare_index_params()
        made[column].add_index(field_name=column, **given)
    return made


def _finite(vector: Any) -> "np.ndarray | None":
    """The vector as float32; None when it is not finite numbers."""
    try:
        found = np.asarray(vector, np.float32)
    except (TypeError, ValueError):
        return None
    return found if found.ndim == 1 and np.isfinite(found).all() else None


def _check_row(i: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row to send; Invalid, with the location, when it cannot be stored."""

    def refuse(name: str, message: str) -> Invalid:
        return Invalid(
            f"row {i}: {name} {message}", errors=[{"location": f"{i}.{name}", "message": message}]
        )

    for name, value in row.items():
        if isinstance(value, str):
            try:
                size = len(value.encode())
            except UnicodeEncodeError:
                raise refuse(name, "cannot be stored as text") from None
            limit = ID_BYTES if name == "id" else TEXT_BYTES
            if size > limit:
                raise refuse(name, f"is longer than {limit} bytes")
        elif isinstance(value, float) and not math.isfinite(value):
            raise refuse(name, "is not finite")
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise refuse("id", "must be a non-empty string")
    vector = _finite(row.get("vector"))
    if vector is None:
        raise refuse("vector", "must be a list of finite numbers")
    return {**row, "vector": vector}


def _batches(ids: Sequence[str]) -> Iterable[list[str]]:
    if any(not isinstance(i, str) for i in ids):
        raise Invalid("ids must be strings")
    unique = list(dict.fromkeys(ids))
    return (unique[i : i + BATCH] for i in range(0, len(unique), BATCH))


@asynccontextmanager
async def _translate_errors(name: str) -> AsyncIterator[None]:
    """Raise errors of Milvus as errors of Shoal."""
    try:
        # A timeout given to pymilvus makes it retry until that has passed.
        async with asyncio.timeout(TIMEOUT):
            yield
    except ShoalError:
        raise
    except (grpc.RpcError, ConnectionError, TimeoutError) as error:
        raise Unavailable("Milvus is unavailable", retry_after=1) from error
    except MilvusException as error:
        text = str(error.message)
        if (
            isinstance(error.__cause__, grpc.RpcError)
            or error.code in UNAVAILABLE
            or "connect" in text.lower()
        ):
            raise Unavailable("Milvus is unavailable", retry_after=1) from error
        if error.code == NO_COLLECTION:
            raise NotFound(f"no collection {name}") from error
        if (
            error.code in INVALID
            or "mismatch" in text
            or isinstance(error, ParamError | DataNotMatchException)
        ):
            raise Invalid(f"Milvus refused the request: {text[:300]}") from error
        raise InternalError(f"Milvus: {text[:300]}") from error


@contextmanager
def _ignore(word: str) -> Iterator[None]:
    """Ignore an error of Milvus whose message contains the word."""
    try:
        yield
    except MilvusException as error:
        if word not in str(error.message):
            raise


async def erase(config: StoreConfig, tenant: str) -> int:
    """Drop a tenant's collections; return how many rows they had."""
    store, rows = VectorStore(config, tenant), 0
    for name in await store.names():
        rows += await store.count(name)
        await store.drop(name)
    return rows


async def has_data(config: StoreConfig, tenant: str) -> bool:
    """Whether a tenant has any collections."""
    return bool(await VectorStore(config, tenant).names())
