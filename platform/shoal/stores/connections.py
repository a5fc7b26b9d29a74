"""Clients of the stores, shared by everything that runs in one event loop."""

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

_clients: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, ...], Any]]" = (
    WeakKeyDictionary()
)


def shared_client(key: tuple[str, ...], make: Callable[[], Any]) -> Any:
    """The running event loop's client for this key, made on first use."""
    loop = asyncio.get_running_loop()
    clients = _clients.get(loop)
    if clients is None:
        clients = _clients[loop] = {}
    client = clients.get(key)
    if client is None:
        client = clients[key] = make()
    return client


async def close_connections() -> None:
    """Close every client of the running event loop. The next use connects again."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await (client.aclose() if hasattr(client, "aclose") else client.close())
