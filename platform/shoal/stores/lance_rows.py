"""Rows of a table by their addresses, of which a process keeps those found last.

What is at an address never changes: a row that is written again, and one that is moved
with others into another file, has a new one, and none is used twice.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from shoal.contract.batch import off_loop

from .lance_connections import OpenTable
from .lance_tables import ID, STEP, VECTORS, from_arrow

ADDRESS = "_rowid"
"""The column that LanceDB gives an address in."""
KEPT_BYTES = 64 << 20
"""Bytes of the rows that a process keeps, of all tables."""
ROW_BYTES, VALUE_BYTES = 400, 60
"""What Python needs for a row, and for each value besides its own bytes."""

Names = frozenset[str]

_kept: "OrderedDict[tuple[str, int], tuple[Names, dict[str, Any]]]" = OrderedDict()
"""By table and address, the columns that a row has, and the row."""
_bytes = 0


async def rows_at(
    opened: OpenTable, addresses: Sequence[int], columns: Sequence[str], *, keep: bool
) -> dict[int, dict[str, Any]]:
    """The rows at these addresses, each with its id and the columns.

    Args:
        opened: The table.
        addresses: Where.
        columns: Of the schema, `vectors` and `version`.
        keep: Whether the rows are likely to be found again soon.

    Returns:
        By address; rows that were deleted or moved meanwhile may be missing.
    """
    wanted = list(dict.fromkeys([ID, *columns]))
    names = _shared(tuple(wanted))
    found = _recall(opened.path, addresses, names) if keep else {}
    missing = [address for address in addresses if address not in found]
    if missing:
        query = opened.table.take_row_ids(missing).with_row_id().select(wanted)
        taken = await query.to_arrow()
        if taken.num_rows <= STEP:  # which another thread would not make in the background
            rows = from_arrow(taken, opened.schema, wanted)
        else:
            rows = await off_loop(from_arrow, taken, opened.schema, wanted)
        made = dict(zip(taken[ADDRESS].to_pylist(), rows, strict=True))
        if keep:
            _keep(opened.path, names, made)
        found |= made
    return found


@lru_cache(maxsize=1_000)
def _shared(names: tuple[str, ...]) -> Names:
    """The same set for the same names, so that most are compared by identity."""
    return frozenset(names)


def _recall(path: str, addresses: Sequence[int], names: Names) -> dict[int, dict[str, Any]]:
    found = {}
    for address in addresses:
        kept = _kept.get(key := (path, address))
        if kept is not None and (kept[0] is names or kept[0] >= names):
            _kept.move_to_end(key)
            found[address] = kept[1]
    return found


def _keep(path: str, names: Names, rows: dict[int, dict[str, Any]]) -> None:
    global _bytes
    for address, row in rows.items():
        if isinstance(vectors := row.get(VECTORS), np.ndarray):
            row[VECTORS] = vectors.copy()  # the others of an answer need not stay
            row[VECTORS].flags.writeable = False
        has = names
        if (old := _kept.pop((path, address), None)) is not None:
            _bytes -= _size(old[1])
            row |= {name: value for name, value in old[1].items() if name not in row}
            has = _shared(tuple(sorted(row)))
        _kept[path, address] = has, row
        _bytes += _size(row)
    while _bytes > KEPT_BYTES:
        _bytes -= _size(_kept.popitem(last=False)[1][1])


def _size(row: dict[str, Any]) -> int:
    return ROW_BYTES + sum(VALUE_BYTES + _value_size(value) for value in row.values())


def _value_size(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str):
        return 4 * len(value) if not value.isascii() else len(value)
    if isinstance(value, dict):
        return _value_size([*value, *value.values()])
    return sum(VALUE_BYTES + _value_size(v) for v in value) if isinstance(value, list) else 0
