"""Commands on the log's Redis streams, and telling followers of an append."""

import time
from collections.abc import Mapping
from typing import Any

from . import keys

PAGE = 1_000
"""Entries that are read or written at once."""


def append_command(stream: str, fields: Mapping[str, bytes]) -> tuple[Any, ...]:
    """The command that appends an entry to a stream."""
    return ("XADD", stream, "*", *(part for pair in fields.items() for part in pair))


def announce_commands(tenant: str) -> list[tuple[Any, ...]]:
    """The commands that tell followers of something new in a tenant's log."""
    return [("ZADD", keys.TENANTS, time.time(), tenant), ("PUBLISH", keys.TENANTS, tenant)]


async def announce(events: Any, tenant: str) -> None:
    """Tell followers of something new in a tenant's log."""
    for command in announce_commands(tenant):
        await events.execute_command(*command)
