"""Experiments as they are stored: design, state and decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shoal import Conflict, ExperimentRecord, NotFound, Stores

from .design import Design

Status = Literal["draft", "running", "stopped", "promoting", "promoted", "rolled back"]

KEY = ("experiments", "documents")
"""Hash of the tenant's experiments: id → document as JSON."""

VALUES = "Values of the capability's parameters."

_COMPARE_AND_SET = """
-- KEYS[1]: the hash of experiments
-- ARGV[1]: the experiment's id
-- ARGV[2]: the document that is expected there, or '' for none
-- ARGV[3]: the document to store, or '' to delete it
-- Returns 1 when it was stored or deleted, 0 when another document was there.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if (current or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
    redis.call('HDEL', KEYS[1], ARGV[1])
else
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
"""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class Plan(_Stored):
    """What was computed before the start: units per arm, duration, and from what."""

    per_arm: int
    total: int
    duration_days: float
    baseline: float | None = None
    variance: float | None = None
    units_per_day: float | None = None
    notes: list[str] = []


class TakenLook(_Stored):
    """A stored look: a group-sequential test's, or the first one at a fixed test.

    A group-sequential test shows its results until the next look.
    """

    time: float
    information: float
    bound: float
    at: AwareDatetime
    results: dict[str, Any]


class Ramp(_Stored):
    """A promotion in steps: growing percentages of the units, over some days.

    `reached` says when each step began, by its index. A step may be skipped.
    """

    variant: str
    steps: list[float]
    days: float
    started_at: AwareDatetime
    step: int = 0
    reached: dict[int, AwareDatetime] = {}
    state: Literal["running", "done", "rolled back"] = "running"
    reason: str = ""


class Change(_Stored):
    """One change of state: when, by whom, and what."""

    at: AwareDatetime
    by: str
    what: str


class ExperimentFields(_Stored):
    """What everybody may read of an experiment.

    `hash` is the design's, computed at the start; the design never changes after it.
    `previous` are the tenant's own values before the promotion. `changed_control` are
    the varied parameters whose value in the control changed while it ran.
    """

    id: str
    design: Design
    status: Status = "draft"
    hash: str | None = None
    plan: Plan | None = None
    layer_range: tuple[int, int] | None = None
    created_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    started_at: AwareDatetime | None = None
    stopped_at: AwareDatetime | None = None
    winner: str | None = Field(default=None, description="The variant that was promoted.")
    promoted: dict[str, Any] | None = Field(default=None, description=VALUES)
    previous: dict[str, Any] | None = Field(default=None, description=VALUES)
    values: dict[str, Any] | None = Field(
        default=None, description="Values in effect without the experiment, as last seen."
    )
    values_changed_at: dict[str, AwareDatetime] = Field(
        default={}, description="When each of these last got another value, as last seen."
    )
    changed_control: list[str] = []
    changed_assignment: bool = Field(
        default=False, description="Whether the router's assignment was changed while it ran."
    )
    ramp: Ramp | None = None
    history: list[Change] = []


class Document(ExperimentFields):
    """One experiment, without its data."""

    looks: list[TakenLook] = []

    def record(self) -> ExperimentRecord:
        """What the router is told of the experiment while it runs."""
        return self.design.record(
            self.id, status="running", started_at=self.started_at, layer_range=self.layer_range
        )

    def with_change(
        self, by: str, what: str, at: datetime | None = None, **fields: Any
    ) -> Document:
        """A copy with these fields changed, and the change added to its history."""
        change = Change(at=at or datetime.now(UTC), by=by, what=what)
        return self.model_copy(update={**fields, "history": [*self.history, change]})


class Repository:
    """A tenant's experiments.

    Every write names the document that it replaces, so that of two writes at the same
    time one gets a conflict.
    """

    def __init__(self, stores: Stores) -> None:
        self._online = stores.online

    async def get(self, id: str) -> Document:
        """The experiment with this id.

        Raises:
            NotFound: There is none.
        """
        document = await self.find(id)
        if document is None:
            raise NotFound(f"no experiment {id!r}")
        return document

    async def find(self, id: str) -> Document | None:
        """The experiment with this id, or None."""
        raw = await self._online.hget(KEY, id)
        return None if raw is None else Document.model_validate_json(raw)

    async def all(self) -> list[Document]:
        """All experiments, in order of creation."""
        raws = await self._online.hgetall(KEY)
        return sorted(
            (Document.model_validate_json(raw) for raw in raws.values()),
            key=lambda d: (d.created_at, d.id),
        )

    async def put(self, document: Document, replaces: Document | None) -> Document:
        """Store a document in place of `replaces` (None for a new one).

        Raises:
            Conflict: Another document is stored by now.
        """
        await self._compare_and_set(document.id, replaces, document.model_dump_json())
        return document

    async def delete(self, document: Document) -> None:
        """Delete a document.

        Raises:
            Conflict: Another document is stored by now.
        """
        await self._compare_and_set(document.id, document, "")

    async def _compare_and_set(self, id: str, before: Document | None, after: str) -> None:
        expected = "" if before is None else before.model_dump_json()
        if not await self._online.eval(_COMPARE_AND_SET, [KEY], [id, expected, after]):
            raise Conflict(f"experiment {id!r} was changed at the same time; read it again")
