"""How many rows pass a filter, counted once for each version of a table."""

import hashlib
from collections import OrderedDict
from typing import Any

from .lance_connections import OpenTable, latest_version

MAX_COUNTS = 20_000
"""Counts that a process remembers, of all tables."""

_counts: "OrderedDict[tuple[str, bytes], tuple[Any, int]]" = OrderedDict()
"""By table and digest of the filter: the version, and the count."""


async def count_rows(opened: OpenTable, sql: str) -> int:
    """The rows of the latest version that pass a filter."""
    version = await latest_version(opened)
    key = opened.path, hashlib.sha256(sql.encode()).digest()
    known = _counts.get(key)
    if known is None or known[0] != version:
        known = _counts[key] = version, await opened.table.count_rows(sql)
        if len(_counts) > MAX_COUNTS:
            _counts.popitem(last=False)
    _counts.move_to_end(key)
    return known[1]
