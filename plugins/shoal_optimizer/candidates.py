"""Who could do a task, scored and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from .parameters import OptimizerParameters
from .records import Person, Task
from .skills import Match, Matcher
from .success import History


@dataclass(frozen=True)
class Skill:
    """How somebody stands to one requirement. `credit` in [0, 1] is similarity × min(1,
    level / needed level).
    """

    required: str
    needed_level: float
    match: Match | None
    level: float

    @property
    def enough(self) -> bool:
        return self.match is not None and self.level >= self.needed_level

    @property
    def credit(self) -> float:
        return (
            0.0
            if self.match is None
            else self.match.similarity * min(1.0, self.level / self.needed_level)
        )


@dataclass(frozen=True)
class Candidate:
    """One person's standing for one task; all parts in [0, 1]."""

    person: Person
    score: float
    skill_match: float
    availability: float
    """1 − workload."""
    past_success: float
    skills: tuple[Skill, ...]

    def row(self) -> dict[str, object]:
        """The candidate as a row of the table."""
        return {
            "person": self.person.id,
            "name": self.person.label,
            "score": round(self.score, 6),
            "skill_match": round(self.skill_match, 6),
            "availability": round(self.availability, 6),
            "past_success": round(self.past_success, 6),
            "workload": self.person.workload,
            "skills": [
                {
                    "required": skill.required,
                    "needed_level": skill.needed_level,
                    "level": skill.level,
                    "enough": skill.enough,
                    "found": skill.match.found if skill.match else None,
                    "how": skill.match.how if skill.match else None,
                    "similarity": round(skill.match.similarity, 4) if skill.match else 0.0,
                }
                for skill in self.skills
            ],
        }


def candidates(
    task: Task,
    people: Sequence[Person],
    matcher: Matcher,
    history: History,
    parameters: OptimizerParameters,
) -> list[Candidate]:
    """Everybody scored for the task, in the order given (`ranked` sorts).

    score = 0.5 · skill_match + 0.3 · (1 − workload) + 0.2 · past_success, with the
    parameters' weights (divided by their sum). skill_match is the mean of the
    requirements' credits, 1 for a task that requires none.
    """
    weights = (parameters.skill_weight, parameters.availability_weight, parameters.success_weight)
    total = sum(weights)
    found = []
    alike: dict[
        tuple[int, str | None, float], Skill
    ] = {}  # many people stand alike to a requirement
    for person in people:
        skills = tuple(
            _skill(matcher, n, r.skill, r.level, person, alike) for n, r in enumerate(task.skills)
        )
        skill_match = sum(skill.credit for skill in skills) / len(skills) if skills else 1.0
        availability = 1 - person.workload / 100
        success = history.success(person.id, task.type)
        score = (
            weights[0] * skill_match + weights[1] * availability + weights[2] * success
        ) / total
        found.append(Candidate(person, score, skill_match, availability, success, skills))
    return found


def ranked(scored: Sequence[Candidate]) -> list[Candidate]:
    """Best first; people with the same score in the order of their ids."""
    return sorted(scored, key=lambda candidate: (-candidate.score, candidate.person.id))


def _skill(
    matcher: Matcher,
    n: int,
    required: str,
    level: float,
    person: Person,
    alike: dict[tuple[int, str | None, float], Skill],
) -> Skill:
    match = matcher.best(required, person.skills)
    has = person.skills[match.found] if match else 0.0
    key = (n, match.found if match else None, has)
    if (skill := alike.get(key)) is None:
        skill = alike[key] = Skill(required, level, match, has)
    return skill
