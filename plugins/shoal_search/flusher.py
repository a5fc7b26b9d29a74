"""Flushing behind the writes, so that what was just written is not only found but found fast."""

import asyncio
import logging

from shoal import ShoalError, TenantContext

from .index import Index

log = logging.getLogger("shoal.search")
QUIET = 1.0
"""Seconds without a write after which a tenant's rows are flushed."""
LONGEST = 10.0
"""Seconds of unbroken writing after which they are flushed all the same."""


class Flusher:
    """One per process. Milvus keeps new rows aside until they are flushed, where each makes a search slower; but a flush for
    each write would leave as many little segments, and a real Milvus limits how often one may flush."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._last: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def wrote(self, ctx: TenantContext) -> None:
        """Note that this tenant's items changed."""
        self._last[ctx.tenant] = asyncio.get_running_loop().time()
        task = self._tasks.get(ctx.tenant)
        if task is None or task.done():
            self._tasks[ctx.tenant] = asyncio.create_task(self._flush(ctx))

    async def _flush(self, ctx: TenantContext) -> None:
        loop = asyncio.get_running_loop()
        while True:
            first = loop.time()
            while (now := loop.time()) < min(self._last[ctx.tenant] + QUIET, first + LONGEST):
                await asyncio.sleep(min(self._last[ctx.tenant] + QUIET, first + LONGEST) - now)
            begun = loop.time()
            try:
                await self._index.flush(ctx)
            except ShoalError as error:  # the rows are safe; the next write tries again
                log.warning("the index of %s could not be flushed: %s", ctx.tenant, error)
            if self._last[ctx.tenant] < begun:
                return
