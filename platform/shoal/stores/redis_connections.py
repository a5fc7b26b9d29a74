"""redis-py's connection and pool with less work per command.

Nothing else in Shoal relies on redis-py's internals: without this module,
`redis_client` would use redis-py's `BlockingConnectionPool`.
"""

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


class LeanConnection(Connection):
    """A connection that packs commands in C and sends without waiting for a drain."""

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
            command = []  # already in the buffer: let redis-py wait until it is sent
        await super().send_packed_command(command, check_health)


class Pool(ConnectionPool):
    """At most `MAX_CONNECTIONS` connections; callers wait for a free one.

    Unlike redis-py's blocking pool it takes no lock and keeps no OpenTelemetry counts.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        if self._free.locked():
            await asyncio.wait_for(self._free.acquire(), WAIT_SECONDS)
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
