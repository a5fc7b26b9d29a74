"""Work that follows a request but must not delay it."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from .tasks import end

log = logging.getLogger(__name__)

T = TypeVar("T")


class Outbox(Generic[T]):
    """A bounded queue that one task delivers in batches, trying again after a fault;
    `close` delivers what is left.
    """

    BATCH, AGAIN = 500, 1.0

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
        """Take it, unless the queue is full."""
        if len(self._waiting) >= self._capacity:
            return False
        self._waiting.append(item)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"shoal-{self._name}")
        return True

    async def put(self, item: T) -> None:
        """Take it, waiting for room."""
        while not self.offer(item):
            self._room.clear()
            await self._room.wait()

    async def close(self, patience: float = 10) -> None:
        """Deliver all and end. What cannot be delivered in `patience` seconds is lost,
        and logged so.
        """
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience)
            await end(self._task)
            self._task = None
        if self._waiting:
            log.error(
                "%s: %d entries were not delivered before the end", self._name, len(self._waiting)
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
                await asyncio.sleep(self.AGAIN)
                continue
            for _ in batch:
                self._waiting.popleft()
            self._room.set()
