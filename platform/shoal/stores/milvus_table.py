"""One tenant's entities in one collection of Milvus.

Here alone expressions are sent: each is joined to the condition on the tenant.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .configuration import StoreConfig
from .milvus_client import WRITE_SECONDS, call_loaded, last_write, milvus_client
from .milvus_faults import translate_errors
from .milvus_filters import literal, one_of
from .milvus_places import Place, Where
from .milvus_rows import tombstone
from .milvus_schema import own_name, partition_of, shared_name

WINDOW = 16_384
"""Entities of one answer of Milvus."""
PAGE = 2_000
"""Entities that a scan asks for at once."""
NOBODY = "@"
"""No tenant's id."""
KEYS = 2**32
"""Keys begin with so many different eight digits."""
MOST_BYTES = 8 << 20
"""Of one write."""


@dataclass(frozen=True, slots=True)
class MilvusTable:
    """A tenant's entities.

    Args:
        config: Where Milvus is.
        tenant: The tenant.
        name: The tenant's name of the collection.
        collection: The collection in Milvus.
        partition: The tenant's partition, where it is shared.
        since: The time of the last write that reads must see; 0 for now.
        mark: An entity of no tenant, which is written after a deletion: Milvus 2.3
            tells the time of an upsert only.
    """

    config: StoreConfig
    tenant: str
    name: str
    collection: str
    partition: str | None
    since: int
    mark: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls, config: StoreConfig, tenant: str, name: str, place: Place, where: Where, since: int
    ) -> "MilvusTable":
        """The table at one of the two places where a collection may be."""
        mark = tombstone(place.schema, NOBODY, "", "")
        if where == "own":
            return cls(config, tenant, name, own_name(tenant, name), None, since, mark)
        collection = shared_name(name, place.schema)
        return cls(config, tenant, name, collection, partition_of(tenant), since, mark)

    async def query(
        self, expression: str, columns: Sequence[str], limit: int = WINDOW
    ) -> list[dict[str, Any]]:
        """The entities for which an expression holds, in any order."""
        found = await self._query(expression, list(columns), limit=limit)
        return [dict(entity) for entity in found]

    async def entities(self, keys: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        """All entities of rows, by the digests of their keys."""
        found = await self.query(one_of("row", keys), columns)
        if len(found) < WINDOW or len(keys) == 1:
            return found
        half = len(keys) // 2  # Milvus has cut it off
        first = await self.entities(keys[:half], columns)
        return first + await self.entities(keys[half:], columns)

    async def count(self, expression: str) -> int:
        """The number of entities for which an expression holds."""
        found = await self._query(expression, ["count(*)"])
        return int(found[0]["count(*)"]) if found else 0

    async def search(
        self, vector: Any, expression: str, columns: Sequence[str], limit: int
    ) -> list[dict[str, Any]]:
        """The entities with the most similar vectors, each with its `distance`."""
        client = milvus_client(self.config)

        async def search() -> Any:
            return await client.search(
                self.collection,
                [vector],
                anns_field="vector",
                filter=self._scoped(expression),
                limit=limit,
                output_fields=list(columns),
                search_params={"metric_type": "COSINE", "params": {"ef": max(256, limit)}},
                **self._options(),
            )

        found = (await call_loaded(client, self.collection, self.name, search))[0]
        return [{**hit["entity"], "distance": float(hit["distance"])} for hit in found]

    async def pages(
        self, expression: str, columns: Sequence[str], page: int = PAGE
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """All entities for which an expression holds, in pages.

        A page is a range of keys, which are digests: so many of them are in each.
        """
        parts = max(1, await self.count(expression) // page)
        bounds = [KEYS * i // parts for i in range(parts + 1)]
        ranges = list(pairwise(bounds))
        while ranges:
            low, high = ranges.pop()
            within = f"pk >= {literal(_bound(low))} and pk < {literal(_bound(high))}"
            found = await self.query(
                f"({expression}) and {within}" if expression else within, columns
            )
            if len(found) < WINDOW or high - low == 1:
                yield found
            else:  # Milvus has cut it off
                ranges += [(low, (low + high) // 2), ((low + high) // 2, high)]

    async def upsert(self, entities: Sequence[dict[str, Any]]) -> int:
        """Write entities in one step for readers; return the time of it."""
        async with translate_errors(self.name, WRITE_SECONDS):
            await milvus_client(self.config).upsert(
                self.collection,
                list(entities),
                partition_name=self.partition,
                retry_times=1,
            )
        return self.last_write

    async def delete(self, keys: Collection[str]) -> int:
        """Delete entities by key; return the time of it.

        Only ever by key: with other conditions Milvus 2.3 reads first which entities
        there are, and misses those that were just written.
        """
        batch = sorted(keys)
        for start in range(0, len(batch), PAGE):
            async with translate_errors(self.name, WRITE_SECONDS):
                await milvus_client(self.config).delete(
                    self.collection,
                    filter=one_of("pk", batch[start : start + PAGE]),
                    partition_name=self.partition,
                    retry_times=1,
                )
        return await self.upsert([dict(self.mark)]) if self.mark else 0

    async def drop(self) -> None:
        """Drop the collection; the tenant must be alone in it."""
        assert self.partition is None
        async with translate_errors(self.name, WRITE_SECONDS):
            await milvus_client(self.config).drop_collection(self.collection, retry_times=1)

    async def _query(self, expression: str, columns: list[str], **limit: int) -> Any:
        client = milvus_client(self.config)

        async def query() -> Any:
            return await client.query(
                self.collection,
                filter=self._scoped(expression),
                output_fields=columns,
                **limit,
                **self._options(),
            )

        return await call_loaded(client, self.collection, self.name, query)

    def _scoped(self, expression: str) -> str:
        own = f"tenant == {literal(self.tenant)}"
        return f"{own} and ({expression})" if expression else own

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"consistency_level": "Strong", "retry_times": 1}
        if self.since:
            options |= {"consistency_level": "Customized", "guarantee_timestamp": self.since}
        if self.partition:
            options["partition_names"] = [self.partition]
        return options

    @property
    def last_write(self) -> int:
        """The time of this process's last write to the collection; 0 without one."""
        return last_write(self.config, self.collection)


def _bound(number: int) -> str:
    return f"{number:08x}" if number < KEYS else "g"


def batches(entities: Sequence[list[dict[str, Any]]], dimension: int) -> list[list[dict[str, Any]]]:
    """Rows' entities in writes of at most some megabytes, none of them torn apart."""
    found: list[list[dict[str, Any]]] = []
    size = MOST_BYTES + 1
    for row in entities:
        own = sum(
            4 * dimension + sum(len(v) if isinstance(v, str) else 64 for v in entity.values())
            for entity in row
        )
        if size + own > MOST_BYTES:
            found.append([])
            size = 0
        found[-1] += row
        size += own
    return found
