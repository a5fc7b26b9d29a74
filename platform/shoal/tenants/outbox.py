"""A queue for work that must not delay a request."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from .tasks import cancel_and_wait

log = logging.getLogger(__name__)

T = TypeVar("T")


class Outbox(Generic[T]):
    """A bounded queue that a task delivers in batches, with retries.

    Args:
        name: For the log.
        deliver: Delivers a batch; it is called again after an exception.
        capacity: How many items may wait.
        linger: Seconds to wait for more items before a delivery.
    """

    BATCH = 500
    RETRY_SECONDS = 1.0

    def __init__(
        self,
        name: str,
        deliver: Callable[[list[T]], Awaitable[None]],
        *,
        capacity: int = 10_000,
        linger: float = 0.1,
    ) -> None:
        self._name, self._deliver, self._capacity, self._linger = name, deliver, capacity, linger
        self._waiting: deque[T] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, item: T) -> bool:
        """Queue an item; False when the queue is full."""
        if len(self._waiting) >= self._capacity:
            return False
        self._waiting.append(item)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"shoal-{self._name}")
        return True

    async def put(self, item: T) -> None:
        """Queue an item, waiting for room."""
        while not self.offer(item):
            self._room.clear()
            await self._room.wait()

    async def close(self, patience: float = 10) -> None:
        """Deliver the rest and stop. After `patience` seconds it is lost and logged."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience)
            await cancel_and_wait(self._task)
            self._task = None
        if self._waiting:
            log.error(
                "%s: %d entries were not delivered before the stop", self._name, len(self._waiting)
            )
        self._closing = False

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                if not self._closing:
                    await asyncio.sleep(self._linger)
                continue
            batch = [self._waiting[i] for i in range(min(self.BATCH, len(self._waiting)))]
            try:
                await self._deliver(batch)
            except Exception as error:
                log.warning(
                    "%s: delivering %d entries failed, trying again: %s",
                    self._name,
                    len(batch),
                    error,
                )
                await asyncio.sleep(self.RETRY_SECONDS)
                continue
            for _ in batch:
                self._waiting.popleft()
            self._room.set()
