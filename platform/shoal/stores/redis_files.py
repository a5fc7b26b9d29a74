"""Having a Redis write its files anew, so that they hold nothing that was deleted.

An append-only file keeps every write, and a snapshot what there was, until the next
rewrite.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis.exceptions import RedisError, ResponseError

from .redis_client import async_redis, is_cluster

SECONDS = 60.0
"""How long a rewrite is waited for."""
PAUSE = 0.02

Command = Callable[..., Awaitable[Any]]


async def rewrite_files(uri: str) -> str:
    """Have all servers of a Redis rewrite their append-only files and snapshots.

    Args:
        uri: The Redis or Redis Cluster.

    Returns:
        Why what was deleted may still be in the files; empty where it is not.
    """
    client = async_redis(uri)
    commands: list[Command] = [client.execute_command]
    try:
        if is_cluster(client):
            await client.initialize()
            commands = [
                partial(client.execute_command, target_nodes=node) for node in client.get_nodes()
            ]
        for command in commands:
            async with asyncio.timeout(SECONDS):
                await _rewrite(command)
    except TimeoutError:
        return f"the rewrite of its files takes longer than {SECONDS:.0f} s and goes on"
    except (RedisError, OSError) as error:
        return f"its server refused to rewrite its files ({error})"
    return ""


async def _rewrite(command: Command) -> None:
    if (await _persistence(command))["aof_enabled"]:
        await _start(command, "BGREWRITEAOF")
        await _finish(command, "aof_rewrite_in_progress", "aof_last_bgrewrite_status")
    saved = await command("CONFIG", "GET", "save")
    if any(saved.values() if isinstance(saved, dict) else saved[1::2]):
        await _start(command, "BGSAVE")
        await _finish(command, "rdb_bgsave_in_progress", "rdb_last_bgsave_status")


async def _start(command: Command, what: str) -> None:
    while True:
        try:
            await command(what)
            return
        except ResponseError as error:
            # One in progress may have begun before what was deleted.
            if "in progress" not in str(error):
                raise
        await asyncio.sleep(PAUSE)


async def _finish(command: Command, progress: str, status: str) -> None:
    while True:
        found = await _persistence(command)
        if not found[progress] and not found["aof_rewrite_scheduled"]:
            break
        await asyncio.sleep(PAUSE)
    if found[status] != "ok":
        raise RedisError("the rewrite failed: see the server's log")


async def _persistence(command: Command) -> dict[str, Any]:
    found: dict[str, Any] = await command("INFO", "persistence")
    return found
