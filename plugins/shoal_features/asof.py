"""Point-in-time join: each entity row with the feature values known at its time.

A feature row has two times: `event_timestamp`, when the value became true, and
`created`, when it was learnt. The answer for an entity row at `t` is the feature row of
its entity with the greatest (event_timestamp, created), of equal ones the later
written, among those with `event_timestamp <= t` and, where there is a cutoff, `created
<= known_by`. It is null when there is none, or when `t - event_timestamp` exceeds the
TTL.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

TIME = pa.timestamp("us", "UTC")


def as_of(
    rows: pa.Table,
    history: pa.Table,
    names: Sequence[str],
    ttl: int | None = None,
    known_by: datetime | str | None = None,
) -> pa.Table:
    """Join features to entity rows.

    Args:
        rows: Columns `entity` (string) and `at` (timestamp, UTC), without nulls, in any
            order.
        history: Columns `entity`, `event_timestamp`, `created` and the `names`; later
            rows were written later.
        names: The features.
        ttl: Seconds that a value is valid, both ends included; None for no limit.
        known_by: The cutoff: a time, or the name of a column of `rows` with one for
            each row; None for no cutoff.

    Returns:
        Columns `event_timestamp` and the `names`, one row per row of `rows`, in their
        order.
    """
    if isinstance(known_by, datetime):
        cutoff = pa.scalar(known_by, history["created"].type)
        history = history.filter(pc.less_equal(history["created"], cutoff))
    positions = _match(rows, history, known_by if isinstance(known_by, str) else None)
    times = history["event_timestamp"].cast(TIME).cast(pa.int64()).to_numpy()
    if ttl is not None:
        at = rows["at"].cast(TIME).cast(pa.int64()).to_numpy()
        hit = np.flatnonzero(positions >= 0)
        positions[hit[at[hit] - times[positions[hit]] > ttl * 1_000_000]] = -1
    taken = pa.array(positions, mask=positions < 0)
    return history.select(["event_timestamp", *names]).take(taken)


def _match(rows: pa.Table, history: pa.Table, known_by: str | None) -> np.ndarray:
    """For each row, the position in `history` of its answer before the TTL, or -1.

    Returns:
        int64, length of `rows`.
    """
    left = pl.DataFrame(
        {"entity": _series(rows, "entity"), "at": _micros(rows, "at")}
    ).with_row_index("row")
    right = pl.DataFrame(
        {
            "entity": _series(history, "entity"),
            "at": _micros(history, "event_timestamp"),
            "created": _micros(history, "created"),
        }
    ).with_row_index("position")
    if known_by is None:
        # polars takes the last of equal times, so the order decides ties
        right = right.sort("at", "created", maintain_order=True).select("entity", "at", "position")
        return _join(left, right, "position")
    right = right.sort("entity", "at", "created", maintain_order=True).with_row_index("rank")
    rank = _join(left, right.select("entity", "at", "rank"), "rank")
    first = right.select(pl.col("rank").min().over("entity"))["rank"].cast(pl.Int64).to_numpy()
    cutoff = _micros(rows, known_by).to_numpy()
    _step_back(rank, right["created"].to_numpy(), first, cutoff)
    position = right["position"].cast(pl.Int64).to_numpy()
    answer = np.full(len(rank), -1, np.int64)
    hit = rank >= 0
    answer[hit] = position[rank[hit]]
    return answer


def _join(left: pl.DataFrame, right: pl.DataFrame, column: str) -> np.ndarray:
    found = left.sort("at").join_asof(
        right, on="at", by="entity", strategy="backward", check_sortedness=False
    )
    return found.sort("row")[column].cast(pl.Int64).fill_null(-1).to_numpy().copy()


def _step_back(
    rank: np.ndarray, created: np.ndarray, first: np.ndarray, cutoff: np.ndarray
) -> None:
    """Move each rank back to the newest row created by its cutoff, or to -1, in place.

    Usually a step or two, since values are learnt soon after they become true.
    """
    pending = np.flatnonzero(rank >= 0)
    while len(pending := pending[created[rank[pending]] > cutoff[pending]]):
        at_first = rank[pending] == first[rank[pending]]
        rank[pending] -= 1
        rank[pending[at_first]] = -1
        pending = pending[~at_first]


def _series(table: pa.Table, name: str) -> pl.Series:
    column = pl.from_arrow(table[name].cast(pa.string()))
    assert isinstance(column, pl.Series)
    return column


def _micros(table: pa.Table, name: str) -> pl.Series:
    column = pl.from_arrow(table[name].cast(TIME).cast(pa.int64()))
    assert isinstance(column, pl.Series)
    return column
