"""When a surprisal is an alarm, in view of the alarms before it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_THRESHOLD = 0.5
HOUR = 3_600.0
DAY = 24 * HOUR
CALM = 0.6  # a surprisal below this share of the threshold is usual
CALM_FOR = HOUR  # after which the next alarm is one of its own
FARTHER = 2.0  # times an alarm's size: an excursion this far is news
OPPOSITE = 0.5  # of an alarm's size: an excursion to the other side of this size is news
LARGEST_HABITUATION = 1e6


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """Settings of a detector. The defaults were measured in `docs/anomalies.md`.

    threshold: combined surprisal, in nats, at which a point is an alarm.
    hold: seconds after an alarm in which more of the same raises no other.
    worse_factor: ratio of surprisals from which an anomaly is not the
        same any more.
    habituation: nats by which each alarm raises the threshold.
    memory: seconds in which that decays to 1/e.
    warm_up: seconds that a signal needs before it counts (24 values at least, and no
        more than 100).
    tolerance: differences below this share of the series' mean magnitude are noise.
    """

    threshold: float = 3.2
    hold: float = 6 * HOUR
    worse_factor: float = 1.5
    habituation: float = 0.2
    memory: float = 14 * DAY
    warm_up: float = DAY
    tolerance: float = 1e-3


class AlarmPolicy:
    """Turns surprisals into scores, taking earlier alarms into account.

    An alarm is told once: for the time of `hold`, more of the same raises no other. New
    is what is worse, what goes to the other side, and whatever comes after the series
    was calm for an hour.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        self.settings = settings
        self._habituation = 0.0  # alarms so far, decaying
        self._decayed = -math.inf  # epoch seconds until which it was decayed
        self._alarm_time = -math.inf
        self._calm_since: float | None = None
        self._held: dict[int, tuple[float, float]] = {}  # side → surprisal, size

    @property
    def threshold(self) -> float:
        """The surprisal, in nats, at which the next point is an alarm."""
        return self.settings.threshold + self.settings.habituation * self._habituation

    def score(self, surprisal: float, time: float = 0.0, excursion: float = 0.0) -> float:
        """The score of the next point, in [0, 1].

        Args:
            surprisal: Nats.
            time: Epoch seconds, not before the last point's.
            excursion: How far the value is above (or, negative, below) what it was
                before, in the series' unit; 0 where it is within the usual.
        """
        if self._decayed < time:
            if self._habituation:
                self._habituation *= math.exp((self._decayed - time) / self.settings.memory)
            self._decayed = time
        threshold = self.threshold
        score = surprisal / (surprisal + threshold)
        if surprisal < CALM * threshold:
            self._calm_since = time if self._calm_since is None else self._calm_since
            return score
        was_calm = self._calm_since is not None and time - self._calm_since >= CALM_FOR
        self._calm_since = None
        if surprisal < threshold:
            if was_calm:
                self._held = {}
            return score
        is_over = time - self._alarm_time >= self.settings.hold
        if is_over or was_calm:
            self._held = {}
        side, size = (excursion > 0) - (excursion < 0), abs(excursion)
        if not self._is_new(surprisal, side, size):
            return min(score, DEFAULT_THRESHOLD) * 0.98
        if is_over:
            self._habituation = min(self._habituation + 1.0, LARGEST_HABITUATION)
        self._alarm_time = time
        self._held[side] = surprisal, size
        return score

    def _is_new(self, surprisal: float, side: int, size: float) -> bool:
        if not self._held:
            return True
        largest = max(held for _, held in self._held.values())
        if side and side not in self._held and size >= OPPOSITE * largest:
            return True
        factor = self.settings.worse_factor
        if side in self._held and 0 < FARTHER * largest <= size:
            return True
        return surprisal >= factor * max(nats for nats, _ in self._held.values())

    def state(self) -> dict[str, Any]:
        """The policy as plain JSON; `restore` is the inverse."""
        return {
            "habituation": self._habituation,
            "decayed": _finite(self._decayed),
            "alarm_time": _finite(self._alarm_time),
            "calm_since": self._calm_since,
            "held": [[side, *held] for side, held in self._held.items()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state.

        Raises:
            KeyError, TypeError, ValueError: It is none.
        """
        self._habituation = min(max(float(state["habituation"]), 0.0), LARGEST_HABITUATION)
        self._decayed = _time(state["decayed"])
        self._alarm_time = _time(state["alarm_time"])
        calm_since = state["calm_since"]
        self._calm_since = None if calm_since is None else float(calm_since)
        self._held = {
            int(side): (float(nats), float(size)) for side, nats, size in state["held"][:3]
        }


def _finite(time: float) -> float | None:
    return time if math.isfinite(time) else None


def _time(stored: Any) -> float:
    return -math.inf if stored is None else float(stored)
