"""Background tasks."""

import asyncio
from typing import Any


async def cancel_and_wait(task: "asyncio.Task[Any] | None") -> None:
    """Cancel a task, again until it has ended.

    redis-py can swallow a cancellation that meets its own timeout while reading.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.05)
