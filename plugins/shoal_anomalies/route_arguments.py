"""Arguments that several operations have in common."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime

from shoal import Invalid

from .points import RETENTION

Limit = Annotated[int, Query(ge=1, le=1000)]
From = Annotated[AwareDatetime | None, Query(alias="from")]
To = Annotated[AwareDatetime | None, Query(alias="to")]
Metric = Annotated[str | None, Query(max_length=200)]


def time_range(
    start: datetime | None, end: datetime | None, default: timedelta
) -> tuple[float, float]:
    """Start and end in epoch seconds, within the retention.

    The end defaults to now, the start to `default` before the end.

    Raises:
        Invalid: The end is not after the start.
    """
    now = datetime.now(UTC)
    high = (end or now + timedelta(minutes=5)).timestamp()
    low = start.timestamp() if start else high - default.total_seconds()
    if high <= low:
        raise Invalid(
            "`to` must be after `from`",
            errors=[{"location": "query.to", "message": "must be after `from`"}],
        )
    return max(low, (now - RETENTION - timedelta(days=1)).timestamp()), high


def is_number(text: str) -> bool:
    """Whether a text consists of the digits 0 to 9; "²" is a digit too, elsewhere."""
    return text.isascii() and text.isdigit()
