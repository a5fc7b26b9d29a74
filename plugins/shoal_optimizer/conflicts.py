"""Why no team can do a task: the smallest set of requirements that clash, and the
cheapest ways out.

Solver cores are unreliable (CP-SAT's are neither minimal nor always given), so every
claim here is a solve of its own: the set has no team, and without any one member it
has.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import combinations
from typing import TypeVar

import numpy as np

from .staffing_problem import MOST_TEAM, Demands, Situation
from .team import NOTHING, find_team

T = TypeVar("T")
V = TypeVar("V")
Group = tuple[str, int]
"""A requirement that can be dropped: ("skill", its index), or ("workload" | "overlap" |
"team_size" | "availability", 0).
"""

EXTENSIONS = (1, 2, 3, 5, 7, 10, 14, 21, 28, 42, 56, 84)


@dataclass(frozen=True)
class Conflict:
    """A smallest set of requirements that no team meets; each member is needed for the
    conflict.
    """

    requirements: tuple[str, ...]
    message: str
    verified: bool = True


@dataclass(frozen=True)
class Relaxation:
    """One way to make the task possible. `cost` ranks the ways: about how hard each is
    to grant.
    """

    change: str
    amount: float
    unit: str
    cost: float
    message: str
    team: tuple[str, ...] = field(default=(), compare=False)
    """Somebody who could then do it."""


def conflict(situation: Situation, demands: Demands, time_limit: float = 2.0) -> Conflict | None:
    """The smallest set of clashing requirements, or None when a team exists (or time
    did not suffice to tell).
    """
    if not situation.scored:
        return Conflict(("people",), "there are no people")
    start, end = situation.window
    if end <= start:
        return Conflict(("deadline",), f"the deadline, {_day(end)}, is past")
    groups = _groups(situation, demands)
    known: dict[frozenset[Group], bool | None] = {}

    def possible(active: Iterable[Group]) -> bool | None:
        key = frozenset(active)
        if key not in known:
            known[key] = _possible(situation, _only(situation, demands, key), time_limit)
        return known[key]

    if possible(groups) is not False:
        return None
    smallest = list(groups)
    for group in groups:
        rest = [g for g in smallest if g != group]
        if possible(rest) is False:
            smallest = rest
    for size in range(1, min(len(smallest), 4)):
        found = next((c for c in combinations(groups, size) if possible(c) is False), None)
        if found is not None:
            smallest = list(found)
            break
    verified = all(possible([g for g in smallest if g != group]) is True for group in smallest)
    return Conflict(
        tuple(_name(situation, g) for g in smallest), _words(situation, demands, smallest), verified
    )


def relaxations(
    situation: Situation, demands: Demands, time_limit: float = 1.0
) -> list[Relaxation]:
    """Single changes, each as small as it can be, that make a team possible; the
    easiest to grant first. Where none is enough, pairs of the largest ones.
    """
    if not situation.scored:
        return []

    def solved(case: Situation, changed: Demands) -> tuple[str, ...] | None:
        return _somebody(case, changed, time_limit)

    found: list[Relaxation] = []
    tries = [_raise_workload, _shorten_overlap, _extend_deadline, _resize, _lower_skills]
    for attempt in tries:
        found += attempt(situation, demands, solved)
    return sorted(found or _pairs(situation, demands, solved), key=lambda way: way.cost)


Solved = Callable[[Situation, Demands], tuple[str, ...] | None]


def _groups(situation: Situation, demands: Demands) -> list[Group]:
    groups: list[Group] = [("skill", n) for n, people in enumerate(demands.people) if people]
    if demands.workload_limit is not None:
        groups.append(("workload", 0))
    if demands.overlap_hours is not None:
        groups.append(("overlap", 0))
    return [*groups, ("availability", 0), ("team_size", 0)]


def _only(situation: Situation, demands: Demands, active: frozenset[Group]) -> Demands:
    """The demands with every group that is not active dropped."""
    people = tuple(n if ("skill", i) in active else 0 for i, n in enumerate(demands.people))
    free = ("team_size", 0) not in active
    return replace(
        demands,
        people=people,
        workload_limit=demands.workload_limit if ("workload", 0) in active else None,
        overlap_hours=demands.overlap_hours if ("overlap", 0) in active else None,
        availability=("availability", 0) in active,
        least=1 if free else demands.least,
        most=MOST_TEAM if free else demands.most,
    )


def _sizes(situation: Situation, demands: Demands) -> list[int]:
    """Sizes worth trying for feasibility: every small one, and a few large ones."""
    sizes = situation.sizes(demands)
    return [
        k
        for k in sizes
        if k <= demands.least + 8 or k in (16, 20, 30, 40, MOST_TEAM) or k == sizes[-1]
    ]


def _possible(situation: Situation, demands: Demands, time_limit: float) -> bool | None:
    found = find_team(
        situation,
        demands,
        NOTHING,
        sizes=_sizes(situation, demands),
        time_limit=time_limit,
        any_team=True,
    )
    return {"optimal": True, "feasible": True, "infeasible": False}.get(found.status)


def _somebody(situation: Situation, demands: Demands, time_limit: float) -> tuple[str, ...] | None:
    found = find_team(
        situation,
        demands,
        NOTHING,
        sizes=_sizes(situation, demands),
        time_limit=time_limit,
        any_team=True,
    )
    return (
        None
        if found.team is None
        else tuple(situation.scored[n].person.id for n in found.team.members)
    )


def _raise_workload(situation: Situation, demands: Demands, solved: Solved) -> list[Relaxation]:
    limit = demands.workload_limit
    if limit is None or limit >= 100:
        return []
    steps = [min(100.0, limit + step) for step in range(1, int(np.ceil(100 - limit)) + 1)]
    at = _first(steps, lambda value: solved(situation, replace(demands, workload_limit=value)))
    if at is None:
        return []
    value, team = at
    text = f"allow a workload of {value:g} % instead of {limit:g} %"
    return [Relaxation("workload_limit", value, "percent", (value - limit) / 5, text, team)]


def _shorten_overlap(situation: Situation, demands: Demands, solved: Solved) -> list[Relaxation]:
    hours = demands.overlap_hours
    if hours is None:
        return []
    steps = [h / 2 for h in range(int(np.ceil(hours * 2)) - 1, -1, -1)]
    at = _first(
        steps, lambda value: solved(situation, replace(demands, overlap_hours=value or None))
    )
    if at is None:
        return []
    value, team = at
    text = f"accept {value:g} common working hours a day instead of {hours:g}"
    return [Relaxation("overlap_hours", value, "hours", hours - value, text, team)]


def _extend_deadline(situation: Situation, demands: Demands, solved: Solved) -> list[Relaxation]:
    start, end = situation.window
    base = max(end, start)
    at = _first(
        EXTENSIONS, lambda days: solved(situation.until(base + timedelta(days=days)), demands)
    )
    if at is None:
        return []
    days, team = at
    low = EXTENSIONS[EXTENSIONS.index(days) - 1] if days != EXTENSIONS[0] else 0
    for shorter in range(low + 1, days):
        if (
            somebody := solved(situation.until(base + timedelta(days=shorter)), demands)
        ) is not None:
            days, team = shorter, somebody
            break
    day = base + timedelta(days=days)
    plural = "s" if days > 1 else ""
    return [
        Relaxation(
            "deadline",
            float(days),
            "days",
            days / 3,
            f"move the deadline {days} day{plural}, to {_day(day)}",
            team,
        )
    ]


def _resize(situation: Situation, demands: Demands, solved: Solved) -> list[Relaxation]:
    found = []
    larger = [
        k for k in (1, 2, 3, 5, 8, 13) if demands.most + k <= min(MOST_TEAM, len(situation.scored))
    ]
    if (
        at := _first(larger, lambda k: solved(situation, replace(demands, most=demands.most + k)))
    ) is not None:
        more, team = at
        text = f"allow a team of {demands.most + more} instead of {demands.most}"
        found.append(
            Relaxation(
                "team_size_max", float(demands.most + more), "people", float(more), text, team
            )
        )
    smaller = list(range(demands.least - 1, 0, -1))
    if (at := _first(smaller, lambda k: solved(situation, replace(demands, least=k)))) is not None:
        fewer, team = at
        text = f"allow a team of {fewer} instead of at least {demands.least}"
        found.append(
            Relaxation(
                "team_size_min", float(fewer), "people", 1.5 * (demands.least - fewer), text, team
            )
        )
    return found


def _lower_skills(situation: Situation, demands: Demands, solved: Solved) -> list[Relaxation]:
    found: list[Relaxation] = []
    for n, requirement in enumerate(situation.task.skills):
        skill, level, people = requirement.skill, demands.levels[n], demands.people[n]
        if not people:
            continue
        lower = sorted({float(v) for v in situation.level[n] if 0 < v < level}, reverse=True)

        def levelled(value: float, n: int = n) -> tuple[str, ...] | None:
            return solved(situation, replace(demands, levels=_with(demands.levels, n, value)))

        def fewer(count: int, n: int = n) -> tuple[str, ...] | None:
            return solved(situation, replace(demands, people=_with(demands.people, n, count)))

        if (by_level := _first(lower, levelled)) is not None:
            value, team = by_level
            text = f"accept {skill} at level {value:g} instead of {level:g}"
            found.append(
                Relaxation(
                    f"skill_level:{skill}", value, "level", 1.5 * (level - value), text, team
                )
            )
        if (by_count := _first(list(range(people - 1, -1, -1)), fewer)) is not None:
            count, team = by_count
            text = (
                f"do without {skill}"
                if count == 0
                else f"ask for {skill} in {count} instead of {people}"
            )
            cost = 5.0 if count == 0 else 2.0 * (people - count)
            found.append(
                Relaxation(f"skill_people:{skill}", float(count), "people", cost, text, team)
            )
    return found


def _with(values: tuple[T, ...], n: int, value: T) -> tuple[T, ...]:
    return (*values[:n], value, *values[n + 1 :])


def _pairs(situation: Situation, demands: Demands, solved: Solved) -> list[Relaxation]:
    """Two changes at once, each as far as it goes."""
    start, end = situation.window
    late = max(start, end) + timedelta(days=28)
    changes: list[tuple[str, float, Callable[[Situation, Demands], tuple[Situation, Demands]]]] = []
    if demands.workload_limit is not None and demands.workload_limit < 100:
        changes.append(
            ("allow a workload of 100 %", 4.0, lambda s, d: (s, replace(d, workload_limit=100.0)))
        )
    if demands.overlap_hours is not None:
        changes.append(
            (
                "ask for no common working hours",
                demands.overlap_hours,
                lambda s, d: (s, replace(d, overlap_hours=None)),
            )
        )
    changes.append((f"move the deadline to {_day(late)}", 9.0, lambda s, d: (s.until(late), d)))
    larger = min(MOST_TEAM, demands.most + 5)
    changes.append((f"allow a team of {larger}", 5.0, lambda s, d: (s, replace(d, most=larger))))
    for n, requirement in enumerate(situation.task.skills):
        if demands.people[n]:
            changes.append(
                (f"do without {requirement.skill}", 5.0, lambda s, d, n=n: (s, d.without_skill(n)))
            )  # type: ignore[misc]
    found = []
    for (text, cost, change), (text2, cost2, change2) in combinations(changes, 2):
        if (team := solved(*change2(*change(situation, demands)))) is not None:
            found.append(
                Relaxation("several", 2, "changes", cost + cost2, f"{text} and {text2}", team)
            )
    return found


def _first(
    values: Sequence[V], solved: Callable[[V], tuple[str, ...] | None]
) -> tuple[V, tuple[str, ...]] | None:
    """The first of ever larger changes that is enough: the largest is tried first, then
    halved towards the smallest.
    """
    if not values or (team := solved(values[-1])) is None:
        return None
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if (somebody := solved(values[middle])) is not None:
            high, team = middle, somebody
        else:
            low = middle + 1
    return values[high], team


def _name(situation: Situation, group: Group) -> str:
    kind, n = group
    return f"skill:{situation.task.skills[n].skill}" if kind == "skill" else kind


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%b %Y}"


def _words(situation: Situation, demands: Demands, groups: Sequence[Group]) -> str:
    """The conflict as one sentence."""
    kinds = {kind for kind, _ in groups}
    skills = [n for kind, n in groups if kind == "skill"]
    by = _day(situation.window[1])
    if len(skills) == 1:
        n = skills[0]
        needed, skill, level = demands.people[n], situation.task.skills[n].skill, demands.levels[n]
        have = int(situation.covers(demands)[n].sum())
        at = f" at level {level:g}" if level > 1 else ""
        who = "nobody" if needed == 1 else f"fewer than {needed} people"
        if kinds == {"skill"}:
            return (
                f"nobody has {skill}{at}"
                if have == 0
                else f"only {have} of the {needed} people needed have {skill}{at}"
            )
        if kinds <= {"skill", "workload", "team_size"} and "workload" in kinds:
            ending = f" in a team of at most {demands.most}" if "team_size" in kinds else ""
            return f"{who} with {skill}{at} would stay below {demands.workload_limit:g} % before {by}{ending}"
        if kinds == {"skill", "availability"}:
            return f"{who} with {skill}{at} is available before {by}"
        if kinds == {"skill", "team_size"}:
            return f"{needed} people with {skill} are needed, but the team may have at most {demands.most}"
        if kinds == {"skill", "overlap"}:
            return f"people with {skill}{at} share fewer than {demands.overlap_hours:g} working hours a day"
    names = [situation.task.skills[n].skill for n in skills]
    if len(names) == 2 and kinds == {"skill", "overlap"}:
        return f"nobody with {names[0]} shares {demands.overlap_hours:g} working hours a day with anybody who has {names[1]}"
    if kinds == {"availability"}:
        return f"nobody is available before {by}"
    if kinds == {"team_size"}:
        return (
            f"the team needs at least {demands.least} people, and there are {len(situation.scored)}"
        )
    if kinds == {"workload"} or kinds == {"workload", "team_size"}:
        who = "nobody has" if demands.most == 1 else f"no {demands.most} people have"
        return f"{who} room for {situation.task.estimated_hours:g} hours before {by} below {demands.workload_limit:g} %"
    if kinds == {"skill", "team_size"}:
        return f"no {demands.most} people have {_listed(names)} between them"
    phrases = [f"{skill}" for skill in names]
    if "workload" in kinds:
        phrases.append(f"nobody above {demands.workload_limit:g} % before {by}")
    if "overlap" in kinds:
        phrases.append(f"{demands.overlap_hours:g} common working hours a day")
    if "team_size" in kinds:
        phrases.append(f"a team of {demands.least} to {demands.most}")
    if "availability" in kinds:
        phrases.append(f"people available before {by}")
    return f"no team can have all of: {', '.join(phrases)}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
