"""An archive of events, as the lake stores it."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class SampleEvent:
    """The parts of an event that are read."""

    id: str
    time: datetime
    type: str = "action.done"
    source: str = "test"
    subject: str | None = None
    data: Any = None


def archive(events: list[SampleEvent]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([e.id for e in events], pa.string()),
            "source": pa.array([e.source for e in events], pa.string()),
            "type": pa.array([e.type for e in events], pa.string()),
            "time": pa.array([e.time for e in events], pa.timestamp("us", "UTC")),
            "subject": pa.array([e.subject for e in events], pa.string()),
            "data": pa.array(
                [None if e.data is None else json.dumps(e.data) for e in events], pa.string()
            ),
        }
    )
