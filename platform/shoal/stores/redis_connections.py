"""redis-py's clients for an event loop, with faster packing and pools that wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from redis.asyncio import (
    Connection,
    ConnectionPool,
    Redis,
    RedisCluster,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.cluster import ClusterNode, ClusterPipeline
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.connection import HiredisRespSerializer

from .redis_address import RedisAddress

MAX_CONNECTIONS = 64
"""Connections of one process to one Redis. A Redis server runs one command at a time,
so more connections would only move the queue there.
"""
WAIT_SECONDS = 5.0
"""How long to wait for a free connection."""


class PackingConnection(Connection):
    """Packs commands in C, as redis-py's blocking client does by itself."""

    pack_command = staticmethod(HiredisRespSerializer().pack)  # type: ignore[assignment]


class WaitingPool(ConnectionPool):
    """At most `MAX_CONNECTIONS` connections; callers wait for a free one.

    redis-py's own `BlockingConnectionPool` takes locks and keeps OpenTelemetry counts
    for each command.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._tls: Any = None

    def make_connection(self) -> Any:
        """A new connection. Those with TLS share what was read from its files."""
        connection: Any = super().make_connection()  # type: ignore[no-untyped-call]
        if isinstance(connection, SSLConnection):
            self._tls = connection.ssl_context = self._tls or connection.ssl_context
        return connection

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        if self._free.locked():
            await asyncio.wait_for(self._free.acquire(), WAIT_SECONDS)
        else:
            await self._free.acquire()
        try:
            connection: Any = self.get_available_connection()  # type: ignore[no-untyped-call]
        except BaseException:
            self._free.release()
            raise
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        try:
            await super().release(connection)
        finally:
            self._free.release()


class MasterPool(WaitingPool, SentinelConnectionPool):
    """The pool of the master that Sentinels name; closes their connections too."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()


_HAS_PLACE: ContextVar[bool] = ContextVar("has_place", default=False)


class WaitingCluster(RedisCluster):
    """Runs at most `MAX_CONNECTIONS` commands and pipelines at once; others wait.

    redis-py's own client fails where a node has no free connection.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place; what runs inside, such as a redirection, has it."""
        if _HAS_PLACE.get():
            yield
            return
        await asyncio.wait_for(self._free.acquire(), WAIT_SECONDS)
        token = _HAS_PLACE.set(True)
        try:
            yield
        finally:
            _HAS_PLACE.reset(token)
            self._free.release()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        async with self.place():
            return await super().execute_command(*args, **options)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        make: Any = WaitingPipeline  # mypy takes it for an abstract class
        return make(self, transaction)


class WaitingPipeline(ClusterPipeline):
    """A pipeline that waits for its place."""

    async def execute(self, *args: Any, **options: Any) -> Any:
        client: Any = self.cluster_client
        async with client.place():
            return await super().execute(*args, **options)


def connect_single(address: RedisAddress, options: dict[str, Any]) -> Redis:
    """The client of one server. It connects on first use."""
    kind: type[Connection] | type[UnixDomainSocketConnection] = PackingConnection
    if not address.hosts:
        kind = UnixDomainSocketConnection
    elif options.pop("ssl", False):
        kind = SSLConnection
    if address.hosts:
        options["host"], options["port"] = address.hosts[0]
    return Redis.from_pool(WaitingPool(connection_class=kind, **options))


def connect_cluster(address: RedisAddress, options: dict[str, Any]) -> RedisCluster:
    """The client of a cluster, whose nodes it reads on first use."""
    return WaitingCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
        require_full_coverage=False,
        max_connections=2 * MAX_CONNECTIONS,  # of one node; subscriptions take some
        **options,
    )


def connect_sentinel(address: RedisAddress, options: dict[str, Any]) -> Redis:
    """The client of the master that Sentinels name."""
    of_sentinel = {**address.sentinel_options, "socket_timeout": 2, "retry": options["retry"]}
    make: Any = Sentinel  # redis-py's is untyped
    sentinel = make(list(address.hosts), sentinel_kwargs=of_sentinel)
    return Redis.from_pool(MasterPool(address.service, sentinel, **options))
