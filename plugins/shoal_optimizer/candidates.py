"""Everyone scored for a task."""

from collections.abc import Sequence
from dataclasses import dataclass

from .calendar import Calendar
from .parameters import OptimizerParameters
from .records import Person, Requirement, Task
from .skills import Match, Matcher
from .success import History

YEARS_PER_DEGREE = 2
"""Years of experience that each degree of a task's complexity asks for."""


@dataclass(frozen=True)
class SkillFit:
    """How somebody meets one requirement.

    Attributes:
        required: The name of the required skill.
        needed_level: The level it is required at.
        match: Their skill that answers it, None without one.
        level: Their level of it, 0 without one.
        accept_similar: Whether a skill near in meaning meets the requirement.
    """

    required: str
    needed_level: float
    match: Match | None
    level: float
    accept_similar: bool = False

    @property
    def counted_level(self) -> float:
        """The level that counts for the requirement: 0 for a skill only near."""
        if self.match is None or not (self.match.is_same or self.accept_similar):
            return 0.0
        return self.level

    @property
    def is_sufficient(self) -> bool:
        return self.counted_level >= self.needed_level

    @property
    def credit(self) -> float:
        """Similarity × min(1, level / needed level), in [0, 1]."""
        if self.match is None:
            return 0.0
        return self.match.similarity * min(1.0, self.level / self.needed_level)


@dataclass(frozen=True)
class Candidate:
    """A person's score for one task.

    Attributes:
        person: Who.
        score: The weighted sum of the four parts, in [0, 1] as they are.
        skill_match: The mean credit over the requirements; 1 when there are none.
        availability: The share of their capacity in the task's window that is not
            committed; 0 without any capacity there.
        past_success: On tasks of this type, see `success.History`.
        experience: Their years of experience, of two for each degree of the task's
            complexity; at most 1.
        load: Percent of their capacity in the task's window that is committed.
        skills: How each requirement is met, in the order of the task's.
    """

    person: Person
    score: float
    skill_match: float
    availability: float
    past_success: float
    experience: float
    load: float
    skills: tuple[SkillFit, ...]

    def row(self) -> dict[str, object]:
        """The candidate as a row of GET /tasks/{id}/candidates."""
        return {
            "person": self.person.id,
            "name": self.person.label,
            "score": round(self.score, 6),
            "skill_match": round(self.skill_match, 6),
            "availability": round(self.availability, 6),
            "past_success": round(self.past_success, 6),
            "experience": round(self.experience, 6),
            "workload": round(self.load, 2),
            "skills": [
                {
                    "required": skill.required,
                    "needed_level": skill.needed_level,
                    "level": skill.level,
                    "enough": skill.is_sufficient,
                    "found": skill.match.found if skill.match else None,
                    "how": skill.match.how if skill.match else None,
                    "similarity": round(skill.match.similarity, 4) if skill.match else 0.0,
                }
                for skill in self.skills
            ],
        }


def score_candidates(
    task: Task,
    calendar: Calendar,
    matcher: Matcher,
    history: History,
    parameters: OptimizerParameters,
) -> list[Candidate]:
    """Score everyone in a calendar for a task.

    With the default weights:
    score = 0.5 · skill_match + 0.3 · availability + 0.2 · past_success.

    Args:
        task: The task.
        calendar: Everyone to score, and the work that is committed.
        matcher: Matches required skills with those people have.
        history: Past success.
        parameters: The four weights, which are divided by their sum.

    Returns:
        One candidate for each person, in the calendar's order.
    """
    weights = (
        parameters.skill_weight,
        parameters.availability_weight,
        parameters.success_weight,
        parameters.experience_weight,
    )
    total = sum(weights)
    # Many people meet a requirement alike: one object for all of them.
    fits: dict[tuple[int, str | None, float], SkillFit] = {}
    found = []
    start, end = task.window(calendar.now)
    loads = calendar.loads(start, end, parameters.workload_limit)
    hours = calendar.capacity(start, end)
    for person, load, capacity in zip(calendar.people, loads, hours, strict=True):
        skills = tuple(
            _fit(matcher, n, requirement, person, fits, parameters.accept_similar)
            for n, requirement in enumerate(task.skills)
        )
        skill_match = sum(skill.credit for skill in skills) / len(skills) if skills else 1.0
        availability = max(0.0, 1 - float(load) / 100) if capacity > 0 else 0.0
        success = history.success(person.id, task.type)
        experience = min(1.0, person.experience_years / (YEARS_PER_DEGREE * task.complexity))
        parts = (skill_match, availability, success, experience)
        score = sum(weight * part for weight, part in zip(weights, parts, strict=True)) / total
        found.append(Candidate(person, score, *parts, float(load), skills))
    return found


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Sort by score, the best first; equal scores by id."""
    return sorted(candidates, key=lambda candidate: (-candidate.score, candidate.person.id))


def _fit(
    matcher: Matcher,
    n: int,
    requirement: Requirement,
    person: Person,
    fits: dict[tuple[int, str | None, float], SkillFit],
    accept_similar: bool,
) -> SkillFit:
    match = matcher.best(requirement.skill, person.skills)
    has = person.skills[match.found] if match else 0.0
    key = (n, match.found if match else None, has)
    if (fit := fits.get(key)) is None:
        fit = fits[key] = SkillFit(requirement.skill, requirement.level, match, has, accept_similar)
    return fit
