"""The rhythm of a series: how long it may be silent before that is unusual."""

from dataclasses import dataclass, field
from statistics import median

STEPS = 20  # intervals that the rhythm is learnt from
MIN_STEPS = 5
PATIENCE = 3.0  # usual intervals without a point
MIN_PATIENCE = 120.0  # seconds
MAX_GAPS = 60
DAY, WEEK = 86_400.0, 604_800.0
GAP_RETENTION = 5 * WEEK
MARGIN, MAX_MARGIN = 0.1, 4_000.0  # of a usual gap; covers a change of the clocks by an hour


@dataclass(slots=True)
class Rhythm:
    """When points of a series come. Times are epoch seconds.

    time: of the newest point.
    first, seen: when a point arrived first and last, by the clock on the wall.
    steps, arrivals: the last intervals between points, and between their arrivals.
    gaps: times without an arrival that were longer than usual, of the last weeks.
    is_silent: whether its present silence has been reported.
    """

    metric: str
    labels: dict[str, str]
    time: float
    first: float
    seen: float
    steps: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    is_silent: bool = False

    def hear(self, time: float, now: float) -> None:
        """Take in a point's time, and when it arrived."""
        if time > self.time:
            self.steps = [*self.steps, time - self.time][-STEPS:]
            self.time = time
        if now > self.seen:
            patience = self.patience
            if patience is not None and now - self.seen > patience:
                recent = [gap for gap in self.gaps if gap[1] > now - GAP_RETENTION]
                self.gaps = [*recent, (self.seen, now)][-MAX_GAPS:]
            self.arrivals = [*self.arrivals, now - self.seen][-STEPS:]
            self.seen = now
        self.is_silent = False

    @property
    def interval(self) -> float | None:
        """The usual seconds between points, or between arrivals where they are more."""
        if len(self.steps) < MIN_STEPS or not self.arrivals:
            return None
        return max(median(self.steps), median(self.arrivals))

    @property
    def patience(self) -> float | None:
        """Seconds without a point that are usual; None until the rhythm is known."""
        interval = self.interval
        return None if interval is None else max(PATIENCE * interval, MIN_PATIENCE)

    def is_overdue(self, now: float) -> bool:
        """Whether points are missing: it is silent for long, and was not a week ago.

        In the first week, the day before counts.
        """
        patience = self.patience
        if patience is None or now - self.seen <= patience:
            return False
        shift = WEEK if now - self.first >= WEEK else DAY
        for start, end in self.gaps:
            margin = patience + min(MARGIN * (end - start), MAX_MARGIN)
            if start + shift - margin <= self.seen and now <= end + shift + margin:
                return False
        return True
