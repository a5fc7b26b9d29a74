"""Times as numbers: epoch seconds in float64, whatever a caller has."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def seconds(times: ArrayLike | Sequence[Any]) -> NDArray[np.float64]:
    """Epoch seconds of numbers (taken as such), datetimes, `datetime64`s or ISO 8601
    strings; naive ones are UTC.

    Raises ValueError at the first that cannot be read.
    """
    array = np.asarray(times)
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    if array.dtype.kind == "M":
        return array.astype("datetime64[us]").astype(np.int64) / 1e6
    return np.array([_second(item) for item in array.tolist()], dtype=np.float64)


def _second(item: Any) -> float:
    if isinstance(item, int | float):
        return float(item)
    if isinstance(item, bytes):
        item = item.decode()
    moment = item if isinstance(item, datetime) else datetime.fromisoformat(str(item).strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
