"""A simulated month of one service: notifications of the alert manager, against
alerting on each anomaly.

    python benchmarks/anomalies_month.py

Five-minute points of the error rate, latency, requests and active users, processed by
the detectors, the rules and the alert manager as in production, with seasons fitted
every night (without stores, Ray and forests). Outages, drops of usage, level shifts, a
flapping series and maintenance are put in at known times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from shoal_anomalies import DEFAULT_THRESHOLD, seasonal
from shoal_anomalies.alert_manager import AlertManager
from shoal_anomalies.alerts import Notice
from shoal_anomalies.detector import Detector
from shoal_anomalies.maintenance import MaintenanceWindow
from shoal_anomalies.points import series_id
from shoal_anomalies.rules import DEFAULT_RULES, Observation
from shoal_anomalies.series_state import SeriesState
from shoal_anomalies.statistical import z_scores

DAYS, STEP = 30, 300  # seconds
POINTS = DAYS * 86_400 // STEP
FIT_AT = 2 * 3600 // STEP  # points after midnight
START = datetime(2026, 3, 2, tzinfo=UTC)
METRICS = ("error_rate", "latency_ms", "requests", "active_users")
LABELS = {"service": "shop"}
Array = NDArray[np.float64]


@dataclass
class Incident:
    """Something that happens to the service.

    kind: outage (errors and latency rise), drop (usage falls), shift (a new level,
        worth one notice at most), flap, or maintenance.
    day: when it starts, in days.
    notified: times of first notifications during it.
    """

    kind: str
    day: float
    hours: float
    notified: list[datetime] = field(default_factory=list)

    @property
    def start(self) -> datetime:
        return START + timedelta(days=self.day)

    def covers(self, at: datetime, slack: float = 0.5) -> bool:
        return self.start <= at <= self.start + timedelta(hours=self.hours + slack)


INCIDENTS = [
    Incident("outage", 4.45, 1.5),
    Incident("outage", 11.6, 0.75),
    Incident("outage", 19.4, 3),
    Incident("outage", 26.55, 1),
    Incident("drop", 8.5, 2),
    Incident("drop", 22.45, 3),
    Incident("flap", 15.4, 4),
    Incident("shift", 13.0, 24),
    Incident("shift", 24.0, 24),
    Incident("maintenance", 6.1, 2),
    Incident("maintenance", 20.1, 2),
]


def simulate_month(seed: int = 1) -> dict[str, Array]:
    """Values by metric."""
    random = np.random.default_rng(seed)
    day = np.arange(POINTS) * STEP / 86_400
    rhythm = 1 + 0.5 * np.sin(2 * np.pi * (day - 0.3)) - 0.25 * ((day // 1) % 7 >= 5)
    shifted = 1 + 0.35 * (day >= 13) - 0.2 * (day >= 24)
    series = {
        "error_rate": 0.01 * np.exp(random.normal(0, 0.3, POINTS)),
        "latency_ms": 120 * rhythm**0.3 * np.exp(random.normal(0, 0.08, POINTS)),
        "requests": random.poisson(600 * rhythm * shifted).astype(float),
        "active_users": random.poisson(200 * rhythm).astype(float),
    }
    for incident in INCIDENTS:
        here = (day >= incident.day) & (day < incident.day + incident.hours / 24)
        if incident.kind in ("outage", "maintenance"):
            series["error_rate"][here] = 0.3 + 0.1 * random.random(here.sum())
            series["latency_ms"][here] *= 6
            series["requests"][here] *= 0.6
        elif incident.kind == "drop":
            series["active_users"][here] *= 0.25
            series["requests"][here] *= 0.3
        elif incident.kind == "flap":
            series["error_rate"][here] = np.where(np.arange(here.sum()) % 4 < 2, 0.25, 0.01)
    return series


def maintenance_windows() -> dict[str, MaintenanceWindow]:
    windows = {}
    for i, incident in enumerate(INCIDENTS):
        if incident.kind == "maintenance":
            end = incident.start + timedelta(hours=incident.hours + 0.1)
            windows[f"upgrade {i}"] = MaintenanceWindow.model_validate(
                {"from": incident.start, "to": end, "match": {"labels": LABELS}}
            )
    return windows


def fit_seasons(states: Mapping[str, SeriesState], times: Array, series: dict[str, Array]) -> None:
    """Fit the seasons, as the nightly job does."""
    for metric, state in states.items():
        try:
            state.model = seasonal.fit(times, series[metric][: len(times)])
        except seasonal.TooShort:
            continue


def process(series: dict[str, Array]) -> tuple[list[tuple[datetime, Notice]], int]:
    """Process the month; the notices with their times, and the number of anomalies."""
    states = {m: SeriesState(series_id(m, LABELS), m, LABELS, Detector()) for m in METRICS}
    rules, windows = dict(DEFAULT_RULES), maintenance_windows()
    manager, notices, anomalies = AlertManager(), [], 0
    times = START.timestamp() + STEP * np.arange(POINTS)
    for i in range(POINTS):
        at = START + timedelta(seconds=i * STEP)
        if i and i % (86_400 // STEP) == FIT_AT:
            fit_seasons(states, times[:i], series)
        for metric, state in states.items():
            value = float(series[metric][i])
            is_anomaly = state.score(at.timestamp(), value).score >= DEFAULT_THRESHOLD
            anomalies += is_anomaly
            expected = state.expected_value(at.timestamp(), value)
            observation = Observation(
                metric, LABELS, state.id, at, value, expected, is_anomaly, state.is_calm
            )
            manager.observe(observation, rules, at)
        due, _ = manager.advance(at, rules, windows)
        notices += [(at, n) for n in due]
    return notices, anomalies


def main() -> None:
    series = simulate_month()
    notices, anomalies = process(series)
    first = [(at, n) for at, n in notices if n.reason in ("opened", "worsened", "reopened")]
    for at, _ in first:
        for incident in INCIDENTS:
            if incident.covers(at):
                incident.notified.append(at)
    real = [i for i in INCIDENTS if i.kind in ("outage", "drop", "flap")]
    pageable = [i for i in real if i.kind != "drop"]
    false = {(at, n.alert) for at, n in first if not any(i.covers(at) for i in INCIDENTS)}
    counts = {
        "each point with |z| > 3": sum(
            int((np.abs(z_scores(values)) > 3).sum()) for values in series.values()
        ),
        "each point with an error rate over 10 %": int((series["error_rate"] > 0.1).sum()),
        "each anomaly": anomalies,
        "the alert manager: all notices": len(notices),
        "the alert manager: first notices": len(first),
        f"… of them pages, for {len(pageable)} incidents": sum(
            n.channel == "page" for _, n in first
        ),
    }
    print(
        f"{DAYS} days, {len(METRICS)} series, {POINTS * len(METRICS):,} points; "
        f"{len(real)} incidents, 2 level shifts, 2 maintenance windows\n"
    )
    print(f"{'alerting on':44s}{'notices':>9s}")
    for name, count in counts.items():
        print(f"  {name:42s}{count:9d}")
    delays = [min(i.notified) - i.start for i in real if i.notified]
    slowest = max(delays).total_seconds() / 60 if delays else float("nan")
    print(
        f"\nincidents notified: {len(delays)} of {len(real)}, "
        f"the slowest after {slowest:.0f} minutes"
    )
    for incident in INCIDENTS:
        print(
            f"  {incident.kind:12s} day {incident.day:5.2f}, {incident.hours:4.1f} h: "
            f"first notices at {len(set(incident.notified))} times"
        )
    in_maintenance = sum(bool(i.notified) for i in INCIDENTS if i.kind == "maintenance")
    print(f"false notices: {len(false)}; maintenance windows with notices: {in_maintenance}")


if __name__ == "__main__":
    main()
