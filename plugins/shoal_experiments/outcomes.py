"""Outcomes that a product posts to an experiment, and the events they become."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from shoal import Batch, Event, Identifier, JsonObject, Number, read_rows, validate_rows

from .metrics import OUTCOME, Name
from .repository import Document

MAX_OUTCOMES = 10_000
"""Outcomes in one request."""


def _check_time(value: Any) -> Any:
    # Pydantic would read a number, or the text of one, as seconds or milliseconds.
    if value is not None and (not isinstance(value, str) or "T" not in value.upper()):
        raise ValueError("must be RFC 3339 text, such as 2026-03-02T09:00:00+01:00")
    return value


class Outcome(BaseModel):
    """What one unit did. With an `id`, sending it twice for the unit has no effect."""

    model_config = ConfigDict(extra="forbid")

    unit: Identifier
    metric: Name | None = Field(None, description="The primary metric when not given.")
    value: Annotated[Number, Field(strict=True)] = 1.0
    time: Annotated[AwareDatetime | None, BeforeValidator(_check_time)] = None
    id: Identifier | None = None
    data: JsonObject = {}


def read_outcomes(body: bytes, content_type: str, document: Document) -> Batch[Event]:
    """The events of the valid rows of a body, and the errors of the others."""
    rows = read_rows(body, content_type, limit=MAX_OUTCOMES)
    accepted = [
        m.name for m in document.design.metrics() if any(s.event == OUTCOME for _, s in m.sources())
    ]
    return validate_rows(rows, lambda row: _event(document, accepted, Outcome.model_validate(row)))


def _event(document: Document, accepted: list[str], outcome: Outcome) -> Event:
    metric = outcome.metric or document.design.primary.name
    if metric not in accepted:
        raise ValueError(
            f"metric: {metric!r} does not accept posted outcomes; "
            + (
                f"these metrics do: {', '.join(accepted)}"
                if accepted
                else "all metrics of this experiment come from logged events"
            )
        )
    found = next(m for m in document.design.metrics() if m.name == metric)
    if found.binary and outcome.value != 1:
        raise ValueError(
            f"value: {metric!r} counts the units that have an outcome: send none for a unit without"
        )
    end, time = document.stopped_at, outcome.time or datetime.now(UTC)
    if end is not None and time > end and found.window_days is None:
        raise ValueError(f"time: the experiment was stopped at {end.isoformat()}; this is later")
    optional: dict[str, Any] = {"time": outcome.time}
    if outcome.id is not None:  # an id is the unit's own: of another unit it is another outcome
        own = f"{outcome.unit}\0{outcome.id}"
        optional["id"] = hashlib.sha256(own.encode()).hexdigest()
    return Event(
        # A source per metric: one order (one id) may be an outcome of several metrics.
        source=f"experiments/{document.id}/{metric}",
        type=OUTCOME,
        subject=outcome.unit,
        data={
            **outcome.data,
            "experiment": document.id,
            "metric": metric,
            "value": outcome.value,
        },
        **{name: value for name, value in optional.items() if value is not None},
    )
