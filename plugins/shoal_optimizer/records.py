"""People, tasks and outcomes: what the optimizer knows of a tenant's work."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from shoal import Identifier

Level = Annotated[float, Field(gt=0, le=5)]
Percent = Annotated[float, Field(ge=0, le=100)]
Hours = Annotated[float, Field(gt=0, le=10_000)]
Weekday = Annotated[int, Field(ge=1, le=7)]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not a time zone of the IANA database, such as Europe/Lisbon"
        ) from None
    return name


TimeZone = Annotated[str, AfterValidator(_known_zone)]


class Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True
    )


class WorkingHours(Record):
    """One stretch of local time on every working day; it may run past midnight."""

    start: time = time(9)
    end: time = time(17)

    @model_validator(mode="after")
    def _some_time(self) -> "WorkingHours":
        if self.start == self.end:
            raise ValueError("working hours must not start and end at the same time")
        if self.start.tzinfo or self.end.tzinfo:
            raise ValueError("working hours are local times: leave out the offset")
        return self


class Leave(Record):
    """Days away, both inclusive."""

    start: date = Field(alias="from")
    end: date = Field(alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> "Leave":
        if self.end < self.start:
            raise ValueError("leave must not end before it begins")
        return self


class Person(Record):
    """One person. `workload` is the percentage of `capacity_hours` (a week) that is
    committed already.
    """

    id: Identifier = ""
    name: str = ""
    skills: dict[Identifier, Level] = Field(default_factory=dict)
    """Skill → level, from above 0 (heard of it) to 5 (teaches it)."""
    experience_years: float = Field(0, ge=0, le=80)
    workload: Percent = 0
    capacity_hours: Annotated[float, Field(gt=0, le=168)] = Field(
        40, validation_alias=AliasChoices("capacity_hours", "hours_per_week")
    )
    """A week."""
    time_zone: TimeZone = Field("UTC", validation_alias=AliasChoices("time_zone", "timezone"))
    working_hours: tuple[WorkingHours, ...] = Field((WorkingHours(),), min_length=1, max_length=4)
    working_days: frozenset[Weekday] = Field(frozenset({1, 2, 3, 4, 5}), min_length=1)
    """ISO weekdays: 1 is Monday."""
    available_from: date | None = None
    available_until: date | None = None
    leave: tuple[Leave, ...] = ()
    cost_per_hour: float = Field(0, ge=0, le=1e6)

    @field_validator("skills", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return _as_mapping(value, "level", 3)

    @field_validator("working_hours", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        """Also one stretch alone, and ["09:00", "17:00"]."""
        if isinstance(value, Mapping | WorkingHours):
            return (value,)
        if (
            isinstance(value, list | tuple)
            and len(value) == 2
            and all(isinstance(v, str | time) for v in value)
        ):
            return ({"start": value[0], "end": value[1]},)
        return value

    @property
    def label(self) -> str:
        return self.name or self.id

    def away(self, day: date) -> bool:
        """Whether leave or availability keeps them from working that day."""
        return (
            (self.available_from is not None and day < self.available_from)
            or (self.available_until is not None and day > self.available_until)
            or any(leave.start <= day <= leave.end for leave in self.leave)
        )


class Requirement(Record):
    """A skill that a task needs: in at least `people` members of the team, each at
    `level` or above.
    """

    skill: Identifier
    level: Level = 1
    people: int = Field(1, ge=1, le=50)


class TeamSize(Record):
    least: int = Field(1, ge=1, le=50, alias="min")
    most: int = Field(5, ge=1, le=50, alias="max")

    @model_validator(mode="after")
    def _in_order(self) -> "TeamSize":
        if self.most < self.least:
            raise ValueError("the largest team must not be smaller than the smallest")
        return self


TaskState = Literal["open", "assigned", "done"]


class Task(Record):
    """One piece of work. `priority` runs from 1 (can wait) to 5 (first of all)."""

    id: Identifier = ""
    title: str = ""
    board_id: str | None = None
    type: Identifier = "task"
    complexity: int = Field(3, ge=1, le=5)
    estimated_hours: Hours
    start: AwareDatetime | None = None
    deadline: AwareDatetime
    skills: tuple[Requirement, ...] = Field((), max_length=50)
    team_size: TeamSize = Field(default_factory=TeamSize.model_construct)
    priority: int = Field(3, ge=1, le=5)
    """Also low (2), medium (3), high (4) or critical (5)."""
    state: TaskState = "open"
    team: tuple[Identifier, ...] = ()
    committed: dict[Identifier, float] = Field(default_factory=dict)
    """Percentage points of workload that the assignment added to each of the team."""

    @model_validator(mode="before")
    @classmethod
    def _bounds(cls, value: Any) -> Any:
        """Also team_min and team_max, and a team size as one number or a pair."""
        if not isinstance(value, Mapping):
            return value
        value = dict(value)
        low, high = value.pop("team_min", None), value.pop("team_max", None)
        size = value.get("team_size")
        if isinstance(size, int) and not isinstance(size, bool):
            low = high = size
        elif isinstance(size, list | tuple) and len(size) == 2:
            low, high = size
        if low is not None or high is not None:
            low = 1 if low is None else low
            value["team_size"] = {
                "min": low,
                "max": max(5, low) if high is None and isinstance(low, int) else high,
            }
        return value

    @field_validator("priority", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return PRIORITIES.get(value.casefold(), value) if isinstance(value, str) else value

    @field_validator("start", mode="before")
    @classmethod
    def _dated(cls, value: Any) -> Any:
        """A date alone means its first moment in UTC."""
        return f"{value}T00:00:00Z" if isinstance(value, str) and len(value) == 10 else value

    @field_validator("skills", mode="before")
    @classmethod
    def _mapped(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return [{"skill": skill, "level": level} for skill, level in value.items()]
        if isinstance(value, list | tuple):
            return [{"skill": item} if isinstance(item, str) else item for item in value]
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Task":
        if self.start is not None and self.start >= self.deadline:
            raise ValueError("a task must start before its deadline")
        names = [requirement.skill.casefold() for requirement in self.skills]
        if len(set(names)) < len(names):
            raise ValueError("a skill must be required once: put the number of people in `people`")
        return self

    @property
    def label(self) -> str:
        return self.title or self.id

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """When it can be worked on: from its start, or from now when that is past,
        until its deadline.
        """
        start = self.start if self.start is not None and self.start > now else now
        return start.astimezone(UTC), self.deadline.astimezone(UTC)


PRIORITIES = {"lowest": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}


class Outcome(Record):
    """How one task went for the people who did it."""

    id: Identifier = ""
    task: str = Field("", max_length=512, validation_alias=AliasChoices("task", "task_id"))
    type: Identifier = "task"
    people: tuple[Identifier, ...] = Field(min_length=1, max_length=50)
    estimated_hours: Hours
    actual_hours: Hours
    quality: float = Field(1.0, ge=0, le=1)
    days_early: float = Field(0, ge=-3650, le=3650)
    """Days before the deadline; negative when it was late."""
    finished_at: AwareDatetime = Field(validation_alias=AliasChoices("finished_at", "completed_at"))

    @model_validator(mode="before")
    @classmethod
    def _from_deadline(cls, value: Any) -> Any:
        """Days early also from the deadline and the moment it was finished."""
        if not isinstance(value, Mapping) or "days_early" in value or not value.get("deadline"):
            return value
        finished = value.get("finished_at", value.get("completed_at"))
        try:
            days = (
                datetime.fromisoformat(str(value["deadline"]))
                - datetime.fromisoformat(str(finished))
            ).total_seconds() / 86_400
        except (TypeError, ValueError):
            raise ValueError("deadline and finished_at must be times with an offset") from None
        return {**value, "days_early": round(days, 4)}

    @property
    def success(self) -> float:
        """In [0, 1]: the mean of quality and of punctuality (estimate over actual
        hours, at most 1).
        """
        return (self.quality + min(1.0, self.estimated_hours / self.actual_hours)) / 2


def _as_mapping(value: Any, number: str, default: float) -> Any:
    """A mapping from a mapping, a list of names, or a list of {name|skill, level}."""
    if not isinstance(value, list | tuple):
        return value
    found: dict[Any, Any] = {}
    for item in value:
        if isinstance(item, str):
            found[item] = default
        elif isinstance(item, Mapping) and (name := item.get("name", item.get("skill"))):
            found[name] = item.get(number, default)
        else:
            raise ValueError('skills are {"Python": 4} or [{"name": "Python", "level": 4}]')
    return found
