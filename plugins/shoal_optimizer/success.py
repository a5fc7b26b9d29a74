"""Past success of a person on a kind of task, and who has worked with whom."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations

from .records import Outcome


@dataclass(frozen=True)
class Record:
    """What a person has done of one kind of task."""

    tasks: int = 0
    weight: float = 0.0
    """The outcomes' number, each worth 0.5 ** (age / half-life)."""
    successes: float = 0.0
    """The same sum, of success."""
    days_early: float = 0.0
    """Mean days before the deadline; negative when late."""


@dataclass(frozen=True)
class History:
    """A tenant's outcomes, summed up at one moment.

    `success` is the mean of a Beta posterior whose prior is the tenant's own mean for
    that kind of task, worth `prior_strength` outcomes: (s·m + Σ w·y) / (s + Σ w), y in
    [0, 1] being each outcome's success and w its decayed weight (Gelman et al.,
    Bayesian Data Analysis, 3rd ed., 2.4).
    """

    prior_strength: float = 4.0
    records: Mapping[tuple[str, str], Record] = field(default_factory=dict)
    means: Mapping[str, float] = field(default_factory=dict)
    mean: float = 0.5
    together: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Pairs of people, each in alphabetical order → tasks done together."""
    given: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(person, type) → past success that the feature store already holds; it is used as
    it is.
    """

    @classmethod
    def of(
        cls,
        outcomes: Iterable[Outcome],
        now: datetime,
        *,
        half_life_days: float = 180.0,
        prior_strength: float = 4.0,
        given: Mapping[tuple[str, str], float] | None = None,
    ) -> "History":
        """Sum up outcomes; those after `now` count as if they were of now."""
        rows: dict[tuple[str, str], list[tuple[float, Outcome]]] = defaultdict(list)
        kinds: dict[str, list[tuple[float, float]]] = defaultdict(list)
        together: Counter[tuple[str, str]] = Counter()
        for outcome in outcomes:
            age = max(0.0, (now - outcome.finished_at).total_seconds() / 86_400)
            weight = 0.5 ** (age / half_life_days)
            kinds[outcome.type].append((weight, outcome.success))
            for person in set(outcome.people):
                rows[person, outcome.type].append((weight, outcome))
            together.update(combinations(sorted(set(outcome.people)), 2))
        every = [pair for pairs in kinds.values() for pair in pairs]
        return cls(
            prior_strength=prior_strength,
            records={key: _record(values) for key, values in rows.items()},
            means={kind: _mean(pairs, 0.5) for kind, pairs in kinds.items()},
            mean=_mean(every, 0.5),
            together=together,
            given=given or {},
        )

    def success(self, person: str, kind: str) -> float:
        """In [0, 1]."""
        if (known := self.given.get((person, kind))) is not None:
            return min(1.0, max(0.0, known))
        record = self.records.get((person, kind), Record())
        prior = self.means.get(kind, self.mean)
        return (self.prior_strength * prior + record.successes) / (
            self.prior_strength + record.weight
        )

    def record(self, person: str, kind: str) -> Record:
        return self.records.get((person, kind), Record())

    def pairs(self, people: Iterable[str]) -> list[tuple[str, str]]:
        """The pairs among these people who have worked together."""
        return [pair for pair in combinations(sorted(people), 2) if self.together.get(pair)]


def _mean(pairs: Sequence[tuple[float, float]], default: float) -> float:
    weight = math.fsum(w for w, _ in pairs)
    return math.fsum(w * y for w, y in pairs) / weight if weight > 1e-12 else default


def _record(values: Sequence[tuple[float, Outcome]]) -> Record:
    return Record(
        tasks=len(values),
        weight=math.fsum(w for w, _ in values),
        successes=math.fsum(w * outcome.success for w, outcome in values),
        days_early=math.fsum(outcome.days_early for _, outcome in values) / len(values),
    )
