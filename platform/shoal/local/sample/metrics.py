"""Ninety days of hourly metrics of a tenant's product, with known incidents.

Four series, all labelled with the service: `requests` (per minute), `error_rate`
(share, 0 to 1), `latency_ms` (95th percentile) and `active_users`. Days and weeks
repeat; one level shift is the new normal; the incidents are what a detector should
find.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import numpy as np

from .model import Incident, IncidentKind
from .profile import Product, TenantProfile

HOURS = 90 * 24 - 12
"""Less than 90 days, so that no point is too old by the time that it is loaded."""
METRICS = ("requests", "error_rate", "latency_ms", "active_users")


@dataclass(frozen=True, slots=True)
class IncidentTemplate:
    """An incident on a working day around `days` before now, at a local `hour`."""

    title: str
    kind: IncidentKind
    metrics: tuple[str, ...]
    days: int
    hour: int
    duration: int
    """Hours."""


INCIDENTS = (
    IncidentTemplate(
        "A database failover that failed",
        "outage",
        ("error_rate", "latency_ms", "requests"),
        days=73,
        hour=11,
        duration=3,
    ),
    IncidentTemplate(
        "Half of the users could not sign in",
        "drop",
        ("active_users", "requests"),
        days=57,
        hour=9,
        duration=5,
    ),
    IncidentTemplate(
        "A newspaper wrote about us",
        "spike",
        ("requests", "active_users"),
        days=43,
        hour=12,
        duration=4,
    ),
    IncidentTemplate(
        "A slow query, and time-outs after it",
        "combination",
        ("error_rate", "latency_ms"),
        days=23,
        hour=14,
        duration=4,
    ),
    IncidentTemplate(
        "Memory leak: slower every hour until the restart",
        "drift",
        ("latency_ms",),
        days=13,
        hour=16,
        duration=20,
    ),
)
LATEST_AGE = 29
"""Hours before now of the latest incident, so that there is always a recent one."""
LEVEL_SHIFT_AGE = 30
"""Days."""
LEVEL_SHIFT_FACTOR = 1.34


def incidents(profile: TenantProfile, now: datetime) -> tuple[Incident, ...]:
    """The incidents and the level shift, oldest first."""
    today = now.astimezone(ZoneInfo(profile.product.timezone)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    random = Random(profile.tenant)
    found = [
        _incident(
            profile.tenant,
            "Payment provider down",
            "outage",
            ("error_rate", "latency_ms"),
            this_hour - timedelta(hours=LATEST_AGE),
            2,
        ),
        _incident(
            profile.tenant,
            "A large customer moved in: a third more load from here on",
            "level_shift",
            ("requests", "active_users"),
            today - timedelta(days=LEVEL_SHIFT_AGE),
            LEVEL_SHIFT_AGE * 24,
        ),
    ]
    for template in INCIDENTS:
        day = today - timedelta(days=template.days + random.randint(-4, 4))
        day -= timedelta(days=max(0, day.weekday() - 4))
        start = day.replace(hour=template.hour)
        found.append(
            _incident(
                profile.tenant,
                template.title,
                template.kind,
                template.metrics,
                start,
                template.duration,
            )
        )
    return tuple(sorted(found, key=lambda incident: incident.start))


def _incident(
    tenant: str,
    title: str,
    kind: IncidentKind,
    metrics: tuple[str, ...],
    start: datetime,
    hours: int,
) -> Incident:
    start = start.astimezone(UTC)
    id = f"{tenant}-{kind}-{start:%Y%m%d}"
    return Incident(id, title, kind, metrics, start, start + timedelta(hours=hours))


def series(
    product: Product, happened: tuple[Incident, ...], *, rng: np.random.Generator, now: datetime
) -> tuple[list[datetime], Mapping[str, np.ndarray]]:
    """The hourly values of each metric.

    Returns:
        `HOURS` times, the last complete hour last, and by metric as many values.
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
    load[np.array([t >= shift.start for t in times])] *= LEVEL_SHIFT_FACTOR

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
        _apply(incident, inside, requests, users, latency, errors, rng)

    values = {
        "requests": np.round(requests, 1),
        "error_rate": np.round(np.clip(errors, 0, 1), 5),
        "latency_ms": np.round(latency, 1),
        "active_users": np.round(users),
    }
    return times, values


def _apply(
    incident: Incident,
    inside: np.ndarray,
    requests: np.ndarray,
    users: np.ndarray,
    latency: np.ndarray,
    errors: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Change the values `inside` an incident, in place."""
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


def _bump(hour: np.ndarray, centre: float, width: float) -> np.ndarray:
    """A bell curve around the hour `centre`, continuous at midnight."""
    distance = (hour - centre + 12) % 24 - 12
    return np.exp(-0.5 * (distance / width) ** 2)


def _drifting_noise(rng: np.random.Generator, n: int, scale: float) -> np.ndarray:
    """First-order autoregressive noise with standard deviation `scale`."""
    shocks = rng.normal(0, scale * np.sqrt(1 - 0.6**2), n)
    noise = np.empty(n)
    previous = 0.0
    for i, shock in enumerate(shocks):
        previous = 0.6 * previous + shock
        noise[i] = previous
    return noise
