"""Outcomes that a product posts to an experiment, and the events they become."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shoal import Event, Identifier, Invalid, Malformed

from .metrics import OUTCOME, Finite, Name
from .repository import Document

MAX_OUTCOMES = 10_000
"""Outcomes in one request."""


class Outcome(BaseModel):
    """What one unit did. With an `id`, sending it twice has no effect."""

    model_config = ConfigDict(extra="forbid")

    unit: Identifier
    metric: Name | None = Field(None, description="The primary metric when not given.")
    value: Finite = 1.0
    time: AwareDatetime | None = None
    id: Identifier | None = None
    data: dict[str, Any] = {}


def parse_rows(body: bytes, content_type: str) -> list[Any]:
    """The rows of a request's body: a JSON object or array, or one JSON value per line.

    Raises:
        Malformed: The body is not JSON.
        Invalid: There are more than `MAX_OUTCOMES` rows.
    """
    try:
        if "ndjson" in content_type:
            rows = [orjson.loads(line) for line in body.splitlines() if line.strip()]
        else:
            parsed = orjson.loads(body)
            rows = parsed if isinstance(parsed, list) else [parsed]
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    if len(rows) > MAX_OUTCOMES:
        raise Invalid(
            f"at most {MAX_OUTCOMES:,} outcomes per request",
            errors=[{"location": "body", "message": f"{len(rows):,} outcomes"}],
        )
    return rows


def outcome_events(document: Document, rows: list[Any]) -> tuple[list[Event], list[dict[str, Any]]]:
    """The events of the valid rows, and `index` and `error` of each other row."""
    accepted = [
        m.name for m in document.design.metrics() if any(s.event == OUTCOME for _, s in m.sources())
    ]
    events, rejected = [], []
    for index, row in enumerate(rows):
        try:
            events.append(_event(document, accepted, Outcome.model_validate(row)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            message = f"{where}: {first['msg']}" if where else first["msg"]
            rejected.append({"index": index, "error": message})
        except _UnknownMetric as error:
            rejected.append({"index": index, "error": str(error)})
    return events, rejected


class _UnknownMetric(Exception):
    """The experiment takes no posted outcomes for this metric."""


def _event(document: Document, accepted: list[str], outcome: Outcome) -> Event:
    metric = outcome.metric or document.design.primary.name
    if metric not in accepted:
        raise _UnknownMetric(
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
