"""Deadlines that one timer keeps, against the order of events that a clock gives."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from shoal.router.deadlines import Deadlines

pytestmark = pytest.mark.anyio


@pytest.fixture
async def deadlines() -> AsyncIterator[Deadlines]:
    deadlines = Deadlines()
    deadlines.start()
    yield deadlines
    await deadlines.stop()


async def run(deadlines: Deadlines, seconds: float | None, sleeps: float) -> float:
    began = monotonic()
    async with deadlines.begin(seconds) as timeout:
        try:
            await asyncio.sleep(sleeps)
        finally:
            deadlines.end(timeout)
    return monotonic() - began


async def test_each_of_many_expires_if_it_is_over(deadlines: Deadlines) -> None:
    cases = [(0.1 * n, 5.0 if n % 2 else 0.01) for n in range(1, 9)]
    found = await asyncio.gather(*(run(deadlines, *c) for c in cases), return_exceptions=True)
    assert [isinstance(each, TimeoutError) for each in found] == [n % 2 == 1 for n in range(1, 9)]


async def test_none_is_no_limit(deadlines: Deadlines) -> None:
    assert await run(deadlines, None, 0.2) >= 0.2


async def test_it_never_expires_too_early(deadlines: Deadlines) -> None:
    began = monotonic()
    with pytest.raises(TimeoutError):
        await run(deadlines, 0.3, 5)
    assert monotonic() - began >= 0.3


async def test_what_has_ended_expires_no_more(deadlines: Deadlines) -> None:
    async with deadlines.begin(0.1) as timeout:
        deadlines.end(timeout)
        await asyncio.sleep(0.3)
    assert not timeout.expired()


async def test_one_that_is_due_may_still_be_ended() -> None:
    """Between the tick that finds it and the loop's turn that would cancel the task."""
    deadlines = Deadlines()
    async with deadlines.begin(1) as timeout:
        deadlines.expire(monotonic() + 2)
        deadlines.end(timeout)
        await asyncio.sleep(0)
    assert not timeout.expired()


async def test_a_caller_that_goes_on_after_expiry_may_end_it() -> None:
    deadlines = Deadlines()
    async with deadlines.begin(1) as timeout:
        deadlines.expire(monotonic() + 2)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(5)
        deadlines.end(timeout)
    assert timeout.expired()


async def test_the_inner_of_two_may_expire_alone(deadlines: Deadlines) -> None:
    async with deadlines.begin(5) as outer:
        with pytest.raises(TimeoutError):
            await run(deadlines, 0.1, 5)
        deadlines.end(outer)
    assert not outer.expired()


async def test_another_cancellation_is_no_timeout(deadlines: Deadlines) -> None:
    task = asyncio.create_task(run(deadlines, 5, 5))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_is_kept_of_those_that_ended(deadlines: Deadlines) -> None:
    await asyncio.gather(*(run(deadlines, 5, 0) for _ in range(100)))
    with pytest.raises(ValueError):
        async with deadlines.begin(5) as timeout:
            try:
                raise ValueError
            finally:
                deadlines.end(timeout)
    assert len(deadlines) == 0


async def test_a_timeout_left_without_ending_stops_no_other(deadlines: Deadlines) -> None:
    async with deadlines.begin(0.1):
        pass
    await asyncio.sleep(0.3)
    with pytest.raises(TimeoutError):
        await run(deadlines, 0.1, 5.0)
