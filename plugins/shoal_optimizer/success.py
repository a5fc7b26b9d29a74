"""Past success of people on types of task, and who has worked with whom."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations

from .records import Outcome

DEFAULT_SUCCESS = 0.5
"""The mean of a tenant without outcomes."""


@dataclass(frozen=True)
class TrackRecord:
    """A person's outcomes on one type of task.

    Attributes:
        tasks: How many.
        weight: Their number, each worth 0.5 ** (age / half-life).
        successes: The same sum, of success.
        days_early: Mean days before the deadline; negative when late.
        numbers: Which of the tenant's outcomes they are.
    """

    tasks: int = 0
    weight: float = 0.0
    successes: float = 0.0
    days_early: float = 0.0
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class History:
    """A tenant's outcomes, aggregated at one moment.

    Success is the mean of a Beta posterior whose prior is the tenant's own mean for
    that type of task, worth `prior_strength` outcomes: (s·m + Σ w·y) / (s + Σ w), where
    y in [0, 1] is each outcome's success and w its decayed weight (Gelman et al.,
    Bayesian Data Analysis, 3rd ed., 2.4).

    Attributes:
        prior_strength: How many outcomes the prior is worth.
        records: (person, type) → outcomes.
        means: Type → the tenant's mean success.
        mean: The tenant's mean success over all types.
        together: Pairs of people, in alphabetical order → tasks done together.
        given: (person, type) → past success from the feature store, used as it is.
        early: Days before the deadline of each outcome, by its number.
    """

    prior_strength: float = 4.0
    records: Mapping[tuple[str, str], TrackRecord] = field(default_factory=dict)
    means: Mapping[str, float] = field(default_factory=dict)
    mean: float = DEFAULT_SUCCESS
    together: Mapping[tuple[str, str], int] = field(default_factory=dict)
    given: Mapping[tuple[str, str], float] = field(default_factory=dict)
    early: Sequence[float] = ()

    @classmethod
    def from_outcomes(
        cls,
        outcomes: Iterable[Outcome],
        now: datetime,
        *,
        half_life_days: float = 180.0,
        prior_strength: float = 4.0,
        given: Mapping[tuple[str, str], float] | None = None,
    ) -> "History":
        """Aggregate outcomes.

        Args:
            outcomes: The outcomes; those after `now` count as if they were of now, and
                of those that are of one event the last.
            now: The moment from which age counts.
            half_life_days: The age at which an outcome counts half.
            prior_strength: How many outcomes the tenant's mean is worth.
            given: (person, type) → past success that is known otherwise.
        """
        outcomes = list({outcome.identity: outcome for outcome in outcomes}.values())
        rows: dict[tuple[str, str], list[tuple[float, int, Outcome]]] = defaultdict(list)
        by_type: dict[str, list[tuple[float, float]]] = defaultdict(list)
        together: Counter[tuple[str, str]] = Counter()
        for number, outcome in enumerate(outcomes):
            age = max(0.0, (now - outcome.finished_at).total_seconds() / 86_400)
            weight = 0.5 ** (age / half_life_days)
            by_type[outcome.type].append((weight, outcome.success))
            for person in set(outcome.people):
                rows[person, outcome.type].append((weight, number, outcome))
            together.update(combinations(sorted(set(outcome.people)), 2))
        return cls(
            prior_strength=prior_strength,
            records={key: _track_record(values) for key, values in rows.items()},
            means={type: _weighted_mean(pairs) for type, pairs in by_type.items()},
            mean=_weighted_mean([pair for pairs in by_type.values() for pair in pairs]),
            together=together,
            given=given or {},
            early=[outcome.days_early for outcome in outcomes],
        )

    def success(self, person: str, type: str) -> float:
        """Past success of a person on a type of task, in [0, 1]."""
        if (known := self.given.get((person, type))) is not None:
            return min(1.0, max(0.0, known))
        record = self.record(person, type)
        prior = self.means.get(type, self.mean)
        total = self.prior_strength * prior + record.successes
        return total / (self.prior_strength + record.weight)

    def record(self, person: str, type: str) -> TrackRecord:
        """A person's outcomes on a type of task."""
        return self.records.get((person, type), TrackRecord())

    def team_record(self, people: Iterable[str], type: str) -> tuple[int, float]:
        """The outcomes that some of these people had, and their mean days early.

        What several of them did together is one.
        """
        numbers = set().union(*(self.record(person, type).numbers for person in people))
        early = [self.early[number] for number in numbers]
        return len(early), math.fsum(early) / len(early) if early else 0.0

    def pairs(self, people: Iterable[str]) -> list[tuple[str, str]]:
        """The pairs among these people who have worked together."""
        return [pair for pair in combinations(sorted(people), 2) if self.together.get(pair)]


def _weighted_mean(pairs: Sequence[tuple[float, float]]) -> float:
    """The mean of (weight, value) pairs."""
    weight = math.fsum(w for w, _ in pairs)
    return math.fsum(w * y for w, y in pairs) / weight if weight > 1e-12 else DEFAULT_SUCCESS


def _track_record(values: Sequence[tuple[float, int, Outcome]]) -> TrackRecord:
    return TrackRecord(
        tasks=len(values),
        weight=math.fsum(w for w, _, _ in values),
        successes=math.fsum(w * outcome.success for w, _, outcome in values),
        days_early=math.fsum(outcome.days_early for _, _, outcome in values) / len(values),
        numbers=frozenset(number for _, number, _ in values),
    )
