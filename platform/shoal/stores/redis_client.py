"""One connection pool per process, event loop and URI, made on first use."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from redis import exceptions as faults
from redis.asyncio import Connection, ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer

from shoal.contract.errors import Unavailable

_clients: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, ...], Any]]" = (
    WeakKeyDictionary()
)

CONNECTIONS = 64
"""Of one process to one Redis. More would wait in the server instead: it works on one
command at a time.
"""
PATIENCE = 5.0
"""Seconds to wait for a free connection."""
REFUSALS = (
    "MISCONF",
    "READONLY",
    "LOADING",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "OOM",
)
"""Errors by which a Redis server says that it cannot serve now."""


def shared(key: tuple[str, ...], make: Callable[[], Any]) -> Any:
    """The running loop's client of this key, made if there is none."""
    loop = asyncio.get_running_loop()
    clients = _clients.get(loop)
    if clients is None:
        clients = _clients[loop] = {}
    client = clients.get(key)
    if client is None:
        client = clients[key] = make()
    return client


async def close_connections() -> None:
    """Close what the running loop has open. The next use connects again."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await (client.aclose() if hasattr(client, "aclose") else client.close())


def redis(uri: str) -> Any:
    """The client of a Redis, or of a Redis Cluster for the schemes `redis+cluster` and
    `rediss+cluster`.
    """
    return shared((uri,), lambda: _connect(uri))


class LeanConnection(Connection):
    """Packs commands in C, as redis-py's blocking client does, and sends what the
    socket takes at once without a task of its own to wait for it: a fifth of a
    command's time.
    """

    pack_command = staticmethod(HiredisRespSerializer().pack)  # type: ignore[assignment]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        writer = self._writer
        if (
            writer is not None
            and self.is_connected
            and not self.health_check_interval
            and isinstance(command, list)
        ):
            writer.writelines(command)
            if not writer.transport.get_write_buffer_size():
                return
            command = []  # all of it is in the buffer, and redis-py waits until it has gone
        await super().send_packed_command(command, check_health)


class Pool(ConnectionPool):
    """At most `CONNECTIONS` at once; who finds none free waits. redis-py's own would
    refuse; its locks, and the counts that it keeps for OpenTelemetry, would take a
    third of a command's time.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._free = asyncio.Semaphore(CONNECTIONS)

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        if self._free.locked():
            await asyncio.wait_for(self._free.acquire(), PATIENCE)
        else:
            await self._free.acquire()
        connection = None
        try:
            connection = self.get_available_connection()  # type: ignore[no-untyped-call]
            await self.ensure_connection(connection)
            return connection
        except BaseException:
            self._return(connection)
            raise

    async def release(self, connection: Any) -> None:
        try:
            if connection.should_reconnect():
                await connection.disconnect()
        finally:
            self._return(connection)

    def _return(self, connection: Any) -> None:
        if connection is not None:
            self._in_use_connections.discard(connection)
            self._available_connections.append(connection)
        self._free.release()


def _connect(uri: str) -> Any:
    scheme, separator, rest = uri.partition("://")
    # Nothing is retried: what a broken connection left undone is unknown, and a
    # repeated INCR or XADD is another one. A connection that the server closed while it
    # idled is noticed by the pool and replaced.
    retry = Retry(NoBackoff(), 0)
    if scheme.endswith("+cluster"):
        return RedisCluster.from_url(
            scheme.removesuffix("+cluster") + separator + rest, protocol=2, socket_connect_timeout=5
        )
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_connect_timeout": 5,
        "socket_timeout": 10,
        "retry": retry,
    }
    if scheme == "redis":  # rediss and unix have classes of their own
        options["connection_class"] = LeanConnection
    return Redis.from_pool(Pool.from_url(uri, **options))


def unavailable(error: Exception) -> Unavailable | None:
    """What to raise for a fault of a Redis; None when the fault is the caller's."""
    if isinstance(error, faults.AuthenticationError):
        return Unavailable("Redis refuses the password", retry_after=1)
    if isinstance(
        error,
        (faults.ConnectionError, faults.TimeoutError, faults.ClusterError, OSError, TimeoutError),
    ):
        return Unavailable("Redis is away", retry_after=1)
    if isinstance(error, faults.ResponseError) and str(error).startswith(REFUSALS):
        return Unavailable(f"Redis cannot serve: {str(error)[:200]}", retry_after=1)
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Faults of a Redis that is away become Unavailable."""
    try:
        yield
    except (faults.RedisError, OSError, TimeoutError) as error:
        away = unavailable(error)
        if away is None:
            raise
        raise away from error
