"""What is fixed about a sample tenant: its people, boards, tasks and product."""

import csv
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import cast

from .model import Priority, Query, Requirement


@dataclass(frozen=True, slots=True)
class Employee:
    """The facts about a person that do not depend on the seed."""

    id: str
    name: str
    timezone: str
    working_hours: tuple[str, str]
    hours_per_week: float
    cost_per_hour: float
    experience_years: float
    skills: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TaskTemplate:
    """A kind of work, from which future tasks and past outcomes are drawn."""

    title: str
    board_id: str
    type: str
    hours: float
    complexity: int
    priority: Priority
    skills: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """What the tenant's customers use, with the values of a typical hour.

    `service` labels the series; `requests` are per minute; `weekend` is the share of a
    weekday's load; `peaks` are the local hours of the two daily peaks.
    """

    service: str
    timezone: str
    requests: float
    latency_ms: float
    error_rate: float
    active_users: float
    weekend: float
    peaks: tuple[float, float]


@dataclass(frozen=True, slots=True)
class TenantProfile:
    """The fixed facts of one tenant; `members` lists the user ids of each board."""

    tenant: str
    name: str
    employees: tuple[Employee, ...]
    members: Mapping[str, tuple[str, ...]]
    task_templates: tuple[TaskTemplate, ...]
    product: Product
    queries: tuple[Query, ...]


def read_text(tenant: str, name: str) -> str:
    """The content of one of a tenant's data files."""
    return files(__package__).joinpath(tenant, name).read_text(encoding="utf-8")


def load_profile(tenant: str) -> TenantProfile:
    """The profile of a tenant from its files, `<tenant>/*.toml` and `*.csv`."""
    profile = tomllib.loads(read_text(tenant, "profile.toml"))
    product = profile["product"]
    return TenantProfile(
        tenant=tenant,
        name=profile["name"],
        employees=tuple(map(_employee, _rows(tenant, "employees.csv"))),
        members={board: tuple(users.split()) for board, users in profile["members"].items()},
        task_templates=tuple(map(_task_template, _rows(tenant, "task_templates.csv"))),
        product=Product(**{**product, "peaks": tuple(product["peaks"])}),
        queries=tuple(Query(**query) for query in profile["queries"]),
    )


def _rows(tenant: str, name: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(read_text(tenant, name).splitlines())


def _employee(row: dict[str, str]) -> Employee:
    start, end = row["working_hours"].split("-")
    levels = (skill.rsplit(" ", 1) for skill in row["skills"].split("; "))
    return Employee(
        id=row["id"],
        name=row["name"],
        timezone=row["timezone"],
        working_hours=(start, end),
        hours_per_week=float(row["hours_per_week"]),
        cost_per_hour=float(row["cost_per_hour"]),
        experience_years=float(row["experience_years"]),
        skills={skill: int(level) for skill, level in levels},
    )


def _task_template(row: dict[str, str]) -> TaskTemplate:
    return TaskTemplate(
        title=row["title"],
        board_id=row["board_id"],
        type=row["type"],
        hours=float(row["hours"]),
        complexity=int(row["complexity"]),
        priority=cast(Priority, row["priority"]),
        skills=tuple(map(_requirement, row["skills"].split("; "))),
    )


def _requirement(text: str) -> Requirement:
    """Parse "Python 4 x2": two people with Python at level 4 or better."""
    need, _, people = text.partition(" x")
    skill, level = need.rsplit(" ", 1)
    return Requirement(skill, int(level), int(people or 1))
