"""The vectors store: rows with vectors, tokens and fields, searched within filters."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FieldKind = Literal["string", "strings", "integer", "float", "boolean", "json", "tokens", "stored"]
"""What a field holds, and what may be asked of it.

- `string`, `integer`, `float`, `boolean`: one value; filters, facets and sorting.
- `strings`: a list of texts; a condition holds where it holds for one of them. Facets.
- `json`: an object; conditions and facets name a path below it, such as
  `metadata.size`. Of lists, the values count as with `strings`, but have no order:
  `Between` is about single values.
- `tokens`: text that `matching` searches: tokens separated by single spaces, taken as
  they are. A condition on it is one on its tokens, as with `strings`.
- `stored`: a text that is only returned.

Any field may be None.
"""

MAX_ID_BYTES = 2_048
MAX_VECTORS = 256
"""Vectors of one row."""
MAX_TEXT_BYTES = 65_535
"""UTF-8 bytes of one text of a row."""
MAX_LIMIT = 10_000
"""Rows of one answer."""
MAX_CONDITIONS = 64
"""Conditions of one filter."""
MAX_VALUES = 16_384
"""Values of one condition."""
MAX_TOKENS = 4_096
"""Tokens of one search, those of tuples included."""


@dataclass(frozen=True, slots=True)
class VectorSchema:
    """The columns of a collection.

    Besides these fields each row has an `id`, `vectors` and a `version`.

    Args:
        dimension: The length of the vectors, which are compared by cosine.
        fields: Each field's kind by its name (1 to 63 of a-z, 0-9 and _, beginning with
            a letter).
    """

    dimension: int
    fields: Mapping[str, FieldKind] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Equals:
    """The field has this value, or (of a list) contains it; None is no value."""

    field: str
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field has, or contains, one of these values; none of them is no row."""

    field: str
    values: Collection[str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Between:
    """The field is a number, or a text, within bounds; None is no bound."""

    field: str
    least: str | int | float | None = None
    most: str | int | float | None = None
    above: str | int | float | None = None
    below: str | int | float | None = None


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold."""

    condition: "Equals | AnyOf | Between"


Condition = Equals | AnyOf | Between | Not
"""One of the conditions of a filter. A filter is a sequence of them; all must hold."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A row found by a search.

    Args:
        id: The row's id.
        score: From `nearest`, the cosine in [-1, 1] of the row's most similar vector;
            from `matching`, a score ≥ 0 by which rows may be ordered.
        fields: The values of the fields that were asked for, maybe of others too. Do
            not change them: other searches may find the same objects.
    """

    id: str
    score: float
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a listing, and where it goes on: None after the last.

    Do not change the values of rows: other answers may have the same objects.
    """

    rows: list[dict[str, Any]]
    next: str | None


class Vectors(Protocol):
    """Collections of rows with vectors; one per tenant and name.

    A collection's name is 1 to 63 of a-z, 0-9 and _, beginning with a letter.

    What has been written is on disk, and every search anywhere that begins later finds
    it. A `filter` is applied before a search, never after. The fields that are asked
    for may include `vectors` (float32 of shape (n, dimension)) and `version`.

    Rows with a version know what came before: whatever the order in which they arrive
    and the process they come from, of several writes and retirements of one id the one
    with the greatest version stays, and the same one twice is once. Versions are
    compared as texts. A row without one replaces whatever there is.

    Raises:
        NotFound: The collection does not exist.
        Invalid: A filter, name or row is invalid; `errors` locates the fault in a row.
        Unavailable: The store is. A write may have been done; do it again.
    """

    async def ensure(self, name: str, schema: VectorSchema) -> None:
        """Create the collection if it does not exist.

        Raises:
            Conflict: It exists with another schema.
        """

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Insert or replace whole rows, by id.

        Args:
            name: The collection.
            rows: Each with an `id` (at most 2,048 bytes), `vectors` (float32 of shape
                (n, dimension), n from 0 to 256, none of them zero; without any,
                `nearest` does not find the row), the schema's fields, and a `version`
                (at most 255 bytes) or none. Of several rows with the same id, the
                greatest version counts; of equal ones, the last.

        Returns:
            The ids that were not written, because the store has a version as great or
            greater.
        """

    async def retire(self, name: str, versions: Mapping[str, str]) -> list[str]:
        """Delete rows, and remember the version of each deletion, by id.

        Until `forget` a row that is written with a smaller version stays away. This
        does not depend on whether the row is there.

        Returns:
            The ids that were not retired, because the store has a greater version.
        """

    async def delete(self, name: str, ids: Sequence[str]) -> None:
        """Delete rows and what is known of their versions."""

    async def forget(self, name: str, before: str) -> int:
        """Forget the retirements with a smaller version; return how many."""

    async def get(
        self, name: str, ids: Sequence[str], fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Get rows by id.

        Returns:
            The rows that exist, in the order of `ids`, each with its `id` and the
            `fields`.
        """

    async def versions(self, name: str, ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
        """By id, the version of each row, and whether it was retired."""

    async def nearest(
        self,
        name: str,
        vector: Sequence[float],
        *,
        limit: int,
        filter: Sequence[Condition] = (),
        fields: Sequence[str] = (),
    ) -> list[Hit]:
        """Find the rows with the most similar vectors.

        Exact in collections of up to 20,000 rows. Beyond, an index is used, whose
        recall at 20 is about 1 up to 300,000 rows and .99 above (.97 at ten million),
        where it is exact if at most 25,000 rows pass the filter.

        Args:
            name: The collection.
            vector: Finite numbers, as many as the schema's `dimension`, not all zero.
            limit: The largest number of hits.
            filter: Restricts the rows that are searched.
            fields: The fields to return with each hit.

        Returns:
            The hits, most similar first; of equally similar ones, the smallest id.
        """

    async def matching(
        self,
        name: str,
        field: str,
        tokens: Sequence[str | tuple[str, ...]],
        *,
        limit: int,
        filter: Sequence[Condition] = (),
        fields: Sequence[str] = (),
    ) -> list[Hit]:
        """Find the rows whose field of kind `tokens` has some of these tokens.

        The score is the backend's BM25, whose statistics are those of all rows: use it
        to choose candidates, not to show.

        Args:
            name: The collection.
            field: The field.
            tokens: What to look for: tokens, and tuples of tokens that a row must have
                together.
            limit: The largest number of hits.
            filter: Restricts the rows that are searched.
            fields: The fields to return with each hit.

        Returns:
            The hits, highest score first. Rows with none of `tokens` are not hits.
        """

    async def count(self, name: str, *, filter: Sequence[Condition] = ()) -> int:
        """The number of rows, or of those that pass a filter; exact."""

    async def facet(
        self, name: str, field: str, *, limit: int, filter: Sequence[Condition] = ()
    ) -> list[tuple[str | int | float | bool, int]]:
        """The most frequent values of a field, each with the number of its rows.

        Exact. The most frequent come first; of equally frequent ones, the smallest.
        """

    async def rows(
        self,
        name: str,
        *,
        limit: int,
        after: str | None = None,
        sort: str = "id",
        descending: bool = False,
        filter: Sequence[Condition] = (),
        fields: Sequence[str] = (),
    ) -> Page:
        """List rows by the value of a field, and by id where values are equal.

        Args:
            name: The collection.
            limit: The largest number of rows.
            after: A former page's `next`.
            sort: `id`, or a field with one value each.
            descending: Whether the greatest value comes first. Rows without a value
                come last in both directions.
            filter: Restricts the rows.
            fields: The fields to return.
        """

    async def optimize(self, name: str) -> None:
        """Make searches fast again after many writes; the store does so by itself."""

    async def drop(self, name: str) -> None:
        """Delete the collection."""

    async def names(self) -> list[str]:
        """The tenant's collections."""
