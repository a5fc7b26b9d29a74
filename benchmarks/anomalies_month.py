"""A month of one company with known incidents: the pages that people get, against
alerting on each anomaly.

    python benchmarks/anomalies_month.py

Five-minute points of the error rate, latency, requests and active users of one service,
played through the detectors, the rules and the alert manager as in production, seasons
fitted each night (no stores, no Ray, no forest). Incidents, level shifts, a flapping
series and maintenance are put in at known times.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from shoal_anomalies import DEFAULT_THRESHOLD, seasonal
from shoal_anomalies.alert_manager import AlertManager
from shoal_anomalies.detector import Detector
from shoal_anomalies.maintenance import MaintenanceWindow, Match
from shoal_anomalies.points import series_id
from shoal_anomalies.rules import DEFAULT_RULES, Observation, Rule
from shoal_anomalies.series_state import SeriesState
from shoal_anomalies.statistical import z_scores

DAYS, STEP = 30, 300
START = datetime(2026, 3, 2, tzinfo=UTC)
METRICS = ("error_rate", "latency_ms", "requests", "active_users")
LABELS = {"service": "shop"}


@dataclass
class Happening:
    """`kind`: outage (errors and latency rise), drop (usage falls), shift (a new level;
    worth one notice at most), flap, maintenance.
    """

    kind: str
    day: float
    hours: float
    told: list[datetime] = field(default_factory=list)

    def covers(self, at: datetime, slack: float = 0.5) -> bool:
        begin = START + timedelta(days=self.day)
        return begin <= at <= begin + timedelta(hours=self.hours + slack)


HAPPENED = [
    Happening("outage", 4.45, 1.5), Happening("outage", 11.6, 0.75), Happening("outage", 19.4, 3), Happening("outage", 26.55, 1),
    Happening("drop", 8.5, 2), Happening("drop", 22.45, 3),
    Happening("flap", 15.4, 4), Happening("shift", 13.0, 24), Happening("shift", 24.0, 24),
    Happening("maintenance", 6.1, 2), Happening("maintenance", 20.1, 2),
]  # fmt: skip


def month(seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    n = DAYS * 86_400 // STEP
    day = np.arange(n) * STEP / 86_400
    rhythm = 1 + 0.5 * np.sin(2 * np.pi * (day - 0.3)) - 0.25 * ((day // 1) % 7 >= 5)
    shifted = 1 + 0.35 * (day >= 13) - 0.2 * (day >= 24)
    series = {
        "error_rate": 0.01 * np.exp(random.normal(0, 0.3, n)),
        "latency_ms": 120 * rhythm**0.3 * np.exp(random.normal(0, 0.08, n)),
        "requests": random.poisson(600 * rhythm * shifted).astype(float),
        "active_users": random.poisson(200 * rhythm).astype(float),
    }
    for what in HAPPENED:
        here = (day >= what.day) & (day < what.day + what.hours / 24)
        if what.kind in ("outage", "maintenance"):
            series["error_rate"][here] = 0.3 + 0.1 * random.random(here.sum())
            series["latency_ms"][here] *= 6
            series["requests"][here] *= 0.6
        elif what.kind == "drop":
            series["active_users"][here] *= 0.25
            series["requests"][here] *= 0.3
        elif what.kind == "flap":
            series["error_rate"][here] = np.where(np.arange(here.sum()) % 4 < 2, 0.25, 0.01)
    return series


def fit(state: dict[str, SeriesState], times: np.ndarray, series: dict[str, np.ndarray]) -> None:
    """What the night's job does for the season."""
    for metric, one in state.items():
        try:
            one.model = seasonal.fit(times, series[metric])
        except seasonal.TooShort:
            continue


def main() -> None:
    series = month()
    n = len(series["requests"])
    state = {m: SeriesState(series_id(m, LABELS), m, LABELS, Detector()) for m in METRICS}
    rules: dict[str, Rule] = dict(DEFAULT_RULES)
    windows = {
        f"upgrade {i}": MaintenanceWindow(
            **{"from": START + timedelta(days=w.day), "to": START + timedelta(days=w.day, hours=w.hours + 0.1)}, match=Match(labels=LABELS)
        )
        for i, w in enumerate(HAPPENED) if w.kind == "maintenance"
    }  # fmt: skip
    manager, notices, anomalies = AlertManager(), [], 0
    times = START.timestamp() + STEP * np.arange(n)
    for i in range(n):
        at = START + timedelta(seconds=i * STEP)
        if i and i % (86_400 // STEP) == 2 * 3600 // STEP:  # at two in the morning
            fit(state, times[:i], {m: values[:i] for m, values in series.items()})
        for metric, one in state.items():
            value = float(series[metric][i])
            verdict = one.score(at.timestamp(), value)
            alarm = verdict.score >= DEFAULT_THRESHOLD
            anomalies += alarm
            seen = Observation(
                metric,
                LABELS,
                one.id,
                at,
                value,
                one.expected_value(at.timestamp()),
                alarm,
                one.is_calm,
            )
            for notice in manager.observe(seen, rules, windows):
                notices.append((at, notice, manager.alerts[notice.alert].priority))
        for notice in manager.advance(at, rules, windows):
            notices.append((at, notice, manager.alerts[notice.alert].priority))
    z_alarms = int(sum((np.abs(z_scores(values)) > 3).sum() for values in series.values()))
    over = sum(int(series["error_rate"][i] > 0.1) for i in range(n))
    opened = [
        (at, notice)
        for at, notice, _ in notices
        if notice.reason in ("opened", "worsened", "reopened")
    ]
    pages = [(at, notice) for at, notice in opened if notice.channel == "page"]
    real = [h for h in HAPPENED if h.kind in ("outage", "drop", "flap")]
    for at, _ in opened:
        for what in HAPPENED:
            if what.covers(at):
                what.told.append(at)
    false = {(at, notice.alert) for at, notice in opened if not any(w.covers(at) for w in HAPPENED)}
    firsts = [min(h.told) - (START + timedelta(days=h.day)) for h in real if h.told]
    print(
        f"{DAYS} days, {len(METRICS)} series, {n * len(METRICS):,} points; {len(real)} incidents, 2 level shifts, 2 maintenance windows\n"
    )
    print(f"{'alerting on each':36s}{'notices':>9s}")
    print(f"{'  point with |z| > 3':36s}{z_alarms:9d}")
    print(f"{'  point with an error rate over 10 %':36s}{over:9d}")
    print(f"{'  anomaly (combined score)':36s}{anomalies:9d}")
    print(
        f"{'the alert manager: notices in all':36s}{len(notices):9d}   (reminders, escalations and all-clears included)"
    )
    print(f"{'  first notices':36s}{len(opened):9d}   to pager, chat and e-mail")
    print(
        f"{'  of them pages (P1)':36s}{len(pages):9d}   for {sum(h.kind in ('outage', 'flap') for h in real)} incidents worth a page"
    )
    found = sum(bool(h.told) for h in real)
    slowest = max(firsts).total_seconds() / 60 if firsts else float("nan")
    print(
        f"\\nincidents told of: {found} of {len(real)}, the slowest after {slowest:.0f} minutes".replace(
            "\\n", "\n"
        )
    )
    for what in HAPPENED:
        print(
            f"  {what.kind:12s} day {what.day:5.2f}, {what.hours:4.1f} h: {len(set(what.told))} moments with a first notice"
        )
    print(
        f"false notices (nothing had happened): {len(false)}; in maintenance: {sum(bool(h.told) for h in HAPPENED if h.kind == 'maintenance')}"
    )


if __name__ == "__main__":
    main()
