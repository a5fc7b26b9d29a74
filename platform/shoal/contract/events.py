"""Events, in the CloudEvents 1.0 format."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from .names import Identifier


class Event(BaseModel):
    """A CloudEvents 1.0 event in JSON format (https://github.com/cloudevents/spec).

    `id` with `source` names the event: the same pair twice is the same event, and
    handlers must be idempotent by it. `time` is when it happened (it may arrive late);
    `subject` is what it is about, such as the user's id. The tenant is not part of an
    event: it comes from the credential that appends it.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    specversion: Literal["1.0"] = "1.0"
    id: Identifier = Field(default_factory=lambda: uuid4().hex)
    source: Identifier = "shoal"
    type: Identifier
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    subject: Identifier | None = None
    data: Any = None
