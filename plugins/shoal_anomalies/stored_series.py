"""What is stored of each series besides its points: metric, labels, kind."""

import logging
from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from .points import Kind, Point

log = logging.getLogger("shoal.anomalies")


class StoredSeries(BaseModel):
    """A series as it is stored.

    version: of the stored form.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    version: Literal[1] = 1
    metric: str
    labels: dict[str, str]
    kind: Kind = "gauge"

    def to_bytes(self) -> bytes:
        return orjson.dumps(self.model_dump())

    def public(self) -> dict[str, Any]:
        """What the API tells of it."""
        return {"metric": self.metric, "labels": self.labels, "kind": self.kind}

    @staticmethod
    def of(point: Point) -> "StoredSeries":
        """The series of a point."""
        return StoredSeries(metric=point.metric, labels=dict(point.labels), kind=point.kind)


def load_series(name: str, stored: bytes | None) -> StoredSeries | None:
    """A series by its id; None if it is not known or cannot be read.

    The next point of a series that cannot be read writes it again.
    """
    if stored is None:
        return None
    try:
        return StoredSeries.model_validate_json(stored)
    except ValidationError as error:
        log.warning(
            "series %s is unreadable until its next point: %d errors", name, error.error_count()
        )
        return None


def load_all_series(stored: Mapping[bytes, bytes]) -> dict[str, StoredSeries]:
    """The series that can be read, by id, from the whole hash."""
    found = {name.decode(): load_series(name.decode(), text) for name, text in stored.items()}
    return {name: series for name, series in found.items() if series is not None}
