"""Milvus: a collection per tenant and name, searched exactly and by BM25."""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymilvus import AsyncMilvusClient, DataType
from pymilvus.exceptions import MilvusException

from shoal.contract.errors import Conflict, Invalid
from shoal.contract.stores import Hit, VectorSchema

from . import vector_collections
from .configuration import StoreConfig
from .connections import shared_client
from .milvus_errors import NOT_LOADED, ignore_error, translate_errors
from .tenant_store import TenantStore
from .vector_collections import check_row, collection_name, finite_vector, name_prefix
from .vector_filters import fill_placeholders, literal

BATCH = 1_000


class VectorStore(TenantStore):
    """See `shoal.contract.stores.Vectors`."""

    __slots__ = ()

    async def ensure(self, name: str, schema: VectorSchema) -> None:
        client, collection = self._client(), collection_name(self._tenant, name)
        columns = vector_collections.columns(schema)
        async with translate_errors(name):
            if not await client.has_collection(collection, retry_times=1):
                with ignore_error("exist"):  # created concurrently
                    await client.create_collection(
                        collection,
                        schema=vector_collections.milvus_schema(client, schema),
                        retry_times=1,
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
            indexed = await client.list_indexes(collection)
            missing = [
                params
                for column, params in vector_collections.indexes(client, schema).items()
                if column not in indexed
            ]
            with ignore_error("exist"):
                await asyncio.gather(
                    *(client.create_index(collection, params, retry_times=1) for params in missing)
                )
            await client.load_collection(collection, retry_times=1)

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> int:
        collection = collection_name(self._tenant, name)
        checked = [check_row(i, row) for i, row in enumerate(rows)]
        data = list({row["id"]: row for row in checked}.values())  # of one id, the last
        for start in range(0, len(data), BATCH):
            async with translate_errors(name):
                await self._client().upsert(collection, data[start : start + BATCH], retry_times=1)
        return len(data)

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        collection = collection_name(self._tenant, name)
        gone = 0
        for batch in _batches(ids):
            there = [row["id"] for row in await self.get(name, batch)]
            if there:
                async with translate_errors(name):
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
        query = finite_vector(vector)
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
        async with translate_errors(name):
            await self._client().flush(collection_name(self._tenant, name), retry_times=1)

    async def drop(self, name: str) -> None:
        async with translate_errors(name):
            await self._client().drop_collection(collection_name(self._tenant, name), retry_times=1)

    async def names(self) -> list[str]:
        """The tenant's collections."""
        start = name_prefix(self._tenant)
        async with translate_errors(""):
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
        async with translate_errors(name):
            try:
                return await call()
            except MilvusException as error:
                if error.code != NOT_LOADED:
                    raise
                await self._client().load_collection(
                    collection_name(self._tenant, name), retry_times=1
                )
                return await call()


def _batches(ids: Sequence[str]) -> Iterable[list[str]]:
    if any(not isinstance(i, str) for i in ids):
        raise Invalid("ids must be strings")
    unique = list(dict.fromkeys(ids))
    return (unique[i : i + BATCH] for i in range(0, len(unique), BATCH))


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
