"""Leases in Redis: at most one owner at a time, until released or expired."""

from typing import Any

from .redis_client import run_script

_RENEW = """
-- KEYS: the lease. ARGV: its owner, the milliseconds until it expires.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""
_RELEASE = """
-- KEYS: the lease. ARGV: its owner.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


async def acquire_lease(client: Any, lease: str, owner: str, seconds: float) -> bool:
    """Take a lease; return whether it was free."""
    return bool(await client.set(lease, owner, nx=True, px=int(seconds * 1000)))


async def renew_lease(client: Any, lease: str, owner: str, seconds: float) -> bool:
    """Extend a lease; return whether it is still the owner's."""
    return bool(await run_script(client, _RENEW, [lease], [owner, int(seconds * 1000)]))


async def release_lease(client: Any, lease: str, owner: str) -> None:
    """Release a lease, unless it is another owner's by now."""
    await run_script(client, _RELEASE, [lease], [owner])
