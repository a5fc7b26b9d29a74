"""Data sets: entity rows for a join of any size, in the lake, and its result.

The rows are uploaded in pieces, and the result is fetched in pieces.
"""

import re
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shoal import Client, Invalid

from .offline import ParquetFiles

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
ENTITY_TYPE = "entity_type"
"""The column of the entity rows that has their entity type."""

ROWS, JOINED = "features_asked_", "features_joined_"
"""How the names of the tables with entity rows, and with results, begin."""


class Dataset:
    """A named set of entity rows, and the result of the last join of it.

    Raises:
        ValueError: When the name is invalid.
    """

    def __init__(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(
                "a data set's name is 1 to 40 of a-z, 0-9 and _, beginning with a letter,"
                f" not {name!r:.60}"
            )
        self.name = name
        self._rows, self._result = ROWS + name, JOINED + name

    async def add_rows(self, lake: Any, rows: pa.Table) -> int:
        """Add entity rows (see `historical_query.ENTITY_ROWS`); returns how many.

        The entity type is in their schema's metadata, as `entity`.
        """
        entity = (rows.schema.metadata or {}).get(b"entity", b"").decode()
        rows = rows.append_column(ENTITY_TYPE, pa.array([entity] * rows.num_rows, pa.string()))
        await lake.append(self._rows, rows, datetime.now(UTC).date())
        return int(rows.num_rows)

    async def row_files(self, lake: Any) -> ParquetFiles:
        """The files of the entity rows."""
        return ParquetFiles(await lake.files(self._rows), lake.filesystem())

    async def entity_type(self, lake: Any) -> str:
        """The entity type that the rows were uploaded for; empty where unknown.

        Raises:
            Invalid: When the rows are of several types.
        """
        rows = await lake.read(self._rows, columns=[ENTITY_TYPE])
        types = set() if rows is None else set(rows[ENTITY_TYPE].unique().to_pylist())
        if len(types) > 1:
            names = ", ".join(sorted(types))
            raise Invalid(f"the data set {self.name!r} has rows of several entity types: {names}")
        return types.pop() if types else ""

    async def add_result(self, lake: Any, rows: pa.Table) -> int:
        """Add a piece of the result; returns how many rows."""
        if rows.num_rows:
            await lake.append(self._result, rows, datetime.now(UTC).date())
        return int(rows.num_rows)

    async def result_files(self, lake: Any) -> ParquetFiles:
        """The files of the result."""
        return ParquetFiles(await lake.files(self._result), lake.filesystem())

    async def delete_result(self, lake: Any) -> None:
        """Remove the result."""
        await lake.delete(self._result)

    async def delete(self, lake: Any) -> int:
        """Remove the rows and the result; returns how many files."""
        return int(await lake.delete(self._rows)) + int(await lake.delete(self._result))


def as_ray(url: str, key: str, name: str) -> Any:
    """The result of a data set as a `ray.data.Dataset`, to train on your own cluster.

    Each part is fetched over HTTP by the process that works on it.

    Args:
        url: Where Shoal is.
        key: An API key of the tenant.
        name: The data set.
    """
    from ray.data import from_items

    with Client(url, key) as client:
        parts = client.features.download(name=name)["parts"]
    numbers = from_items([{"part": k} for k in range(parts)], override_num_blocks=max(parts, 1))
    return numbers.map_batches(
        lambda batch: fetch_part(url, key, name, int(batch["part"][0])), batch_size=1
    )


def fetch_part(url: str, key: str, name: str, part: int) -> pa.Table:
    """Fetch one part of the result of a data set."""
    with Client(url, key) as client:
        return pq.read_table(pa.BufferReader(client.features.download(name=name, part=part)))
