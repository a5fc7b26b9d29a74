"""An experiment as it is kept: its design, its state and what was decided, in one hash
per tenant.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shoal import Conflict, NotFound, Stores

from .design import Design

Status = Literal["draft", "running", "stopped", "promoting", "promoted", "rolled back"]

KEY = ("experiments", "documents")

_SWAP = """
local now = redis.call('HGET', KEYS[1], ARGV[1])
if (now or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
"""


class Plan(BaseModel):
    """What was computed before the start: units per arm, whole duration, and from what."""

    per_arm: int
    total: int
    duration_days: float
    baseline: float | None = None
    variance: float | None = None
    units_per_day: float | None = None
    notes: list[str] = []


class TakenLook(BaseModel):
    """A look of a group-sequential test: taken once, and shown as it was until the
    next.
    """

    time: float
    information: float
    bound: float
    at: AwareDatetime
    results: dict[str, Any]


class Ramp(BaseModel):
    """The winner's way to everyone: percentages of the units, one step after the other,
    over some days.
    """

    variant: str
    steps: list[float]
    days: float
    started_at: AwareDatetime
    step: int = 0
    state: Literal["running", "done", "rolled back"] = "running"
    reason: str = ""


class Change(BaseModel):
    """One change of state."""

    at: AwareDatetime
    by: str
    what: str


class Document(BaseModel):
    """Everything of one experiment but its data. `hash` is the design's, taken at the
    start; the design never changes after it.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    design: Design
    status: Status = "draft"
    hash: str | None = None
    plan: Plan | None = None
    layer_range: tuple[int, int] | None = None
    created_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    started_at: AwareDatetime | None = None
    stopped_at: AwareDatetime | None = None
    looks: list[TakenLook] = []
    promoted: dict[str, Any] | None = None
    previous: dict[str, Any] | None = None
    """The tenant's own values before the promotion."""
    ramp: Ramp | None = None
    history: list[Change] = []

    def changed(self, by: str, what: str, **fields: Any) -> Document:
        """A copy with other fields and one more line of history."""
        line = Change(at=datetime.now(UTC), by=by, what=what)
        return self.model_copy(update={**fields, "history": [*self.history, line]})


class Documents:
    """A tenant's experiments. Every write names what it replaces: of two at once, one
    is told of the conflict.
    """

    def __init__(self, stores: Stores) -> None:
        self._online = stores.online

    async def get(self, id: str) -> Document:
        raw = await self._online.hget(KEY, id)
        if raw is None:
            raise NotFound(f"no experiment {id!r}")
        return Document.model_validate_json(raw)

    async def find(self, id: str) -> Document | None:
        raw = await self._online.hget(KEY, id)
        return None if raw is None else Document.model_validate_json(raw)

    async def all(self) -> list[Document]:
        """In order of creation."""
        raws = await self._online.hgetall(KEY)
        return sorted(
            (Document.model_validate_json(raw) for raw in raws.values()),
            key=lambda d: (d.created_at, d.id),
        )

    async def put(self, document: Document, replaces: Document | None) -> Document:
        """Store it if what is stored is still `replaces`. Raises Conflict otherwise."""
        await self._swap(document.id, replaces, document.model_dump_json())
        return document

    async def delete(self, document: Document) -> None:
        await self._swap(document.id, document, "")

    async def _swap(self, id: str, before: Document | None, after: str) -> None:
        expected = "" if before is None else before.model_dump_json()
        if not await self._online.eval(_SWAP, [KEY], [id, expected, after]):
            raise Conflict(f"experiment {id!r} was changed at the same time; read it again")
