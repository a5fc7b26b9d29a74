"""A sample tenant's whole workspace, generated from a seed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from . import activity, metrics
from .model import Board, Incident, Item, Leave, Outcome, Person, Priority, Query, Task, as_json
from .profile import TenantProfile, load_profile
from .trial import Trial, trial
from .writing import Writer, read_scripts

TENANTS = ("acme", "globex")
OUTCOMES = 240
URGENCY: dict[Priority, tuple[int, int]] = {
    "critical": (9, 20),
    "high": (14, 38),
    "medium": (21, 60),
    "low": (40, 90),
}
"""Minimum and maximum days from now to the deadline."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Everything of one tenant; events and metrics are generated on each call."""

    tenant: str
    name: str
    seed: int
    now: datetime
    boards: list[Board]
    people: list[Person]
    tasks: list[Task]
    outcomes: list[Outcome]
    texts: list[Item]
    incidents: tuple[Incident, ...]
    trial: Trial
    queries: tuple[Query, ...]
    _profile: TenantProfile = field(repr=False)

    def items(self) -> Iterator[dict[str, Any]]:
        """The texts, oldest first, as `POST /search/items` accepts them."""
        for item in self.texts:
            yield as_json(item)

    def events(self) -> Iterator[dict[str, Any]]:
        """User actions of 90 days, oldest first, as CloudEvents.

        The types are those of `activity.ACTIONS`, and `board.created`,
        `automation.created` and `session.ended` (with `duration` in seconds).
        `data.user_id` and `subject` are the user, `data.board_id` the board. An id
        depends on tenant, seed and position, so loading twice changes nothing.
        """
        rng = np.random.default_rng([self.seed, 2, *self.tenant.encode()])
        prefix = f"sample-{self.seed}"
        yield from activity.actions(
            self.people, self.boards, self.texts, rng=rng, now=self.now, prefix=prefix
        )

    def metrics(self) -> Iterator[dict[str, Any]]:
        """Hourly points `{metric, time, value, labels}`, oldest first.

        They are as `POST /anomalies/metrics` accepts them.
        """
        rng = np.random.default_rng([self.seed, 3, *self.tenant.encode()])
        times, values = metrics.series(self._profile.product, self.incidents, rng=rng, now=self.now)
        labels = {"service": self._profile.product.service}
        for i, time in enumerate(times):
            for metric in metrics.METRICS:
                yield {
                    "metric": metric,
                    "time": time.isoformat(),
                    "value": float(values[metric][i]),
                    "labels": labels,
                }


def workspace(tenant: str, *, seed: int, now: datetime) -> Workspace:
    """A tenant's workspace; the same for the same arguments.

    Args:
        tenant: "acme" or "globex".
        seed: Varies what is generated.
        now: The end of the generated history.

    Raises:
        ValueError: Another tenant, or `now` without a time zone.
    """
    if tenant not in TENANTS:
        raise ValueError(
            f"there is no sample workspace for {tenant!r}: choose from {', '.join(TENANTS)}"
        )
    if now.tzinfo is None:
        raise ValueError("now needs a time zone")
    profile, random = load_profile(tenant), Random(f"{tenant}/{seed}")
    scripts = read_scripts(tenant)
    boards = [Board(s.id, s.name, s.description, profile.members[s.id]) for s in scripts]
    people = _people(profile, random, now)
    texts = Writer(tenant, boards, people, random=random, now=now).write(scripts)
    return Workspace(
        tenant=tenant,
        name=profile.name,
        seed=seed,
        now=now,
        boards=boards,
        people=people,
        tasks=_tasks(profile, random, now),
        outcomes=_outcomes(profile, random, now),
        texts=texts,
        incidents=metrics.incidents(profile, now),
        trial=trial(tenant, seed=seed, now=now),
        queries=profile.queries,
        _profile=profile,
    )


def _people(profile: TenantProfile, random: Random, now: datetime) -> list[Person]:
    people = []
    for e in profile.employees:
        workload = float(round(min(92, max(15, random.gauss(44, 16)))))
        leave: tuple[Leave, ...] = ()
        if random.random() < 0.3:
            start = (now + timedelta(days=random.randint(-30, 40))).date()
            leave = (Leave(start, start + timedelta(days=random.choice((2, 4, 6, 11)))),)
        people.append(
            Person(
                id=e.id,
                name=e.name,
                skills=e.skills,
                experience_years=e.experience_years,
                timezone=e.timezone,
                working_hours=e.working_hours,
                hours_per_week=e.hours_per_week,
                cost_per_hour=e.cost_per_hour,
                workload=workload,
                leave=leave,
            )
        )
    return people


def _tasks(profile: TenantProfile, random: Random, now: datetime) -> list[Task]:
    tasks = []
    for n, template in enumerate(profile.task_templates, 1):
        start = (now + timedelta(days=random.randint(0, 3))).date()
        deadline = (now + timedelta(days=random.randint(*URGENCY[template.priority]))).astimezone(
            ZoneInfo(profile.product.timezone)
        )
        deadline -= timedelta(days=max(0, deadline.weekday() - 4))  # no deadline on a weekend
        people = sum(need.people for need in template.skills)
        tasks.append(
            Task(
                id=f"task-{n:02d}",
                title=template.title,
                board_id=template.board_id,
                type=template.type,
                complexity=template.complexity,
                estimated_hours=template.hours,
                start=start,
                deadline=deadline.replace(hour=17, minute=0, second=0, microsecond=0),
                skills=template.skills,
                team_min=min(2, people),
                team_max=min(5, people + 1),
                priority=template.priority,
            )
        )
    return tasks


def _outcomes(profile: TenantProfile, random: Random, now: datetime) -> list[Outcome]:
    """Past tasks; a hidden talent per person and type shows in time and quality."""
    kinds = sorted({template.type for template in profile.task_templates})
    talents = {
        (e.id, kind): random.gauss(0, 0.16) + 0.01 * min(e.experience_years, 15)
        for e in profile.employees
        for kind in kinds
    }
    outcomes = []
    for n in range(1, OUTCOMES + 1):
        template = random.choice(profile.task_templates)
        team = _team(profile, random, template.skills)
        talent = sum(talents[who, template.type] for who in team) / len(team)
        hours = round(template.hours * random.uniform(0.5, 1.2))
        actual = round(
            hours * min(2.2, max(0.55, random.lognormvariate(0.06 - 0.7 * talent, 0.16))), 1
        )
        deadline = now - timedelta(days=random.uniform(2, 360))
        early = timedelta(days=(hours - actual) / 6 + random.uniform(-2, 2.5))
        completed = min(deadline - early, now - timedelta(hours=random.randint(2, 30)))
        quality = round(min(1.0, max(0.2, random.gauss(0.78 + 0.5 * talent, 0.08))), 2)
        outcomes.append(
            Outcome(
                f"past-{n:03d}",
                template.type,
                team,
                hours,
                actual,
                deadline,
                completed,
                quality,
            )
        )
    return sorted(outcomes, key=lambda outcome: outcome.completed_at)


def _team(profile: TenantProfile, random: Random, skills: tuple[Any, ...]) -> tuple[str, ...]:
    """People with the skills; anyone if nobody has them."""
    team: dict[str, None] = {}
    for need in skills:
        able = [e.id for e in profile.employees if e.skills.get(need.skill, 0) >= need.level - 1]
        for _ in range(need.people):
            free = [who for who in able if who not in team]
            if free:
                team[random.choice(free)] = None
    return tuple(team) or (random.choice(profile.employees).id,)
