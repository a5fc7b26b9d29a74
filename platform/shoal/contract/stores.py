"""The four stores of one tenant, as a plugin sees them.

A store is bound to its tenant when it is created, so no method takes a tenant; the
online store is bound to its capability as well. Nearly every method is a coroutine, so
routes never block; a batch job's function may use `asyncio.run`. Stores connect on
first use and can be pickled, so they can be passed to a Ray Data task.

While its server is unavailable, a store raises `Unavailable`.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .events import Event
from .vectors import Vectors

if TYPE_CHECKING:
    import pyarrow as pa

Key = str | tuple[str, ...]
"""A key of the capability: `("user", "123")` is `acme:notes:user:123` in Redis.

Parts are percent-encoded where needed. If the first part is `"{}"`, the parts up to a
second `"{}"` form one hash tag: `("{}", "user", "123", "{}", "clicks")` is
`{acme:notes:user:123}:clicks`. All keys with the same hash tag are in the same slot of
a Redis Cluster.
"""


class Online(Protocol):
    """Redis, within the keys that this capability has of this tenant.

    No other capability reads or writes them: ask it by `ctx.capability(name)`.

    Single-key commands are methods named as in redis-py. They take a `Key` first and
    redis-py's options after it, and return values as bytes:

    - strings and keys: get set getdel getex setnx delete unlink exists expire pexpire
      expireat persist ttl pttl type strlen append incr incrby incrbyfloat decr decrby
    - hashes: hget hmget hgetall hset hdel hlen hkeys hvals hexists hincrby
      hincrbyfloat hsetnx hrandfield hscan_iter
    - sorted sets: zadd zrem zrange zrangebyscore zrevrange zrevrangebyscore
      zremrangebyscore zremrangebyrank zcard zcount zscore zmscore zincrby zrank
      zrevrank zpopmin zpopmax zscan_iter
    - sets: sadd srem smembers scard sismember smismember spop srandmember sscan_iter
    - lists: lpush rpush lpop rpop lrange ltrim llen lindex lset lrem
    - HyperLogLog: pfadd pfcount

    Writes reach the disk within one second. Append an event where an acknowledged
    write must never be lost.

    Raises:
        Invalid: A part of a key is empty or is not text.
        Unavailable: Redis is unavailable.
    """

    def key(self, key: Key) -> str:
        """The full Redis key, including the tenant and the capability."""

    async def execute(self, command: str, key: Key, *args: Any, **options: Any) -> Any:
        """Call a command by its name.

        Raises:
            AttributeError: The command is not among those listed above.
        """

    def pipeline(self) -> Any:
        """A pipeline that sends several commands at once, without a transaction.

        Call the same methods on it without awaiting them, or `queue(command, key, …)`
        or `eval(script, keys, args)`. `await pipe.execute()` returns the results in
        order.
        """

    async def eval(self, script: str, keys: Sequence[Key], args: Sequence[Any] = ()) -> Any:
        """Run a Lua script atomically; it is cached by its SHA-1.

        Args:
            script: The source. It must access no keys other than `keys`.
            keys: One key or more, all in one slot.
            args: The script's ARGV.

        Raises:
            Invalid: There is no key.
        """

    def scan(self, prefix: Key) -> AsyncIterator[str]:
        """Iterate over the keys below a prefix, each once, in no particular order.

        The keys come without tenant and capability, still encoded: `user:123`, or
        `{user:123}:clicks` for the prefix `("{}", "user")`. This walks the whole
        keyspace: do not use it on a hot path.
        """

    def __getattr__(self, command: str) -> Any: ...


class Lake(Protocol):
    """Delta tables, partitioned by date.

    A table is at `<lake>/<tenant>/<table>`, and anything that reads Delta Lake reads
    it. A write is one commit: a reader sees all of it or nothing. A table's name is 1
    to 63 of a-z, 0-9 and _, beginning with a letter.

    A table's columns are those of all rows that were added to it; a missing value is
    null. Integers and floats fit each other where nothing is lost. Unsigned integers,
    dictionaries and times of other zones are stored as int64, as their values and in
    UTC; pyarrow's types of times of day, durations and intervals are not stored.

    Raises:
        Invalid: A table's name is invalid; a write is to `events`, the archive of the
            event log; rows to write have a column `date`, a column of another type than
            in the table, or one whose name differs only in case.
        Unavailable: The disk or object store is unavailable.
    """

    async def append(self, table: str, rows: "pa.Table", day: date) -> None:
        """Add rows to a day."""

    async def replace(self, table: str, rows: "pa.Table", day: date) -> None:
        """Replace all of a day's rows.

        A job that writes its results this way can be run again for the same day.
        """

    async def read(
        self,
        table: str,
        start: date | None = None,
        end: date | None = None,
        columns: Sequence[str] | None = None,
    ) -> "pa.Table | None":
        """Read the rows of a range of days.

        Args:
            table: The table.
            start: The first day; None for the earliest.
            end: The last day, inclusive; None for the latest.
            columns: The columns to read; None for all.

        Returns:
            The rows with a column `date` (string), or None if there are none.
        """

    async def files(
        self, table: str, start: date | None = None, end: date | None = None
    ) -> list[str]:
        """The paths of a range of days' Parquet files, oldest first.

        Read them with `filesystem()`, in DuckDB or Ray Data for example. They have not
        the column `date`, nor columns that were added after them. A file that is
        replaced stays for an hour.
        """

    async def days(self, table: str) -> list[date]:
        """The days that have files, oldest first."""

    async def tables(self) -> list[str]:
        """The names of the tables that have rows, sorted."""

    async def delete(self, table: str, before: date | None = None) -> int:
        """Delete the days before a date, or all of them.

        Returns:
            The number of deleted files.
        """

    async def rewrite(
        self,
        table: str,
        change: Callable[["pa.RecordBatch"], "pa.RecordBatch | None"],
        start: date | None = None,
        end: date | None = None,
    ) -> int:
        """Change or remove rows, and delete the files that had them at once.

        Rows that are added to a day meanwhile are kept.

        Args:
            table: The table.
            change: Gives what takes the place of a batch of rows, with their columns;
                None where nothing changes. It runs in a thread, and may be called again
                for the same rows.
            start: The first day; None for the earliest.
            end: The last day, inclusive; None for the latest.

        Returns:
            How many rows fewer there are.
        """

    async def compact(self, table: str | None = None) -> int:
        """Merge the small files of each day, and delete those replaced an hour ago.

        Args:
            table: The table; None for all.

        Returns:
            The number of files that were deleted.
        """

    def filesystem(self) -> Any:
        """The pyarrow filesystem on which `files` can be read."""


class Events(Protocol):
    """The tenant's event log: ordered, replayable, archived to the lake's `events`."""

    async def append(self, events: Sequence[Event]) -> list[str]:
        """Append events durably.

        Returns:
            The events' positions in the log, in order.

        Raises:
            Invalid: An event's data is not JSON (NaN is not).
            Unavailable: The log is unavailable. The events may have been appended
                nevertheless: append them again with the same ids.
        """

    def read(
        self, after: str = "0", *, types: Sequence[str] = ()
    ) -> AsyncIterator[tuple[str, Event]]:
        """Iterate over the events that the log retains, oldest first.

        Ends at the current end of the log.

        Args:
            after: The position to start after.
            types: The event types to read; empty for all.

        Returns:
            Pairs of an event's position and the event.
        """

    async def length(self) -> int:
        """The number of events that the log retains."""


@runtime_checkable
class Stores(Protocol):
    """The four stores of one tenant."""

    @property
    def online(self) -> Online: ...
    @property
    def vectors(self) -> Vectors: ...
    @property
    def lake(self) -> Lake: ...
    @property
    def events(self) -> Events: ...


__all__ = ["Events", "Key", "Lake", "Online", "Stores", "Vectors"]
