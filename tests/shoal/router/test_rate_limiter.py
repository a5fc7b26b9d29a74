"""Limits: the bucket, its share among replicas, and how tenants' own limits stack."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shoal import LimitExceeded
from shoal.router.rate_limiter import RateLimiter, ReplicaHeartbeat
from shoal.tenants.directory import Directory
from shoal.tenants.records import DEFAULT_LIMITS, Limits


def admitted(gate: RateLimiter, limits: Limits, times: list[float], replicas: int = 1) -> int:
    count = 0
    for now in times:
        try:
            gate.enter(limits, replicas, now)
        except LimitExceeded:
            continue
        gate.leave()
        count += 1
    return count


def test_a_burst_and_then_the_rate() -> None:
    limits = Limits(rps=10, burst=5)
    gate = RateLimiter(limits)
    assert admitted(gate, limits, [100.0] * 50) == 5
    assert admitted(gate, limits, [100.0 + i / 1000 for i in range(1000)]) == 9  # at .1, .2, … .9
    assert (
        admitted(gate, limits, [1000.0] * 50) == 5
    )  # what was not used is not saved beyond the burst


@given(st.floats(0.5, 1000), st.floats(1, 1000), st.lists(st.floats(0, 0.1), max_size=300))
def test_never_more_than_burst_and_rate_allow(rps: float, burst: float, gaps: list[float]) -> None:
    limits, now, times = Limits(rps=rps, burst=burst), 50.0, []
    for gap in gaps:
        now += gap
        times.append(now)
    assert admitted(RateLimiter(limits), limits, times) <= burst + rps * (now - 50.0) + 1e-6


def test_retry_after_is_when_it_will_be_let_in() -> None:
    limits = Limits(rps=2, burst=1)
    gate = RateLimiter(limits)
    gate.enter(limits, 1, 10.0)
    with pytest.raises(LimitExceeded) as caught:
        gate.enter(limits, 1, 10.1)
    assert caught.value.retry_after == pytest.approx(0.4)
    gate.enter(limits, 1, 10.1 + caught.value.retry_after)


def test_concurrency_counts_what_is_in_flight() -> None:
    limits = Limits(concurrency=2)
    gate = RateLimiter(limits)
    gate.enter(limits, 1, 1.0)
    gate.enter(limits, 1, 1.0)
    with pytest.raises(LimitExceeded):
        gate.enter(limits, 1, 1.0)
    gate.leave()
    gate.enter(limits, 1, 1.0)


def test_replicas_share_and_changed_limits_keep_what_is_in_flight() -> None:
    limits = Limits(rps=100, burst=10, concurrency=4)
    gate = RateLimiter(limits)
    assert admitted(gate, limits, [1.0] * 50, replicas=2) == 5
    gate.enter(limits, 2, 2.0)
    assert gate.concurrency == 2
    narrower = Limits(rps=100, burst=10, concurrency=1)
    with pytest.raises(LimitExceeded, match="at once"):
        gate.enter(narrower, 2, 3.0)
    assert RateLimiter(Limits(burst=1, concurrency=1), replicas=50).concurrency == 1


def test_limits_stack_from_narrow_to_wide() -> None:
    own = Limits(rps=5).over(Limits(rps=7, burst=9)).over(DEFAULT_LIMITS)
    assert (own.rps, own.burst, own.concurrency) == (5, 9, DEFAULT_LIMITS.concurrency)


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
def test_limits_that_make_no_sense_are_refused(fields: dict[str, object]) -> None:
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
