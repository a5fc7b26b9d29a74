"""Times as numbers: epoch seconds in float64."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def epoch_seconds(times: ArrayLike | Sequence[Any]) -> NDArray[np.float64]:
    """Convert times to epoch seconds.

    Args:
        times: n numbers (taken as epoch seconds), `datetime`s, `numpy.datetime64`s or
            ISO 8601 strings. Times without an offset are UTC.

    Returns:
        n epoch seconds.

    Raises:
        ValueError: A time cannot be read.
    """
    array = np.asarray(times)
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    if array.dtype.kind == "M":
        return array.astype("datetime64[us]").astype(np.int64) / 1e6
    return np.array([_epoch_second(item) for item in array.tolist()], dtype=np.float64)


def _epoch_second(item: Any) -> float:
    if isinstance(item, int | float):
        return float(item)
    if isinstance(item, bytes):
        item = item.decode()
    time = item if isinstance(item, datetime) else datetime.fromisoformat(str(item).strip())
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def to_datetime(seconds: float) -> datetime:
    """The time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def to_rfc3339(seconds: float | None) -> str | None:
    """The time in UTC as RFC 3339 text; None stays None."""
    return None if seconds is None else to_datetime(seconds).isoformat()
