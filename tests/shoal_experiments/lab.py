"""One tenant's experiments with events of any day, in the real lake and event log."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pyarrow as pa
from fastapi import APIRouter, Depends
from pydantic import Field

from shoal import Capability, Client, Event, Parameters, TenantContext, requires
from shoal.eventlog.redis_log import RedisEventLog
from shoal_experiments import observations
from shoal_experiments.aggregation import EXPOSURE
from shoal_experiments.observations import Scope, Task, observe, run_sequentially
from shoal_experiments.repository import Document, Repository

ARMS = [{"name": "a", "allocation": 50}, {"name": "b", "allocation": 50}]
PLAIN = {
    "hypothesis": "h",
    "variants": ARMS,
    "primary": {"name": "buys", "event": "buy"},
    "minimum_effect": 0.1,
    "baseline": 0.2,
    "minimum_sample_size": 2,
    "duration_days": 0,
}
WARM = [
    {"name": "cool", "allocation": 50},
    {"name": "warm", "allocation": 50, "parameters": {"warmth": 0.9}},
]
ticks = count()


class WarmthParameters(Parameters):
    warmth: float = Field(0.5, ge=0, le=1)
    depth: int = Field(1, ge=0, le=9)


def warmth(_: Any) -> APIRouter:
    router = APIRouter()

    @router.get("/level")
    async def level(ctx: TenantContext = Depends(requires("read:own"))) -> dict[str, float]:
        return {"warmth": ctx.parameters(WarmthParameters).warmth}

    return router


WARMTH = Capability("warmth", "Has parameters.", routes=warmth, parameters=WarmthParameters)


class Lab:
    """One tenant of a test's own."""

    def __init__(self, app: Any, name: str) -> None:
        self.app, self.name = app, name
        self.client: Client = app.client(name)
        self.ctx: TenantContext = app.context(name, "experiments")
        self.midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    def start(self, id: str, days_ago: float, **fields: Any) -> Document:
        """Start an experiment as if it had been so many days ago."""
        self.client.experiments.draft(id=id, body=PLAIN | fields)
        self.client.experiments.start(id=id)
        return self.change(id, lambda d: {"started_at": self.midnight - timedelta(days=days_ago)})

    def change(self, id: str, fields: Callable[[Document], dict[str, Any]]) -> Document:
        documents = Repository(self.ctx.stores)
        before = self.document(id)
        return self.app.run(documents.put(before.model_copy(update=fields(before)), before))

    def document(self, id: str) -> Document:
        return self.app.run(Repository(self.ctx.stores).get(id))

    def event(self, type: str, unit: str, days_ago: float, /, **data: Any) -> dict[str, Any]:
        name = f"{type}/{unit}/{days_ago}/{json.dumps(data)}"
        return {
            "id": name,
            "source": "test",
            "type": type,
            "time": self.midnight - timedelta(days=days_ago),
            "subject": unit,
            "data": data,
        }

    def exposure(self, id: str, unit: str, arm: str, days_ago: float, /) -> dict[str, Any]:
        return self.event(
            EXPOSURE,
            unit,
            days_ago,
            experiment=id,
            variant=arm,
            unit=unit,
            unit_type="user",
            capability=None,
        )

    def archive(self, *events: dict[str, Any]) -> None:
        """Archive events from the log into the lake.

        Only the log's last entry stays there, which no experiment uses.
        """
        self.log(*events, self.event("shoal.tick", "clock", -0.00001, n=next(ticks)))
        self.app.run(RedisEventLog(self.app.platform.stores).archive(self.name, timedelta(0)))

    def log(self, *events: dict[str, Any]) -> None:
        self.app.run(self.ctx.stores.events.append([Event(**event) for event in events]))

    def observe(self, id: str) -> tuple[list[str], observations.Observed]:
        """The tables computed, as kind/days ago (except today), and the data."""
        made: list[str] = []

        async def run(tasks: Sequence[Task]) -> list[pa.Table]:
            made.extend(
                f"{t.kind}/{(self.midnight.date() - t.day).days}"
                for t in tasks
                if t.day != self.midnight.date()
            )
            return await run_sequentially(tasks)

        scope = Scope.of(self.document(id), self.ctx.stores, self.name)
        return made, self.app.run(observe(scope, datetime.now(UTC), run))
