"""Requests and events at a steady rate, and what became of them."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

PATHS = (
    "/platform/whoami",
    "/search?q=vehicle",
    "/features?user=1&features=actions",
    "/anomalies/alerts",
    "/experiments",
    "/optimizer/people",
)
"""One read of each capability, all from its stores."""
PER_SECOND = 8
"""Requests of each path."""
EVENTS_PER_SECOND = 20


@dataclass
class Load:
    """In use as a context: load on some hosts, in a thread.

    No request is repeated. An event is sent again, under its id, until it is
    acknowledged.

    Attributes:
        addresses: Of the hosts, which take turns.
        user: Whom the events are of.
        failures: When, in seconds from the start, and what.
    """

    addresses: list[str]
    credential: str
    user: str
    requests: int = 0
    events: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    slowest: float = 0.0

    def __enter__(self) -> "Load":
        self._started = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def now(self) -> float:
        return time.monotonic() - self._started

    async def _run(self) -> None:
        headers = {"authorization": f"Bearer {self.credential}"}
        async with httpx.AsyncClient(headers=headers, timeout=12) as http:
            tasks = [asyncio.create_task(self._read(http, path)) for path in PATHS]
            await asyncio.gather(*tasks, self._send(http))

    async def _read(self, http: httpx.AsyncClient, path: str) -> None:
        under_way = set()
        while not self._stopping.is_set():
            task = asyncio.create_task(self._request(http, "GET", path))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            await asyncio.sleep(1 / PER_SECOND)
        await asyncio.gather(*under_way)

    async def _send(self, http: httpx.AsyncClient) -> None:
        while not self._stopping.is_set():
            event = {"type": "item.viewed", "source": "load", "id": f"{self.user}-{self.events}"}
            event |= {"specversion": "1.0"}
            body = {**event, "data": {"user_id": self.user}}
            while not await self._request(http, "POST", "/platform/events", json=body):
                await asyncio.sleep(0.2)
            self.events += 1
            await asyncio.sleep(1 / EVENTS_PER_SECOND)

    async def _request(self, http: httpx.AsyncClient, method: str, path: str, **body: Any) -> bool:
        self.requests += 1
        address = self.addresses[self.requests % len(self.addresses)]
        started = self.now
        try:
            answer = await http.request(method, f"http://{address}:8000{path}", **body)
            what = f"{answer.status_code}" if answer.status_code >= 400 else ""
        except httpx.HTTPError as error:
            what = type(error).__name__
        self.slowest = max(self.slowest, self.now - started)
        if what:
            self.failures.append((started, f"{path.split('?')[0]} {what}"))
        return not what

    def report(self, name: str, since: float, **more: Any) -> dict[str, Any]:
        """One row of the table: what failed, and for how many seconds.

        Args:
            name: What happened.
            since: When it happened, in seconds from the start.
            **more: Further columns.
        """
        times = [at for at, _ in self.failures]
        return {
            "fault": name,
            "requests": self.requests,
            "failed": len(times),
            "seconds with failures": round(max(times) - min(times), 1) if times else 0.0,
            "last failure after": round(max(times) - since, 1) if times else 0.0,
            "slowest": round(self.slowest, 1),
            **more,
            "what": dict(Counter(what for _, what in self.failures).most_common(8)),
        }
