"""The deadlines of a replica's requests, kept by one timer for all of them."""

import asyncio
from contextlib import suppress
from time import monotonic

from shoal.tenants.tasks import cancel_and_wait

TICK_SECONDS = 0.05


class Deadlines:
    """Gives timeouts that have no timer of their own, which each request would pay for.

    They expire up to `TICK_SECONDS` late, and only between `start` and `stop`.
    """

    def __init__(self) -> None:
        self._due: dict[asyncio.Timeout, float] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(self, seconds: float | None) -> asyncio.Timeout:
        """A timeout, to be entered at once and ended within; None for no limit."""
        timeout = asyncio.timeout(None)
        if seconds is not None:
            self._due[timeout] = monotonic() + seconds
        return timeout

    def end(self, timeout: asyncio.Timeout) -> None:
        """Let a timeout that was entered expire no more. May be repeated."""
        if self._due.pop(timeout, None) is None and timeout.when() is not None:
            with suppress(RuntimeError):  # it has expired already
                timeout.reschedule(None)

    def expire(self, now: float) -> None:
        """Let those expire that are over at a time of `time.monotonic`."""
        for timeout in [timeout for timeout, when in self._due.items() if when <= now]:
            del self._due[timeout]
            with suppress(RuntimeError):  # it was left meanwhile
                timeout.reschedule(asyncio.get_running_loop().time())

    def __len__(self) -> int:
        return len(self._due)

    def start(self) -> None:
        self._task = asyncio.create_task(self._tick(), name="shoal-deadlines")

    async def stop(self) -> None:
        await cancel_and_wait(self._task)
        self._task = None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.expire(monotonic())
