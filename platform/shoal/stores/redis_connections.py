"""redis-py's connection and pool, with faster packing and a pool that waits."""

import asyncio
from typing import Any

from redis.asyncio import Connection, ConnectionPool
from redis.connection import HiredisRespSerializer

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
