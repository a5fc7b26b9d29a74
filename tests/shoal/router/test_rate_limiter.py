"""Rate limits: the token bucket, its share among replicas, and tenants' own limits."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shoal import LimitExceeded
from shoal.router.rate_limiter import RateLimiter, ReplicaHeartbeat
from shoal.tenants.directory import Directory
from shoal.tenants.records import DEFAULT_LIMITS, Limits


def admitted(limiter: RateLimiter, limits: Limits, times: list[float], replicas: int = 1) -> int:
    count = 0
    for now in times:
        try:
            limiter.acquire(limits, replicas, now)
        except LimitExceeded:
            continue
        limiter.release()
        count += 1
    return count


def test_a_burst_is_followed_by_the_rate() -> None:
    limits = Limits(rps=10, burst=5)
    limiter = RateLimiter(limits)
    assert admitted(limiter, limits, [100.0] * 50) == 5
    assert (
        admitted(limiter, limits, [100.0 + i / 1000 for i in range(1000)]) == 9
    )  # at .1, .2, … .9
    assert admitted(limiter, limits, [1000.0] * 50) == 5  # unused tokens are kept up to the burst


@given(st.floats(0.5, 1000), st.floats(1, 1000), st.lists(st.floats(0, 0.1), max_size=300))
def test_burst_and_rate_are_never_exceeded(rps: float, burst: float, gaps: list[float]) -> None:
    limits, now, times = Limits(rps=rps, burst=burst), 50.0, []
    for gap in gaps:
        now += gap
        times.append(now)
    assert admitted(RateLimiter(limits), limits, times) <= burst + rps * (now - 50.0) + 1e-6


def test_retry_after_is_when_a_request_succeeds() -> None:
    limits = Limits(rps=2, burst=1)
    limiter = RateLimiter(limits)
    limiter.acquire(limits, 1, 10.0)
    with pytest.raises(LimitExceeded) as caught:
        limiter.acquire(limits, 1, 10.1)
    assert caught.value.retry_after == pytest.approx(0.4)
    limiter.acquire(limits, 1, 10.1 + caught.value.retry_after)


def test_concurrency_counts_requests_in_flight() -> None:
    limits = Limits(concurrency=2)
    limiter = RateLimiter(limits)
    limiter.acquire(limits, 1, 1.0)
    limiter.acquire(limits, 1, 1.0)
    with pytest.raises(LimitExceeded):
        limiter.acquire(limits, 1, 1.0)
    limiter.release()
    limiter.acquire(limits, 1, 1.0)


def test_replicas_share_limits_and_changes_keep_requests_in_flight() -> None:
    limits = Limits(rps=100, burst=10, concurrency=4)
    limiter = RateLimiter(limits)
    assert admitted(limiter, limits, [1.0] * 50, replicas=2) == 5
    limiter.acquire(limits, 2, 2.0)
    assert limiter.concurrency == 2
    narrower = Limits(rps=100, burst=10, concurrency=1)
    with pytest.raises(LimitExceeded, match="at once"):
        limiter.acquire(narrower, 2, 3.0)
    assert RateLimiter(Limits(burst=1, concurrency=1), replicas=50).concurrency == 1


def test_narrower_limits_override_wider_ones() -> None:
    own = Limits(concurrency=5).over(Limits(rps=7, burst=9)).over(DEFAULT_LIMITS)
    assert (own.rps, own.burst, own.concurrency) == (7, 9, 5)
    assert own.seconds == DEFAULT_LIMITS.seconds


@given(st.floats(0.001, 10_000), st.none() | st.floats(1, 10_000), st.floats(1, 10_000))
def test_the_burst_is_twice_rps_unless_given(rps: float, burst: float | None, wider: float) -> None:
    limits = Limits(rps=rps, burst=burst).over(Limits(rps=1, burst=wider)).over(DEFAULT_LIMITS)
    assert limits.burst == (burst or max(1, 2 * rps))
    given = Limits(rps=rps, burst=burst)
    assert admitted(RateLimiter(given), given, [1.0] * 20_001) == min(int(limits.burst), 20_001)


def test_the_documented_example_limits() -> None:
    limits = Limits(rps=50).over(DEFAULT_LIMITS)
    assert admitted(RateLimiter(limits), limits, [1.0] * 600) == 100


@pytest.mark.parametrize(
    "fields",
    [
        {"rps": 0},
        {"rps": -1},
        {"rps": "nan"},
        {"burst": 0.5},
        {"concurrency": 0},
        {"body_bytes": -1},
        {"seconds": "inf"},
        {"x": 1},
    ],
)
def test_invalid_limits_are_rejected(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Limits(**fields)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_replicas_count_each_other(directory: Directory) -> None:
    replicas = [ReplicaHeartbeat(directory, "search") for _ in range(3)]
    other = ReplicaHeartbeat(directory, "features")
    for presence in (*replicas, other):
        await presence.start()
    await asyncio.gather(*(presence.beat() for presence in replicas))
    assert [presence.replicas for presence in (*replicas, other)] == [3, 3, 3, 1]
    await replicas[0].stop()
    await replicas[1].beat()
    assert replicas[1].replicas == 2
    for presence in (*replicas[1:], other):
        await presence.stop()
