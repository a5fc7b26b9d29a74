"""The records of a tenant: people, tasks and outcomes."""

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
    WithJsonSchema,
    field_validator,
    model_validator,
)

from shoal import Identifier, Text

DEFAULT_LEVEL = 3
"""The level of a person's skill that is given without one."""
END_OF_TIME = 2100
"""The year before which tasks end, which bounds every calendar."""
MAX_BROKEN = 200
Level = Annotated[float, Field(gt=0, le=5)]
Percent = Annotated[float, Field(ge=0, le=100)]
Hours = Annotated[float, Field(gt=0, le=10_000)]
Weekday = Annotated[int, Field(ge=1, le=7)]
LocalTime = Annotated[
    time,
    WithJsonSchema(
        {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?$"}
    ),
]
"""A time of day without an offset, which JSON Schema's format `time` demands."""


def _check_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not a time zone of the IANA database, such as Europe/Lisbon"
        ) from None
    return name


TimeZone = Annotated[str, Field(max_length=64), AfterValidator(_check_time_zone)]


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


OwnId = Annotated[Identifier, Field(json_schema_extra=_drop_default)]
"""The id of a record; empty, which no request may send, until its path gives it one."""


class Record(BaseModel):
    """What every record has in common: it is frozen, and has no unknown fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
        json_schema_serialization_defaults_required=True,
    )


class WorkingHours(Record):
    """A stretch of local time on every working day; it may run past midnight."""

    start: LocalTime = time(9)
    end: LocalTime = time(17)

    @model_validator(mode="after")
    def _check_stretch(self) -> "WorkingHours":
        if self.start == self.end:
            raise ValueError("working hours must not start and end at the same time")
        if self.start.tzinfo or self.end.tzinfo:
            raise ValueError("working hours are local times without an offset")
        return self


class Leave(Record):
    """Days of absence, both inclusive."""

    start: date = Field(alias="from")
    end: date = Field(alias="to")

    @model_validator(mode="after")
    def _check_order(self) -> "Leave":
        if self.end < self.start:
            raise ValueError("leave must not end before it begins")
        return self


class Person(Record):
    """A person who may be in a team."""

    id: OwnId = ""
    name: Text = ""
    skills: dict[Identifier, Level] = Field(default_factory=dict, max_length=200)
    """Name → level, above 0 (beginner) to 5 (expert)."""
    experience_years: float = Field(0, ge=0, le=80)
    workload: Percent = 0
    """Percent of `capacity_hours` that work other than assigned tasks takes."""
    capacity_hours: Annotated[float, Field(gt=0, le=168)] = Field(
        40, validation_alias=AliasChoices("capacity_hours", "hours_per_week")
    )
    """Per week."""
    time_zone: TimeZone = Field("UTC", validation_alias=AliasChoices("time_zone", "timezone"))
    working_hours: tuple[WorkingHours, ...] = Field((WorkingHours(),), min_length=1, max_length=4)
    working_days: frozenset[Weekday] = Field(frozenset({1, 2, 3, 4, 5}), min_length=1, max_length=7)
    """ISO weekdays: 1 is Monday."""
    available_from: date | None = None
    available_until: date | None = None
    leave: tuple[Leave, ...] = Field((), max_length=200)
    cost_per_hour: float = Field(0, ge=0, le=1e6)

    @field_validator("skills", mode="before")
    @classmethod
    def _read_skills(cls, value: Any) -> Any:
        """Also a list of names, or of {name, level}."""
        return _skill_levels(value)

    @field_validator("working_hours", mode="before")
    @classmethod
    def _read_working_hours(cls, value: Any) -> Any:
        """Also a single stretch, or ["09:00", "17:00"]."""
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
        """The name, or the id of a person without one."""
        return self.name or self.id

    @property
    def has_absences(self) -> bool:
        return bool(self.leave or self.available_from or self.available_until)

    def is_absent(self, day: date) -> bool:
        """Whether it is a day of leave, or one before or after their availability."""
        return (
            (self.available_from is not None and day < self.available_from)
            or (self.available_until is not None and day > self.available_until)
            or any(leave.start <= day <= leave.end for leave in self.leave)
        )


class Requirement(Record):
    """A skill that a task requires of `people` members of the team at least."""

    skill: Identifier
    level: Level = 1
    people: int = Field(1, ge=1, le=50)


class TeamSize(Record):
    """The number of people in a team; in requests `min` and `max`."""

    least: int = Field(1, ge=1, le=50, alias="min")
    most: int = Field(5, ge=1, le=50, alias="max")

    @model_validator(mode="after")
    def _check_order(self) -> "TeamSize":
        if self.most < self.least:
            raise ValueError("max must not be less than min")
        return self


TaskState = Literal["open", "assigned", "done"]


class Task(Record):
    """A piece of work."""

    id: OwnId = ""
    title: str = Field("", max_length=2_000)
    board_id: Text | None = None
    type: Identifier = "task"
    complexity: int = Field(3, ge=1, le=5)
    estimated_hours: Hours
    start: AwareDatetime | None = None
    deadline: AwareDatetime
    skills: tuple[Requirement, ...] = Field((), max_length=50)
    team_size: TeamSize = Field(default_factory=TeamSize.model_construct)
    priority: int = Field(3, ge=1, le=5)
    """From 1 (lowest) to 5 (critical); also by name, see `PRIORITIES`."""
    state: TaskState = "open"
    team: tuple[Identifier, ...] = Field((), max_length=50)
    assigned_at: AwareDatetime | None = None
    """When the team got it; its hours are committed from then on."""
    broken: tuple[Annotated[str, Field(max_length=2_000)], ...] = Field((), max_length=MAX_BROKEN)
    """What later changes made the assignment violate; what requests send is ignored."""
    waived: tuple[Annotated[str, Field(max_length=1_000)], ...] = Field((), max_length=MAX_BROKEN)
    """Rules that an override waived; what requests send is ignored."""

    @model_validator(mode="before")
    @classmethod
    def _read_team_size(cls, value: Any) -> Any:
        """Also `team_min` and `team_max`, or one number or a pair as `team_size`."""
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
    def _read_priority(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        known = PRIORITIES.get(value.casefold())
        if known is None and any(character.isalpha() for character in value):
            raise ValueError(f"must be 1 to 5, or one of {', '.join(PRIORITIES)}")
        return known or value

    @field_validator("start", mode="before")
    @classmethod
    def _read_start(cls, value: Any) -> Any:
        """Also a date, which means its first moment in UTC."""
        return f"{value}T00:00:00Z" if _is_date(value) else value

    @field_validator("deadline", mode="before")
    @classmethod
    def _read_deadline(cls, value: Any) -> Any:
        """Also a date, which means until its last moment in UTC."""
        return _end_of_day(value)

    @field_validator("skills", mode="before")
    @classmethod
    def _read_requirements(cls, value: Any) -> Any:
        """Also a list of names, or {name: level}."""
        if isinstance(value, Mapping):
            return [{"skill": skill, "level": level} for skill, level in value.items()]
        if isinstance(value, list | tuple):
            return [{"skill": item} if isinstance(item, str) else item for item in value]
        return value

    @model_validator(mode="after")
    def _check_consistency(self) -> "Task":
        if self.deadline.year >= END_OF_TIME:
            raise ValueError(f"the deadline must be before the year {END_OF_TIME}")
        if self.start is not None and self.start >= self.deadline:
            raise ValueError("a task must start before its deadline")
        names = [requirement.skill.casefold() for requirement in self.skills]
        if len(set(names)) < len(names):
            raise ValueError("each skill may be required once; `people` is how many must have it")
        return self

    @property
    def label(self) -> str:
        """The title, or the id of a task without one."""
        return self.title or self.id

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """When it can be worked on, in UTC.

        That is from its start, or from now when the start has passed, until its
        deadline.
        """
        start = self.start if self.start is not None and self.start > now else now
        return start.astimezone(UTC), self.deadline.astimezone(UTC)

    def committed_window(self, now: datetime) -> tuple[datetime, datetime]:
        """When the team works on it, in UTC: from its start or assignment on."""
        return self.window(self.assigned_at or now)


PRIORITIES = {"lowest": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}


class Outcome(Record):
    """The outcome of a task for the people who did it."""

    id: OwnId = ""
    task: str = Field("", max_length=512, validation_alias=AliasChoices("task", "task_id"))
    type: Identifier = "task"
    people: tuple[Identifier, ...] = Field(min_length=1, max_length=50)
    estimated_hours: Hours
    actual_hours: Hours
    quality: float = Field(1.0, ge=0, le=1)
    days_early: float = Field(0, ge=-3650, le=3650)
    """Days before the deadline; negative when it was late."""
    finished_at: AwareDatetime = Field(validation_alias=AliasChoices("finished_at", "completed_at"))

    @field_validator("finished_at", mode="before")
    @classmethod
    def _read_finished_at(cls, value: Any) -> Any:
        """Also a date, which means its last moment in UTC."""
        return _end_of_day(value)

    @model_validator(mode="before")
    @classmethod
    def _read_days_early(cls, value: Any) -> Any:
        """Also `deadline`, from which the days early are computed."""
        if not isinstance(value, Mapping) or "deadline" not in value:
            return value
        value = dict(value)
        deadline = value.pop("deadline")
        if "days_early" in value or not deadline:
            return value
        finished = value.get("finished_at", value.get("completed_at"))
        try:
            days = (
                datetime.fromisoformat(str(_end_of_day(deadline)))
                - datetime.fromisoformat(str(_end_of_day(finished)))
            ).total_seconds() / 86_400
        except (TypeError, ValueError):
            raise ValueError("deadline and finished_at must be times with an offset") from None
        return {**value, "days_early": round(days, 4)}

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes it the same outcome: its task, people and moment.

        A time in another offset is the same moment.
        """
        moment = self.finished_at.astimezone(UTC).isoformat()
        return (self.task, ",".join(sorted(set(self.people))), moment)

    @property
    def success(self) -> float:
        """The mean of quality and min(1, estimated / actual hours), in [0, 1]."""
        return (self.quality + min(1.0, self.estimated_hours / self.actual_hours)) / 2


def _is_date(value: Any) -> bool:
    """Whether it is a date without a time, such as 2026-05-12."""
    if not isinstance(value, str) or len(value) != 10:
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _end_of_day(value: Any) -> Any:
    return f"{value}T23:59:59Z" if _is_date(value) else value


def _skill_levels(value: Any) -> Any:
    """A mapping from a list of names, or of {name or skill, level}."""
    if not isinstance(value, list | tuple):
        return value
    found: dict[Any, Any] = {}
    for item in value:
        if isinstance(item, str):
            found[item] = DEFAULT_LEVEL
        elif isinstance(item, Mapping) and (name := item.get("name", item.get("skill"))):
            found[name] = item.get("level", DEFAULT_LEVEL)
        else:
            raise ValueError('skills are {"Python": 4} or [{"name": "Python", "level": 4}]')
    return found
