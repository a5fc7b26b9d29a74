"""Outcomes that a product posts to an experiment, and the events they become."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shoal import Batch, Event, Identifier, JsonObject, Number, read_rows, validate_rows

from .metrics import OUTCOME, Name
from .repository import Document

MAX_OUTCOMES = 10_000
"""Outcomes in one request."""


class Outcome(BaseModel):
    """What one unit did. With an `id`, sending it twice has no effect."""

    model_config = ConfigDict(extra="forbid")

    unit: Identifier
    metric: Name | None = Field(None, description="The primary metric when not given.")
    value: Number = 1.0
    time: AwareDatetime | None = None
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
    optional = {name: getattr(outcome, name) for name in ("id", "time")}
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
