"""Point-in-time join: for each entity row, the feature values last known at or before
its time.

A feature row has two times: `event_timestamp`, when the value became true, and
`created`, when we came to know it. For an entity row at `t` the answer is the row of
its entity with the greatest (event_timestamp, created), of equal ones the later
written, among those with `event_timestamp <= t` and, where a cutoff is given, `created
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
Ints = np.ndarray


def as_of(
    rows: pa.Table,
    history: pa.Table,
    names: Sequence[str],
    ttl: int | None = None,
    known_by: datetime | str | None = None,
) -> pa.Table:
    """Join features to entity rows.

    rows: columns `entity` (string) and `at` (timestamp, UTC), none null, in any order.
    history: columns `entity`, `event_timestamp`, `created` and the `names`; later rows
    were written later. ttl: seconds that a value holds, both ends included; None for
    ever. known_by: a moment, or the name of a column of `rows` with one for each row;
    None for no cutoff.

    The answer has `event_timestamp` and the `names`, one row per row of `rows`, in
    their order.
    """
    if isinstance(known_by, datetime):
        history = history.filter(
            pc.less_equal(history["created"], pa.scalar(known_by, history["created"].type))
        )
    found = match(rows, history, known_by if isinstance(known_by, str) else None)
    times = history["event_timestamp"].cast(TIME).cast(pa.int64()).to_numpy()
    if ttl is not None:
        at = rows["at"].cast(TIME).cast(pa.int64()).to_numpy()
        hit = np.flatnonzero(found >= 0)
        found[hit[at[hit] - times[found[hit]] > ttl * 1_000_000]] = -1
    return history.select(["event_timestamp", *names]).take(pa.array(found, mask=found < 0))


def match(rows: pa.Table, history: pa.Table, known_by: str | None = None) -> Ints:
    """For each row, the position in `history` of its answer before the TTL, or -1.
    int64, length of `rows`.
    """
    asked = pl.DataFrame(
        {"entity": _series(rows, "entity"), "at": _micros(rows, "at")}
    ).with_row_index("row")
    known = pl.DataFrame(
        {
            "entity": _series(history, "entity"),
            "at": _micros(history, "event_timestamp"),
            "created": _micros(history, "created"),
        }
    ).with_row_index("position")
    if known_by is None:
        # polars takes the last of equal times, so the order decides ties
        known = known.sort("at", "created", maintain_order=True).select("entity", "at", "position")
        found = asked.sort("at").join_asof(
            known, on="at", by="entity", strategy="backward", check_sortedness=False
        )
        return found.sort("row")["position"].cast(pl.Int64).fill_null(-1).to_numpy().copy()
    known = known.sort("entity", "at", "created", maintain_order=True).with_row_index("rank")
    found = asked.sort("at").join_asof(
        known.select("entity", "at", "rank"), on="at", by="entity", check_sortedness=False
    )
    rank = found.sort("row")["rank"].cast(pl.Int64).fill_null(-1).to_numpy().copy()
    created, position = known["created"].to_numpy(), known["position"].cast(pl.Int64).to_numpy()
    first = known.select(pl.col("rank").min().over("entity"))["rank"].cast(pl.Int64).to_numpy()
    cutoff = _micros(rows, known_by).to_numpy()
    # walk back over what was not yet known: usually a step or two, since we come to
    # know a thing soon after it happened
    open_ = np.flatnonzero(rank >= 0)
    while len(open_ := open_[created[rank[open_]] > cutoff[open_]]):
        at_first = rank[open_] == first[rank[open_]]
        rank[open_] -= 1
        rank[open_[at_first]] = -1
        open_ = open_[~at_first]
    answer = np.full(len(rank), -1, np.int64)
    hit = rank >= 0
    answer[hit] = position[rank[hit]]
    return answer


def _series(table: pa.Table, name: str) -> pl.Series:
    column = pl.from_arrow(table[name].cast(pa.string()))
    assert isinstance(column, pl.Series)
    return column


def _micros(table: pa.Table, name: str) -> pl.Series:
    column = pl.from_arrow(table[name].cast(TIME).cast(pa.int64()))
    assert isinstance(column, pl.Series)
    return column
