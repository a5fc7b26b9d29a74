"""Redis, within the keys of one tenant's capability."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from shoal.contract.errors import Invalid
from shoal.contract.names import encode
from shoal.contract.stores import Key

from .configuration import StoreConfig
from .redis_client import (
    REDIS_ERRORS,
    as_unavailable,
    async_redis,
    run_script,
    script_digest,
    translate_errors,
)
from .redis_keys import delete_keys, has_keys
from .tenant_store import TenantStore

COMMANDS = frozenset(
    # ruff: noqa: SIM905
    """
    get set getdel getex setnx delete unlink exists expire pexpire expireat persist ttl
    pttl type strlen append incr incrby incrbyfloat decr decrby
    hget hmget hgetall hset hdel hlen hkeys hvals hexists hincrby hincrbyfloat hsetnx
    hscan_iter hrandfield
    zadd zrem zrange zrangebyscore zrevrange zrevrangebyscore zremrangebyscore
    zremrangebyrank zcard zcount zscore zmscore zincrby zrank zrevrank zpopmin zpopmax
    zscan_iter
    sadd srem smembers scard sismember smismember spop srandmember sscan_iter
    lpush rpush lpop rpop lrange ltrim llen lindex lset lrem
    pfadd pfcount
    """.split()
)
"""Commands of one key, the first argument. Others could name another tenant's key."""

ONE_KEY = {"delete": "DEL", "unlink": "UNLINK", "exists": "EXISTS", "pfcount": "PFCOUNT"}
"""Commands that take any number of keys in redis-py, and one here."""


def encode_key(parts: Sequence[str]) -> str:
    """Join the parts of a key; no two lists of parts give the same key."""
    if not parts:
        raise Invalid("a key needs at least one part")
    try:
        for part in parts:
            if not part:
                raise Invalid("a part of a key is empty")
        return ":".join(map(encode, parts))
    except (TypeError, UnicodeEncodeError) as error:
        raise Invalid(f"a part of a key cannot be stored as text: {error}") from None


def address(place: str, key: Key) -> str:
    """The Redis key of `key`.

    Args:
        place: `tenant:capability`. The address begins with `place:` or `{place:`.
        key: The key within it.
    """
    if isinstance(key, str):
        return f"{place}:{encode_key((key,))}"
    if key and key[0] == "{}":
        end = key.index("{}", 1) if "{}" in key[1:] else len(key)
        tag = f"{{{place}:{encode_key(key[1:end])}}}"
        rest = key[end + 1 :]
        return tag if end == len(key) else f"{tag}:{encode_key(rest) if rest else ''}"
    return f"{place}:{encode_key(key)}"


def _check_arguments(command: str, args: tuple[Any, ...]) -> None:
    if command in ONE_KEY and args:
        raise TypeError(f"{command} takes one key here")


class OnlineStore(TenantStore):
    """See `shoal.contract.stores.Online`.

    Args:
        config: Where the stores are.
        tenant: The tenant's id. ValueError when it is not valid.
        capability: Whose keys these are. No other capability's store has any of them.
    """

    __slots__ = ("_capability", "_place")

    _capability: str
    _place: str

    def __init__(self, config: StoreConfig, tenant: str, capability: str) -> None:
        super().__init__(config, tenant)
        object.__setattr__(self, "_capability", capability)
        object.__setattr__(self, "_place", f"{tenant}:{encode_key((capability,))}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._config, self._tenant, self._capability)

    if TYPE_CHECKING:

        def __getattr__(self, command: str) -> Any:
            """The commands, set below."""

    def key(self, key: Key) -> str:
        """The Redis key for `key`. Invalid when a part is empty or not text."""
        return address(self._place, key)

    async def execute(self, command: str, key: Key, *args: Any, **options: Any) -> Any:
        """Run a single-key command by its name, such as `"hget"`."""
        if command.lower() not in COMMANDS or command.endswith("_iter"):
            raise AttributeError(f"{command!r} is not a command of the online store")
        return await getattr(self, command.lower())(key, *args, **options)

    def pipeline(self) -> "Pipeline":
        return Pipeline(self._config, self._place)

    async def eval(self, script: str, keys: Sequence[Key], args: Sequence[Any] = ()) -> Any:
        """Run a Lua script; it must touch no key that is not among `keys`."""
        if not keys:
            raise Invalid("a script needs at least one key")
        addresses = [address(self._place, key) for key in keys]
        with translate_errors():
            return await run_script(async_redis(self._config.online), script, addresses, args)

    async def scan(self, prefix: Key) -> AsyncIterator[str]:
        """The keys below a prefix, each once, encoded, without tenant or capability."""
        start = address(self._place, prefix)
        if start.startswith("{") and list(prefix).count("{}") == 1:
            start = start[:-1]  # an open hash tag: all keys tagged below it
        pattern = "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in start)
        seen = set()
        with translate_errors():
            async for raw in async_redis(self._config.online).scan_iter(
                match=pattern + "*", count=1000
            ):
                found = raw.decode()
                if found[len(start) : len(start) + 1] in ("", ":", "}") and found not in seen:
                    seen.add(found)
                    yield found.replace(f"{self._place}:", "", 1)


def _method(command: str) -> Callable[..., Awaitable[Any]]:
    async def method(self: OnlineStore, key: Key, *args: Any, **options: Any) -> Any:
        if args:
            _check_arguments(command, args)
        try:
            return await getattr(async_redis(self._config.online), command)(
                address(self._place, key), *args, **options
            )
        except REDIS_ERRORS as error:  # written out: a context manager costs more
            unavailable = as_unavailable(error)
            if unavailable is None:
                raise
            raise unavailable from error

    return method


def _iterator(command: str) -> Callable[..., AsyncIterator[Any]]:
    async def method(self: OnlineStore, key: Key, *args: Any, **options: Any) -> AsyncIterator[Any]:
        with translate_errors():
            async for item in getattr(async_redis(self._config.online), command)(
                address(self._place, key), *args, **options
            ):
                yield item

    return method


for _name in COMMANDS:
    _function: Any = (_iterator if _name.endswith("_iter") else _method)(_name)
    _function.__name__, _function.__qualname__ = _name, f"OnlineStore.{_name}"
    setattr(OnlineStore, _name, _function)


class Pipeline:
    """Single-key commands that are sent together; not a transaction.

    Call them without awaiting, then `await execute()`. The error of a command is raised
    after all have run, unless `raise_on_error=False`.
    """

    __slots__ = ("_calls", "_config", "_place")

    def __init__(self, config: StoreConfig, place: str) -> None:
        self._config, self._place = config, place
        self._calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, command: str) -> Callable[..., "Pipeline"]:
        if command not in COMMANDS or command.endswith("_iter"):
            raise AttributeError(f"{command!r} is not a command of the online store")

        def queue(key: Key, *args: Any, **options: Any) -> "Pipeline":
            _check_arguments(command, args)
            self._calls.append((command, (address(self._place, key), *args), options))
            return self

        return queue

    def queue(self, command: str, key: Key, *args: Any, **options: Any) -> "Pipeline":
        """Queue a single-key command by its name."""
        queued: Pipeline = getattr(self, command.lower())(key, *args, **options)
        return queued

    def eval(self, script: str, keys: Sequence[Key], args: Sequence[Any] = ()) -> "Pipeline":
        """Queue a Lua script, as `Online.eval` runs it."""
        if not keys:
            raise Invalid("a script needs at least one key")
        addresses = [address(self._place, key) for key in keys]
        self._calls.append(("eval", (script, len(addresses), *addresses, *args), {}))
        return self

    def __len__(self) -> int:
        return len(self._calls)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The results, in order; the pipeline is empty afterwards."""
        calls, self._calls = self._calls, []
        if not calls:
            return []
        with translate_errors():
            client, sent = async_redis(self._config.online), set()
            pipe = client.pipeline(transaction=False)
            for command, args, options in calls:
                # The text of the first made the script known to the server.
                if command == "eval" and args[0] in sent:
                    pipe.evalsha(script_digest(args[0]), *args[1:])
                    continue
                if command == "eval" and isinstance(client, Redis):  # not one node of many
                    sent.add(args[0])
                # As methods they take many keys, which a cluster's pipeline lacks.
                if command in ONE_KEY:
                    pipe.execute_command(ONE_KEY[command], *args)
                else:
                    getattr(pipe, command)(*args, **options)
            return list(await pipe.execute(raise_on_error=raise_on_error))


def _patterns(tenant: str) -> tuple[str, str]:
    return f"{tenant}:*", f"{{{tenant}:*"


async def erase(config: StoreConfig, tenant: str) -> int:
    """Delete a tenant's keys; return how many there were."""
    client = async_redis(config.online)
    with translate_errors():
        return sum([await delete_keys(client, pattern) for pattern in _patterns(tenant)])


async def has_data(config: StoreConfig, tenant: str) -> bool:
    """Whether a tenant has any keys."""
    client = async_redis(config.online)
    with translate_errors():
        return any([await has_keys(client, pattern) for pattern in _patterns(tenant)])
