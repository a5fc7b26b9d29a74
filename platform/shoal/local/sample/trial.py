"""A finished experiment: its design, exposures and outcomes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from shoal.router.assignment import assignment_bucket

from .activity import SOURCE


@dataclass(frozen=True, slots=True)
class Trial:
    """A product experiment on visitors with two equal arms and one outcome event type.

    Units are assigned as the router assigns them.
    """

    id: str
    hypothesis: str
    outcome: str
    start: datetime
    end: datetime
    units: dict[str, int]
    """Visitors per variant."""
    successes: dict[str, int]
    """Visitors with the outcome, per variant."""
    seed: int

    def events(self) -> Iterator[dict[str, Any]]:
        """Exposures and later outcomes, as CloudEvents in order of exposure."""
        rng = np.random.default_rng(self.seed)
        span = (self.end - self.start).total_seconds()
        converted = {
            name: set(rng.choice(self.units[name], self.successes[name], replace=False).tolist())
            for name in self.units
        }
        seen = dict.fromkeys(self.units, 0)
        arms = list(self.units)
        moments = np.sort(rng.uniform(0, span * 0.93, sum(self.units.values())))
        visitors = self._visitors(arms)
        for seconds in moments:
            unit, arm = next(visitors)
            at = self.start + timedelta(seconds=float(seconds))
            data = {
                "experiment": self.id,
                "variant": arm,
                "unit": unit,
                "unit_type": "user",
                "capability": None,
            }
            yield self._event(
                f"{self.id}/{unit}/{arm}", "shoal/router", "experiment.exposure", at, unit, data
            )
            if seen[arm] in converted[arm]:
                later = min(
                    at + timedelta(seconds=float(rng.exponential(span / 90))),
                    self.end - timedelta(seconds=1),
                )
                yield self._event(
                    f"{self.id}/{unit}/done", SOURCE, self.outcome, later, unit, {"user_id": unit}
                )
            seen[arm] += 1

    def _visitors(self, arms: list[str]) -> Iterator[tuple[str, str]]:
        """Visitors with their arms, until each arm is full."""
        left = dict(self.units)
        n = 0
        while any(left.values()):
            n += 1
            unit = f"visitor-{n:05d}"
            arm = arms[assignment_bucket(self.id, unit) * len(arms) // 10_000]
            if left[arm]:
                left[arm] -= 1
                yield unit, arm

    @staticmethod
    def _event(
        id: str, source: str, type: str, at: datetime, subject: str, data: dict[str, Any]
    ) -> dict[str, Any]:
        time = at.isoformat(timespec="milliseconds")
        return {
            "specversion": "1.0",
            "id": id,
            "source": source,
            "type": type,
            "time": time,
            "subject": subject,
            "data": data,
        }


def trial(tenant: str, *, seed: int, now: datetime) -> Trial:
    """Acme's clear win (12.3 % against 14.1 %) or Globex's inconclusive test."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = midnight - timedelta(days=24), midnight - timedelta(days=3)
    if tenant == "acme":
        return Trial(
            id="onboarding-example",
            hypothesis="An example invoice that is already filled in"
            " lets more new accounts send their first one.",
            outcome="invoice.sent_first",
            start=start,
            end=end,
            units={"control": 5234, "example-invoice": 5189},
            successes={"control": 644, "example-invoice": 732},
            seed=seed,
        )
    return Trial(
        id="sunday-newsletter",
        hypothesis="A newsletter on Sunday morning brings more orders than one on Tuesday.",
        outcome="order.placed",
        start=start,
        end=end,
        units={"tuesday": 4012, "sunday": 3987},
        successes={"tuesday": 161, "sunday": 170},
        seed=seed,
    )
