"""Events, in the CloudEvents 1.0 format."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import uuid4

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from .names import Identifier

MAX_EVENT_BYTES = 512 * 2**10
"""An event in JSON; a larger one cannot be appended."""
MAX_EXTENSIONS = 50
"""Attributes of an event beyond those that CloudEvents names."""


class Event(BaseModel):
    """A CloudEvents 1.0 event in JSON format (https://github.com/cloudevents/spec).

    `id` with `source` names the event: the same pair twice is the same event, and
    handlers must be idempotent by it. `time` is when it happened (it may arrive late);
    `subject` is what it is about, such as the user's id. The tenant is not part of an
    event: it comes from the credential that appends it.
    """

    model_config = ConfigDict(
        frozen=True, extra="allow", json_schema_extra={"maxProperties": 7 + MAX_EXTENSIONS}
    )

    specversion: Literal["1.0"] = "1.0"
    id: Identifier = Field(default_factory=lambda: uuid4().hex)
    source: Identifier = "shoal"
    type: Identifier
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    subject: Identifier | None = None
    data: Annotated[Any, WithJsonSchema({"x-shoal-bytes": MAX_EVENT_BYTES})] = Field(
        default=None, description="What happened, as events of this type have it: any JSON."
    )

    _position: str | None = PrivateAttr(default=None)

    @property
    def position(self) -> str | None:
        """Its place in the tenant's log, `milliseconds-sequence`; None outside a log.

        An event that is delivered again has the place that it had the first time.
        """
        return self._position

    def at(self, position: str) -> Self:
        """This event at a place in the log."""
        placed = self.model_copy()
        placed._position = position
        return placed

    @field_validator("time")
    @classmethod
    def _check_time(cls, time: datetime) -> datetime:
        try:
            time.astimezone(UTC)
        except OverflowError:
            raise ValueError("must be between the years 1 and 9999 in UTC") from None
        return time

    @model_validator(mode="after")
    def _check_extensions(self) -> Self:
        if self.model_extra and len(self.model_extra) > MAX_EXTENSIONS:
            raise ValueError(f"at most {MAX_EXTENSIONS} extension attributes are accepted")
        return self


MAX_REASON = 2_000
"""Characters."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event that a stream cannot use, and why: see `TenantContext.reject`."""

    event: Event
    reason: str
