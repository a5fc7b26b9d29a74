"""Ninety days of hourly metrics of a tenant's product, with known incidents.

Four series, all labelled with the service: `requests` (per minute), `error_rate`
(share, 0 to 1), `latency_ms` (95th percentile) and `active_users`. Days and weeks
repeat; one level shift is the new normal; the incidents are what a detector should
find.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import numpy as np

from .model import Incident
from .profile import Product, TenantProfile

HOURS = 90 * 24 - 12
"""Half a day short of ninety, so that none is too old to be taken while it is being
loaded.
"""
METRICS = ("requests", "error_rate", "latency_ms", "active_users")

INCIDENTS: tuple[tuple[str, str, int, int, int, tuple[str, ...]], ...] = (
    (
        "A database failover that failed",
        "outage",
        73,
        11,
        3,
        ("error_rate", "latency_ms", "requests"),
    ),
    ("Half of the users could not sign in", "drop", 57, 9, 5, ("active_users", "requests")),
    ("A newspaper wrote about us", "spike", 43, 12, 4, ("requests", "active_users")),
    (
        "A slow query, and time-outs after it",
        "combination",
        23,
        14,
        4,
        ("error_rate", "latency_ms"),
    ),
    ("Memory leak: slower every hour until the restart", "drift", 13, 16, 20, ("latency_ms",)),
)
"""Title, kind, working days around this many days before now, local hour, hours long,
series concerned.
"""

LATEST = ("Payment provider down", "outage", 29, 2, ("error_rate", "latency_ms"))
"""Title, kind, hours before now, hours long, series: always fresh."""

LEVEL_SHIFT = ("A large customer moved in: a third more load from here on", 30, 1.34)
"""Title, days before now, factor."""


def incidents(profile: TenantProfile, now: datetime) -> tuple[Incident, ...]:
    """What went wrong, oldest first, and the level shift."""
    today = now.astimezone(ZoneInfo(profile.product.timezone)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    random = Random(profile.tenant)
    found = []
    for title, kind, days, hour, hours, names in INCIDENTS:
        day = today - timedelta(days=days + random.randint(-4, 4))
        day -= timedelta(days=max(0, day.weekday() - 4))
        found.append(_incident(profile.tenant, title, kind, day.replace(hour=hour), hours, names))
    title, kind, ago, hours, names = LATEST
    last = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=ago)
    found.append(_incident(profile.tenant, title, kind, last, hours, names))
    title, days, _ = LEVEL_SHIFT
    found.append(
        _incident(
            profile.tenant,
            title,
            "level_shift",
            today - timedelta(days=days),
            days * 24,
            ("requests", "active_users"),
        )
    )
    return tuple(sorted(found, key=lambda incident: incident.start))


def _incident(
    tenant: str, title: str, kind: str, start: datetime, hours: int, names: tuple[str, ...]
) -> Incident:
    start = start.astimezone(UTC)
    end = start + timedelta(hours=hours)
    name = f"{tenant}-{kind}-{start:%Y%m%d}"
    return Incident(name, title, kind, names, start, end)  # type: ignore[arg-type]


def series(
    product: Product, happened: tuple[Incident, ...], *, rng: np.random.Generator, now: datetime
) -> tuple[list[datetime], Mapping[str, np.ndarray]]:
    """Hours (`HOURS` of them, the last one complete before `now`) and, per metric, as
    many values.
    """
    last = now.replace(minute=0, second=0, microsecond=0)
    times = [last - timedelta(hours=h) for h in range(HOURS, 0, -1)]
    local = [t.astimezone(ZoneInfo(product.timezone)) for t in times]
    hour = np.array([t.hour + 0.5 for t in local])
    weekday = np.array([t.weekday() for t in local])
    shape = 0.12 + _bump(hour, product.peaks[0], 2.6) + 0.85 * _bump(hour, product.peaks[1], 2.9)
    shape /= shape.max()
    week = np.array([1.12, 1.0, 0.98, 0.97, 0.9, product.weekend, product.weekend * 0.9])[weekday]
    growth = np.linspace(0.97, 1.03, len(times))
    load = shape * week * growth
    shift = next(incident for incident in happened if incident.kind == "level_shift")
    load[np.array([t >= shift.start for t in times])] *= LEVEL_SHIFT[2]

    requests = product.requests * load * np.exp(_drifting_noise(rng, len(times), 0.045))
    users = product.active_users * load**0.85 * np.exp(_drifting_noise(rng, len(times), 0.04))
    latency = (
        product.latency_ms
        * (0.82 + 0.3 * load / load.max())
        * np.exp(_drifting_noise(rng, len(times), 0.05))
    )
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
    """First-order autoregressive noise with standard deviation `scale`: one hour
    resembles the last.
    """
    shocks = rng.normal(0, scale * np.sqrt(1 - 0.6**2), n)
    noise = np.empty(n)
    previous = 0.0
    for i, shock in enumerate(shocks):
        previous = 0.6 * previous + shock
        noise[i] = previous
    return noise
