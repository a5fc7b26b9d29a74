"""One client per signed-in key, kept while it is in use: pages then share its
connections and what it knows of the operations.
"""

import time
from collections import OrderedDict

from shoal.client.http import AsyncClient

from .session import Session

MOST = 200
LONGEST = 600.0
"""Seconds after which a client is made anew, so that a redeployed capability's new
operations are seen.
"""


class Clients:
    """The least recently used ones go first. A client that is dropped is closed once
    its pages had time to finish.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._open: OrderedDict[tuple[str, str | None], tuple[float, AsyncClient]] = OrderedDict()
        self._leaving: list[tuple[float, AsyncClient]] = []

    async def get(self, session: Session) -> AsyncClient:
        """The client that acts for this session."""
        now = time.monotonic()
        while self._leaving and self._leaving[0][0] < now - 120:
            await self._leaving.pop(0)[1].aclose()
        made, client = self._open.pop((session.key, session.user), (0.0, None))
        if client is None or made < now - LONGEST:
            if client is not None:
                self._leaving.append((now, client))
            made, client = now, AsyncClient(self._address, session.key, user=session.user)
        self._open[session.key, session.user] = (made, client)
        if len(self._open) > MOST:
            self._leaving.append((now, self._open.popitem(last=False)[1][1]))
        return client

    async def close(self) -> None:
        for _, client in [*self._open.values(), *self._leaving]:
            await client.aclose()
        self._open.clear()
        self._leaving.clear()
