"""The four doors to data, as a plugin sees them. Each is bound to one tenant when it is
made: there is no tenant argument.

Every method is a coroutine, so routes never block; a batch job's function may use
`asyncio.run`. Doors can be pickled and connect lazily, so they can travel into a Ray
Data task. When a store is away they raise `Unavailable`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from .events import Event

if TYPE_CHECKING:
    import pyarrow as pa

Key = str | tuple[str, ...]
"""A key within the tenant: `("user", "123")` is the Redis key `acme:user:123`. Parts
are percent-encoded where needed. With the first part `"{}"`, all the parts are one hash
tag and what follows the second `"{}"` is outside it: `("{}", "user", "123", "{}",
"clicks")` is `{acme:user:123}:clicks` (same Cluster slot for all companions of one
entity).
"""


class Online(Protocol):
    """Redis, within the tenant's keys.

    Single-key commands are methods named as in redis-py, taking a `Key` first: get set
    getdel getex setnx delete unlink exists expire pexpire expireat persist ttl pttl
    type strlen append incr incrby incrbyfloat decr decrby · hget hmget hgetall hset
    hdel hlen hkeys hvals hexists hincrby hincrbyfloat hsetnx hrandfield hscan_iter ·
    zadd zrem zrange zrangebyscore zrevrange zrevrangebyscore zremrangebyscore
    zremrangebyrank zcard zcount zscore zmscore zincrby zrank zrevrank zpopmin zpopmax
    zscan_iter · sadd srem smembers scard sismember smismember spop srandmember
    sscan_iter · lpush rpush lpop rpop lrange ltrim llen lindex lset lrem · pfadd
    pfcount. Values come back as bytes; options are redis-py's. A key with an empty
    part, or one that is no text, is Invalid. What is written is on the disk a second
    later at the most: append an event where the caller must be sure before that.
    """

    def key(self, key: Key) -> str: ...
    async def execute(self, command: str, key: Key, *args: Any, **options: Any) -> Any:
        """A command by its name."""

    def pipeline(self) -> Any:
        """A transaction-less pipeline: call the same methods on it (not awaited),
        `queue(command, key, …)` or `eval(script, keys, args)`, then `await
        pipe.execute()` for the results in order.
        """

    async def eval(self, script: str, keys: Sequence[Key], args: Sequence[Any] = ()) -> Any:
        """Run a Lua script (cached by its SHA-1) atomically over keys of one slot. It
        must touch no key that is not among `keys`.
        """

    def scan(self, prefix: Key) -> AsyncIterator[str]:
        """Keys below a prefix, each once, without the tenant, still encoded:
        `user:123`, `{user:123}:clicks` (for the prefix `("{}", "user")`). Walks the
        whole keyspace: not for a hot path.
        """

    def __getattr__(self, command: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class VectorSchema:
    """The columns of one collection: an `id` (string key), a dense `vector` of
    `dimension` (cosine), scalar `fields` that filters may use (None where a row lacks
    one), and optionally one field `text` that BM25 searches (already stemmed; tokens
    are runs of letters and digits). A text holds 65,535 bytes at the most, an id 2,048.
    """

    dimension: int
    fields: Mapping[str, Literal["string", "integer", "float", "boolean"]] = field(
        default_factory=dict
    )
    text: bool = False
    bm25_k1: float = 0.9
    bm25_b: float = 0.4


@dataclass(frozen=True, slots=True)
class Hit:
    """`score` is the cosine in [-1, 1] for `nearest` and the BM25 score (≥ 0) for
    `matching`.
    """

    id: str
    score: float
    fields: Mapping[str, Any]


class Vectors(Protocol):
    """Milvus, a collection per tenant and name (1 to 63 of a-z, 0-9 and _). `filter` is
    a Milvus boolean expression with `{name}` placeholders, filled from `values` as
    escaped literals (never format a value into it yourself); it is applied before the
    search. NotFound where there is no such collection; Invalid for a filter or a row
    that cannot be, with the row's location.
    """

    async def ensure(self, name: str, schema: VectorSchema) -> None:
        """Make the collection if it is not there (half a second). Conflict when it
        exists with another schema.
        """

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write whole rows; of one id twice, the last. How many ids. They are found at
        once, and on the disk.
        """

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """How many of them were there."""

    async def get(
        self, name: str, ids: Sequence[str], fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Those that are there, in the order of `ids`, each with its `id` and the
        `fields`.
        """

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
        """By cosine, best first; exact."""

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
        """By BM25, best first; rows with none of the words are no hits."""

    async def count(
        self, name: str, *, filter: str = "", values: Mapping[str, Any] | None = None
    ) -> int: ...
    async def flush(self, name: str) -> None:
        """Lay out rows written so far for fast searching. The server does so by itself,
        soon after the writing ends.
        """

    async def drop(self, name: str) -> None: ...


class Lake(Protocol):
    """Parquet, by tenant and date:
    `<lake>/<tenant>/<table>/date=YYYY-MM-DD/<part>.parquet`. Writes are atomic: a
    reader sees a whole file or none.
    """

    async def append(self, table: str, rows: "pa.Table", day: date) -> str:
        """Add one file to a day; its path is returned."""

    async def replace(self, table: str, rows: "pa.Table", day: date) -> str:
        """Make `rows` all that the day holds (so that re-running a day changes
        nothing).
        """

    async def read(
        self,
        table: str,
        start: date | None = None,
        end: date | None = None,
        columns: Sequence[str] | None = None,
    ) -> "pa.Table | None":
        """All rows from `start` to `end`, both days inclusive, with the column `date`
        (string); None when there are none. Files of different columns are joined, with
        nulls where one lacks a column.
        """

    async def files(
        self, table: str, start: date | None = None, end: date | None = None
    ) -> list[str]:
        """The files of those days, oldest first, readable with `filesystem()` (for
        DuckDB, Polars or Ray Data).
        """

    async def days(self, table: str) -> list[date]: ...
    async def tables(self) -> list[str]: ...
    async def delete(self, table: str, before: date | None = None) -> int:
        """Drop whole days before a date (all of them when None); how many files went."""

    async def compact(self, table: str) -> int:
        """Merge the small files of each day; how many went."""

    def filesystem(self) -> Any:
        """The pyarrow filesystem that `files` are on."""


class Events(Protocol):
    """The tenant's event log: ordered, replayable, archived to the lake's table
    `events`.
    """

    async def append(self, events: Sequence[Event]) -> list[str]:
        """Accept events durably; the log's own positions are returned, in order.
        Invalid when an event's data is no JSON (NaN is none). After `Unavailable` they
        may be there or not: append them again with the same ids.
        """

    def read(
        self, after: str = "0", *, types: Sequence[str] = ()
    ) -> AsyncIterator[tuple[str, Event]]:
        """(position, event) after a position, oldest first, from what the log still
        holds; ends at the log's end.
        """

    async def length(self) -> int: ...


@runtime_checkable
class Stores(Protocol):
    """The four doors of one tenant."""

    @property
    def online(self) -> Online: ...
    @property
    def vectors(self) -> Vectors: ...
    @property
    def lake(self) -> Lake: ...
    @property
    def events(self) -> Events: ...


__all__ = ["Events", "Hit", "Key", "Lake", "Online", "Stores", "VectorSchema", "Vectors"]
