"""The facts about a company that its prose does not hold: who works there, on which
boards, and what is to be done.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .model import Priority, Query, Requirement


@dataclass(frozen=True, slots=True)
class Employee:
    """A person's facts that do not depend on the seed."""

    id: str
    name: str
    title: str
    timezone: str
    working_hours: tuple[str, str]
    hours_per_week: float
    cost_per_hour: float
    experience_years: float
    skills: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Job:
    """A kind of work, as one line: future tasks and past outcomes are drawn from these."""

    title: str
    board_id: str
    type: str
    hours: float
    complexity: int
    priority: Priority
    skills: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """What customers use, for the metrics: `service` labels the series, the figures are
    a usual hour's.
    """

    service: str
    timezone: str
    requests: float
    latency_ms: float
    error_rate: float
    active_users: float
    weekend: float
    """Share of a weekday's load."""
    peaks: tuple[float, float]
    """Local hours of the two daily peaks."""


@dataclass(frozen=True, slots=True)
class Company:
    """One tenant's fixed facts. `members`: per board, the ids of those who see it."""

    id: str
    name: str
    employees: tuple[Employee, ...]
    members: Mapping[str, str]
    jobs: tuple[Job, ...]
    product: Product
    queries: tuple[Query, ...]


def employee(
    id: str,
    name: str,
    title: str,
    place: str,
    hours: str,
    figures: tuple[float, float, float],
    skills: str,
) -> Employee:
    """`hours`: "09:00-17:30"; `figures`: hours a week, euros an hour, years; `skills`:
    "Python 4, SQL 3".
    """
    start, end = hours.split("-")
    levels = {skill: int(level) for skill, level in (s.rsplit(" ", 1) for s in skills.split(", "))}
    return Employee(id, name, title, place, (start, end), *figures, levels)


def job(
    title: str,
    board: str,
    type: str,
    hours: float,
    complexity: int,
    priority: Priority,
    skills: str,
) -> Job:
    """`skills`: "Python 4 x2, SQL 3" means two people with Python at 4 or better and
    one with SQL at 3 or better.
    """
    requirements = []
    for part in skills.split(", "):
        need, _, people = part.partition(" x")
        skill, level = need.rsplit(" ", 1)
        requirements.append(Requirement(skill, int(level), int(people or 1)))
    return Job(title, board, type, hours, complexity, priority, tuple(requirements))
