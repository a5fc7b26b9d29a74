"""A tenant's door to a Redis, as `shoal.Stores.online` is."""

from typing import Any
from urllib.parse import quote

import redis.asyncio as redis


class Door:
    def __init__(self, port: int, tenant: str) -> None:
        self.client = redis.Redis(port=port)
        self.tenant = tenant

    def key(self, key: Any) -> str:
        parts = [key] if isinstance(key, str) else list(key)
        encode = lambda parts: ":".join(quote(p, safe="!\"#$&'()*+,-./;<=>?@[\\]^_`|~ ") for p in parts)
        if parts[0] == "{}":
            end = parts.index("{}", 1)
            return "{" + encode([self.tenant, *parts[1:end]]) + "}:" + encode(parts[end + 1 :])
        return encode([self.tenant, *parts])

    def pipeline(self) -> "Pipe":
        return Pipe(self, self.client.pipeline(transaction=False))

    async def eval(self, script: str, keys: Any, args: Any = ()) -> Any:
        return await self.client.eval(script, len(keys), *map(self.key, keys), *args)

    def __getattr__(self, command: str) -> Any:
        method = getattr(self.client, command)
        return lambda key, *args, **options: method(self.key(key), *args, **options)


class Pipe:
    def __init__(self, door: Door, pipe: Any) -> None:
        self.door, self.pipe = door, pipe

    def eval(self, script: str, keys: Any, args: Any = ()) -> None:
        self.pipe.eval(script, len(keys), *map(self.door.key, keys), *args)

    async def execute(self) -> list[Any]:
        return await self.pipe.execute()

    def __getattr__(self, command: str) -> Any:
        method = getattr(self.pipe, command)
        return lambda key, *args, **options: method(self.door.key(key), *args, **options)
