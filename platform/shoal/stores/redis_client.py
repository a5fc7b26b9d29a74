"""Clients of Redis by URI, and how its errors become Shoal's.

The only module that knows URIs: `redis://`, `rediss://` (TLS), `unix://`,
`redis+cluster://` and `rediss+cluster://`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import redis
from redis import asyncio as aioredis
from redis import exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff

from shoal.contract.errors import Unavailable

from .connections import shared_client
from .redis_connections import PackingConnection, WaitingPool

REDIS_ERRORS = (
    exceptions.RedisError,
    exceptions.RedisClusterException,
    OSError,
    TimeoutError,
)
"""What a call of a Redis client may raise (redis-py's `RedisClusterException` is no
`RedisError`).
"""

UNREACHABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ClusterError,
    OSError,
    TimeoutError,
)
NO_CLUSTER = "Redis Cluster cannot be connected"
"""The `RedisClusterException` that says that no node answers; others are a caller's
mistakes, such as keys of two slots in one command.
"""

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


def async_redis(uri: str) -> Any:
    """The running event loop's client of a Redis or Redis Cluster.

    A command is never retried on a single Redis: after a broken connection it is
    unknown whether it ran, and an INCR or XADD would run twice. The pool replaces
    connections that the server closed while they were idle.

    Args:
        uri: The address, with one of the schemes in the module's docstring.

    Returns:
        A `redis.asyncio.Redis` or `RedisCluster` whose replies are bytes.
    """
    return shared_client((uri,), lambda: _connect(uri))


def blocking_redis(uri: str) -> Any:
    """A new client of a Redis or Redis Cluster for code outside an event loop.

    It may be shared by threads. A cluster's client connects at once, a single Redis's
    on first use.

    Args:
        uri: The address, with one of the schemes in the module's docstring.

    Returns:
        A `redis.Redis` or `redis.RedisCluster` whose replies are strings.
    """
    plain_uri, is_cluster = _parse(uri)
    factory: Any = redis.RedisCluster if is_cluster else redis.Redis
    return factory.from_url(
        plain_uri,
        decode_responses=True,
        socket_timeout=30,
        socket_connect_timeout=5,
        health_check_interval=15,
    )


def _parse(uri: str) -> tuple[str, bool]:
    """The URI as redis-py takes it, and whether it is a cluster's."""
    scheme, separator, rest = uri.partition("://")
    plain = scheme.removesuffix("+cluster")
    return plain + separator + rest, plain != scheme


def _connect(uri: str) -> Any:
    plain_uri, is_cluster = _parse(uri)
    options: dict[str, Any] = {"protocol": 2, "socket_connect_timeout": 5}
    if is_cluster:
        return aioredis.RedisCluster.from_url(plain_uri, **options)
    options |= {"socket_timeout": 10, "retry": AsyncRetry(NoBackoff(), 0)}
    if plain_uri.startswith("redis://"):  # rediss and unix have connection classes of their own
        options["connection_class"] = PackingConnection
    return aioredis.Redis.from_pool(WaitingPool.from_url(plain_uri, **options))


@lru_cache(maxsize=4096)
def script_digest(script: str) -> str:
    """The digest by which a Redis server knows a Lua script."""
    return hashlib.sha1(script.encode()).hexdigest()


async def run_script(
    client: Any, script: str, keys: Sequence[str], args: Sequence[Any] = ()
) -> Any:
    """Run a Lua script by its digest; send its text where the server lacks it."""
    try:
        return await client.evalsha(script_digest(script), len(keys), *keys, *args)
    except exceptions.NoScriptError:
        return await client.eval(script, len(keys), *keys, *args)


_RUN_ALL = """
-- KEYS: the keys of all commands. ARGV: for each command its length, then its parts.
local replies, at = {}, 1
while at <= #ARGV do
  local length = tonumber(ARGV[at])
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, at + length))
  at = at + length + 1
end
return replies
"""


async def run_atomically(client: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Run commands as one Lua script: all of them, with nothing between.

    redis-py's transactions would do on a single Redis, but those of its asyncio cluster
    client run in threads with event loops of their own.

    Args:
        client: What `async_redis` returned.
        commands: Each as `(name, key, *arguments)` with at most 7,000 arguments; in a
            cluster their keys must be of one hash slot.

    Returns:
        The replies, in order, as the server sends them.
    """
    if not commands:
        return []
    keys = list(dict.fromkeys(command[1] for command in commands))
    args = [part for command in commands for part in (len(command), *command)]
    return list(await run_script(client, _RUN_ALL, keys, args))


def is_cluster(client: Any) -> bool:
    """Whether a client is of a Redis Cluster, where a script's keys are of one slot."""
    return isinstance(client, aioredis.RedisCluster)


def as_unavailable(error: Exception) -> Unavailable | None:
    """The `Unavailable` to raise for an error of Redis; None for a caller's mistake."""
    if isinstance(error, exceptions.AuthenticationError):
        return Unavailable("Redis refuses the password", retry_after=1)
    if isinstance(error, UNREACHABLE) or str(error).startswith(NO_CLUSTER):
        return Unavailable("Redis is unavailable", retry_after=1)
    if isinstance(error, exceptions.ResponseError) and str(error).startswith(REFUSALS):
        return Unavailable(f"Redis cannot serve: {str(error)[:200]}", retry_after=1)
    return None


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise `Unavailable` where Redis cannot be reached or cannot serve."""
    try:
        yield
    except REDIS_ERRORS as error:
        unavailable = as_unavailable(error)
        if unavailable is None:
            raise
        raise unavailable from error
