"""Ninety days of hourly figures of the company's product, with known incidents in them.

Four series, all labelled with the service: `requests` (per minute), `error_rate` (share, 0 to 1), `latency_ms` (95th percentile)
and `active_users`. Days and weeks repeat; one level shift is the new normal; the incidents are what a detector should find.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from .company import Product
from .model import Incident

DAYS = 90
METRICS = ("requests", "error_rate", "latency_ms", "active_users")

INCIDENTS: tuple[tuple[str, str, float, float, tuple[str, ...]], ...] = (
    ("A database failover that failed", "outage", 71.4, 3, ("error_rate", "latency_ms", "requests")),
    ("Half of the users could not sign in", "drop", 55.2, 5, ("active_users", "requests")),
    ("A newspaper wrote about us", "spike", 41.6, 4, ("requests", "active_users")),
    ("A slow query, and time-outs after it", "combination", 22.4, 4, ("error_rate", "latency_ms")),
    ("Memory leak: slower every hour until the restart", "drift", 13.3, 20, ("latency_ms",)),
    ("Payment provider down", "outage", 1.2, 2, ("error_rate", "latency_ms")),
)
"""Title, kind, days before now, hours long, series concerned."""

LEVEL_SHIFT = ("A large customer moved in: a third more load from here on", 30.0, 1.34)


def incidents(tenant: str, now: datetime) -> tuple[Incident, ...]:
    """What went wrong, oldest first, and the level shift."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    found = [
        Incident(f"{tenant}-{kind}-{n}", title, kind, series, hour - timedelta(hours=round(days * 24)), hour - timedelta(hours=round(days * 24) - hours))  # type: ignore[arg-type]
        for n, (title, kind, days, hours, series) in enumerate(INCIDENTS, 1)
    ]
    title, days, _ = LEVEL_SHIFT
    shift = Incident(f"{tenant}-level-shift", title, "level_shift", ("requests", "active_users"), hour - timedelta(days=days), hour)
    return tuple(sorted([*found, shift], key=lambda incident: incident.start))


def series(
    product: Product, happened: tuple[Incident, ...], *, rng: np.random.Generator, now: datetime
) -> tuple[list[datetime], Mapping[str, np.ndarray]]:
    """Hours (2,160 of them, the last one complete before `now`) and, per metric, as many values."""
    last = now.replace(minute=0, second=0, microsecond=0)
    times = [last - timedelta(hours=h) for h in range(DAYS * 24, 0, -1)]
    local = [t.astimezone(ZoneInfo(product.timezone)) for t in times]
    hour = np.array([t.hour + 0.5 for t in local])
    weekday = np.array([t.weekday() for t in local])
    shape = 0.12 + _bump(hour, product.peaks[0], 2.6) + 0.85 * _bump(hour, product.peaks[1], 2.9)
    shape /= shape.max()
    week = np.array([1.12, 1.0, 0.98, 0.97, 0.9, product.weekend, product.weekend * 0.9])[weekday]
    growth = np.linspace(0.97, 1.03, len(times))
    load = shape * week * growth
    _, days, factor = LEVEL_SHIFT
    load[np.array([t >= last - timedelta(days=days) for t in times])] *= factor

    requests = product.requests * load * np.exp(_drifting_noise(rng, len(times), 0.045))
    users = product.active_users * load**0.85 * np.exp(_drifting_noise(rng, len(times), 0.04))
    latency = product.latency_ms * (0.82 + 0.3 * load / load.max()) * np.exp(_drifting_noise(rng, len(times), 0.05))
    errors = product.error_rate * rng.gamma(18, 1 / 18, len(times))

    for incident in happened:
        inside = np.array([incident.start <= t < incident.end for t in times])
        n = int(inside.sum())
        if incident.kind == "outage":
            errors[inside] = rng.uniform(0.14, 0.31, n)
            latency[inside] *= rng.uniform(3.5, 6, n)
            if "requests" in incident.metrics:
                requests[inside] *= rng.uniform(0.45, 0.65, n)
        elif incident.kind == "drop":
            users[inside] *= rng.uniform(0.3, 0.42, n)
            requests[inside] *= rng.uniform(0.4, 0.5, n)
        elif incident.kind == "spike":
            requests[inside] *= rng.uniform(2.4, 3.1, n)
            users[inside] *= rng.uniform(1.9, 2.4, n)
        elif incident.kind == "combination":
            errors[inside] *= rng.uniform(2.6, 3.4, n)
            latency[inside] *= rng.uniform(1.5, 1.8, n)
        elif incident.kind == "drift":
            latency[inside] *= np.linspace(1.05, 2.6, n)

    values = {
        "requests": np.round(requests, 1),
        "error_rate": np.round(np.clip(errors, 0, 1), 5),
        "latency_ms": np.round(latency, 1),
        "active_users": np.round(users),
    }
    return times, values


def _bump(hour: np.ndarray, centre: float, width: float) -> np.ndarray:
    """A bell around the hour `centre`, with midnight no edge."""
    distance = (hour - centre + 12) % 24 - 12
    return np.exp(-0.5 * (distance / width) ** 2)


def _drifting_noise(rng: np.random.Generator, n: int, scale: float) -> np.ndarray:
    """First-order autoregressive noise with standard deviation `scale`: one hour resembles the last."""
    shocks = rng.normal(0, scale * np.sqrt(1 - 0.6**2), n)
    noise = np.empty(n)
    previous = 0.0
    for i, shock in enumerate(shocks):
        previous = 0.6 * previous + shock
        noise[i] = previous
    return noise
