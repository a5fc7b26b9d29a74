"""Clients of Redis by URI (see `redis_address`), and how its errors become Shoal's."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import redis
from redis import asyncio as aioredis
from redis import exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError as BlockingMasterNotFoundError
from redis.sentinel import Sentinel

from shoal.contract.errors import Unavailable

from .connections import shared_client
from .redis_address import RedisAddress, check_files, parse_address
from .redis_connections import connect_cluster, connect_sentinel, connect_single

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
    exceptions.SlotNotCoveredError,
    OSError,
    TimeoutError,
)
NO_CLUSTER = (
    "Redis Cluster cannot be connected",
    "startup_nodes could not agree",
    "All slots are not covered",
    "No targets were found",
)
"""The `RedisClusterException`s that say that no node serves; others are a caller's
mistakes, such as keys of two slots in one command.
"""

REPLICA_MILLISECONDS = 1_000
"""How long replicas are waited for."""

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
    """The running event loop's client of a Redis, a Cluster, or a Sentinel's master.

    A command is never retried: after a broken connection it is unknown whether it ran,
    and an INCR or XADD would run twice. A single Redis's pool replaces connections that
    the server closed while they were idle. A cluster's client follows redirections, and
    reads the cluster's nodes again after an error.

    Args:
        uri: The address: see `redis_address`.

    Returns:
        A `redis.asyncio.Redis` or `RedisCluster` whose replies are bytes.

    Raises:
        Unavailable: A file that the address names cannot be read.
    """
    return shared_client((uri,), lambda: _connect(uri))


def _connect(uri: str) -> Any:
    address = parse_address(uri)
    check_files(address)
    options: dict[str, Any] = {
        **address.options,
        "protocol": 2,
        "socket_connect_timeout": 5,
        "socket_timeout": 10,
        "retry": AsyncRetry(NoBackoff(), 0),
    }
    if address.kind == "cluster":
        return connect_cluster(address, options)
    if address.kind == "sentinel":
        return connect_sentinel(address, options)
    return connect_single(address, options)


def blocking_redis(uri: str) -> Any:
    """A new client of a Redis for code outside an event loop.

    It may be shared by threads. No command is retried, as with `async_redis`. A
    cluster's client connects at once, the others on first use.

    Args:
        uri: The address: see `redis_address`.

    Returns:
        A `redis.Redis` or `redis.RedisCluster` whose replies are strings.

    Raises:
        Unavailable: A file that the address names cannot be read.
    """
    address = parse_address(uri)
    check_files(address)
    options: dict[str, Any] = {
        **address.options,
        "decode_responses": True,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "health_check_interval": 15,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.kind == "cluster":
        make_node: Any = ClusterNode  # redis-py's are untyped
        nodes = [make_node(host, port) for host, port in address.hosts]
        return redis.RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
    if address.kind == "sentinel":
        return _blocking_master(address, options)
    if address.hosts:
        host, port = address.hosts[0]
        return redis.Redis(host=host, port=port, **options)
    return redis.Redis(unix_socket_path=options.pop("path"), **options)


def _blocking_master(address: RedisAddress, options: dict[str, Any]) -> Any:
    of_sentinel = {**address.sentinel_options, "socket_timeout": 2, "decode_responses": True}
    make: Any = Sentinel  # redis-py's are untyped
    sentinel = make(list(address.hosts), sentinel_kwargs=of_sentinel)
    return sentinel.master_for(address.service, **options)


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


async def run_atomically(
    client: Any, commands: Sequence[Sequence[Any]], replicas: int = 0
) -> list[Any]:
    """Run commands as one Lua script: all of them, with nothing between.

    redis-py's transactions would do on a single Redis, but those of its asyncio cluster
    client run in threads with event loops of their own.

    Args:
        client: What `async_redis` returned.
        commands: Each as `(name, key, *arguments)` with at most 7,000 arguments; in a
            cluster their keys must be of one hash slot.
        replicas: How many replicas must have what was written.

    Returns:
        The replies, in order, as the server sends them.

    Raises:
        Unavailable: Fewer replicas have it; whether it is kept is unknown.
    """
    if not commands:
        return []
    keys = list(dict.fromkeys(command[1] for command in commands))
    args = [part for command in commands for part in (len(command), *command)]
    if replicas:
        return list(await _run_replicated(client, keys, args, replicas))
    return list(await run_script(client, _RUN_ALL, keys, args))


async def _run_replicated(
    client: Any, keys: Sequence[str], args: Sequence[Any], replicas: int
) -> Any:
    """Run the script and wait for replicas, on one connection as WAIT demands."""
    of_node: dict[str, Any] = {}
    if is_cluster(client):
        await client.initialize()
        of_node["target_nodes"] = client.get_node_from_key(keys[0])
    pipe = client.pipeline(transaction=False)
    pipe.execute_command("EVAL", _RUN_ALL, len(keys), *keys, *args, **of_node)
    pipe.execute_command("WAIT", replicas, REPLICA_MILLISECONDS, **of_node)
    replies, reached = await pipe.execute()
    if reached < replicas:
        raise Unavailable(
            f"{reached} of {replicas} replicas of Redis have what was written", retry_after=1
        )
    return replies


def is_cluster(client: Any) -> bool:
    """Whether a client is of a Redis Cluster, where a script's keys are of one slot."""
    return isinstance(client, aioredis.RedisCluster)


def as_unavailable(error: Exception) -> Unavailable | None:
    """The `Unavailable` to raise for an error of Redis; None for a caller's mistake."""
    text, cause = str(error), error.__cause__
    if isinstance(error, exceptions.RedisClusterException) and text.startswith(NO_CLUSTER):
        found = as_unavailable(cause) if isinstance(cause, exceptions.RedisError) else None
        return found or Unavailable("Redis is unavailable", retry_after=1)
    if isinstance(error, exceptions.AuthenticationError):
        return Unavailable("Redis refuses the password", retry_after=1)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        return Unavailable(
            f"The certificate of Redis is not trusted ({reason}): see ssl_ca_certs", retry_after=5
        )
    if isinstance(error, MasterNotFoundError | BlockingMasterNotFoundError):
        return Unavailable("No Sentinel knows a master of Redis that answers", retry_after=1)
    if isinstance(error, UNREACHABLE):
        return Unavailable("Redis is unavailable", retry_after=1)
    if isinstance(error, exceptions.ResponseError) and text.startswith(REFUSALS):
        return Unavailable(f"Redis cannot serve: {text[:200]}", retry_after=1)
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
