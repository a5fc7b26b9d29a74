"""Keys of a Redis by pattern: whether there are any, and deleting them."""

from typing import Any

BATCH = 1000


async def has_keys(client: Any, pattern: str) -> bool:
    """Whether any key matches a glob pattern. Walks the whole keyspace."""
    async for _ in client.scan_iter(match=pattern, count=BATCH):
        return True
    return False


async def delete_keys(client: Any, pattern: str) -> int:
    """Delete the keys that match a glob pattern; return how many there were."""
    deleted, batch = 0, []
    async for key in client.scan_iter(match=pattern, count=BATCH):
        batch.append(key)
        if len(batch) == BATCH:
            deleted += await _unlink(client, batch)
            batch = []
    return deleted + await _unlink(client, batch)


async def _unlink(client: Any, keys: list[bytes]) -> int:
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.execute_command("UNLINK", key)  # a cluster's pipeline has no `unlink`
    return sum(await pipe.execute()) if keys else 0
