"""A bounded queue that delivers in batches."""

import asyncio

import pytest

from shoal.tenants.outbox import Outbox

pytestmark = pytest.mark.anyio


async def test_everything_is_delivered_in_order_before_closing() -> None:
    delivered: list[int] = []

    async def deliver(batch: list[int]) -> None:
        delivered.extend(batch)

    outbox: Outbox[int] = Outbox("test", deliver, linger=0)
    for i in range(1234):
        assert outbox.offer(i)
    await outbox.close()
    assert delivered == list(range(1234))
    assert outbox.offer(1234)  # it may be used again
    await outbox.close()
    assert delivered[-1] == 1234


async def test_a_full_outbox_refuses_or_waits() -> None:
    gate = asyncio.Event()
    delivered: list[int] = []

    async def deliver(batch: list[int]) -> None:
        await gate.wait()
        delivered.extend(batch)

    outbox: Outbox[int] = Outbox("test", deliver, capacity=2, linger=0)
    assert [outbox.offer(i) for i in range(3)] == [True, True, False]
    waiting = asyncio.create_task(outbox.put(3))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    gate.set()
    await asyncio.wait_for(waiting, 60)
    await outbox.close()
    assert delivered == [0, 1, 3]


async def test_a_failed_delivery_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outbox, "RETRY_SECONDS", 0.01)
    faults, delivered = iter([OSError("unavailable"), ValueError("what?")]), []

    async def deliver(batch: list[int]) -> None:
        if fault := next(faults, None):
            raise fault
        delivered.extend(batch)

    outbox: Outbox[int] = Outbox("test", deliver, linger=0)
    outbox.offer(1)
    await outbox.close()
    assert delivered == [1]


async def test_what_cannot_be_delivered_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def deliver(batch: list[int]) -> None:
        raise OSError("unavailable")

    outbox: Outbox[int] = Outbox("test", deliver, linger=0)
    outbox.offer(1)
    await outbox.close(patience=0.05)
    assert "1 entries were not delivered" in caplog.text
