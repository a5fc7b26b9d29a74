"""Entity rows that are too many for one request: uploaded to the tenant's lake in
pieces, and the answer fetched in pieces.
"""

import re
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shoal import Client, Invalid

from .offline import Files

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Dataset:
    """A named set of entity rows and the answer to the last join of it. ValueError for
    a name that is none.
    """

    def __init__(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(
                f"a data set's name is 1 to 40 of a-z, 0-9 and _, beginning with a letter, not {name!r:.60}"
            )
        self.name = name
        self._asked, self._answer = f"features_asked_{name}", f"features_joined_{name}"

    async def ask(self, lake: Any, rows: pa.Table) -> int:
        """Add entity rows (see `history.ASKED`)."""
        await lake.append(self._asked, rows, datetime.now(UTC).date())
        return rows.num_rows

    async def asked(self, lake: Any) -> Files:
        return Files(await lake.files(self._asked), lake.filesystem())

    async def entity(self, lake: Any) -> str:
        """The entity type that the rows were uploaded for (see `rows.asked`), or
        nothing where they do not say. Invalid where they are of several.
        """
        files = await self.asked(lake)
        said = {
            (pq.read_schema(p, filesystem=files.filesystem).metadata or {})
            .get(b"entity", b"")
            .decode()
            for p in files.paths
        }
        if len(said) > 1:
            raise Invalid(
                f"the rows of the data set {self.name!r} are of several entity types: {', '.join(sorted(said))}"
            )
        return said.pop() if said else ""

    async def answer(self, lake: Any, rows: pa.Table) -> int:
        """Add a piece of the answer."""
        if rows.num_rows:
            await lake.append(self._answer, rows, datetime.now(UTC).date())
        return rows.num_rows

    async def answered(self, lake: Any) -> Files:
        return Files(await lake.files(self._answer), lake.filesystem())

    async def forget_answer(self, lake: Any) -> None:
        await lake.delete(self._answer)

    async def forget(self, lake: Any) -> int:
        """Remove the rows and the answer; how many files went."""
        return int(await lake.delete(self._asked)) + int(await lake.delete(self._answer))


def as_ray(url: str, key: str, name: str) -> Any:
    """The answer of a data set as a `ray.data.Dataset`, for training on a Ray cluster
    of one's own: each part is fetched over HTTP, with the key, by the process that
    works on it.
    """
    from ray.data import from_items

    with Client(url, key) as client:
        parts = client.features.download(name=name)["parts"]
    numbers = from_items([{"part": k} for k in range(parts)], override_num_blocks=max(parts, 1))
    return numbers.map_batches(
        lambda batch: fetched(url, key, name, int(batch["part"][0])), batch_size=1
    )


def fetched(url: str, key: str, name: str, part: int) -> pa.Table:
    """One part of the answer of a data set."""
    with Client(url, key) as client:
        return pq.read_table(pa.BufferReader(client.features.download(name=name, part=part)))
