"""HTTP clients of signed-in sessions, shared by their pages."""

import time
from collections import OrderedDict

from shoal.client.http import AsyncClient

from .session import Session

MAX_CLIENTS = 200
MAX_AGE = 600.0
"""Seconds after which a client is replaced, so that new operations are seen."""
GRACE = 120.0
"""Seconds that pages have to finish with a client that was replaced."""


class ClientPool:
    """One client per key and user; the least recently used ones are dropped first."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._clients: OrderedDict[tuple[str, str | None], tuple[float, AsyncClient]] = (
            OrderedDict()
        )
        self._retired: list[tuple[float, AsyncClient]] = []

    async def get(self, session: Session) -> AsyncClient:
        """The client that acts for this session."""
        now = time.monotonic()
        while self._retired and self._retired[0][0] < now - GRACE:
            await self._retired.pop(0)[1].aclose()
        created, client = self._clients.pop((session.key, session.user), (0.0, None))
        if client is None or created < now - MAX_AGE:
            if client is not None:
                self._retired.append((now, client))
            user = session.user if session.is_key else None  # a token names its user itself
            created, client = now, AsyncClient(self._address, session.key, user=user)
        self._clients[session.key, session.user] = (created, client)
        if len(self._clients) > MAX_CLIENTS:
            _, (_, oldest) = self._clients.popitem(last=False)
            self._retired.append((now, oldest))
        return client

    async def close(self) -> None:
        """Close all clients."""
        for _, client in [*self._clients.values(), *self._retired]:
            await client.aclose()
        self._clients.clear()
        self._retired.clear()
