"""The parts of a workspace; `as_json` converts each of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, datetime
from typing import Any, Literal

ItemType = Literal["item", "update", "doc", "file"]
IncidentKind = Literal["outage", "drop", "spike", "combination", "drift", "level_shift"]
Priority = Literal["low", "medium", "high", "critical"]


@dataclass(frozen=True, slots=True)
class Board:
    """A board and the ids of the users who can see it."""

    id: str
    name: str
    description: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """Days off, from `start` to `end` inclusive."""

    start: date
    end: date


@dataclass(frozen=True, slots=True)
class Person:
    """A person who can be assigned to tasks.

    Skill levels run from 1 (beginner) to 5 (expert); `workload` is in percent of
    `hours_per_week`; `working_hours` are local times in `timezone`; `cost_per_hour` is
    in euros.
    """

    id: str
    name: str
    skills: Mapping[str, int]
    experience_years: float
    timezone: str
    working_hours: tuple[str, str]
    hours_per_week: float
    cost_per_hour: float
    workload: float
    leave: tuple[Leave, ...] = ()


@dataclass(frozen=True, slots=True)
class Requirement:
    """A skill that a task needs, its minimum level, and from how many people."""

    skill: str
    level: int = 3
    people: int = 1


@dataclass(frozen=True, slots=True)
class Task:
    """Work to be assigned to a team. `complexity` runs from 1 to 5."""

    id: str
    title: str
    board_id: str
    type: str
    complexity: int
    estimated_hours: float
    start: date
    deadline: datetime
    skills: tuple[Requirement, ...]
    team_min: int
    team_max: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a past task. `quality` is in [0, 1]; `people[0]` led it."""

    task_id: str
    type: str
    people: tuple[str, ...]
    estimated_hours: float
    actual_hours: float
    deadline: datetime
    completed_at: datetime
    quality: float


@dataclass(frozen=True, slots=True)
class Item:
    """One text of the workspace, as `POST /search/items` accepts it."""

    id: str
    board_id: str
    type: ItemType
    title: str
    text: str
    updated_at: datetime
    url: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Incident:
    """A true anomaly in `metrics`, as a label; a level shift is the new normal."""

    id: str
    title: str
    kind: IncidentKind
    metrics: tuple[str, ...]
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Query:
    """An example search: the text, the user, and the board with the best hits."""

    text: str
    board_id: str
    user: str | None = None


def as_json(value: Any) -> Any:
    """`value` with dataclasses as dicts, times in RFC 3339 and tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: as_json(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value
