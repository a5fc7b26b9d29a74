"""The jobs, on experiments that give trouble."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from shoal_experiments import jobs


def test_one_experiments_trouble_stops_no_others_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is: an error of Arrow's once ended the run, and with it the ramps of
    every other company.
    """
    asked: list[str] = []

    async def all_of(self: Any) -> list[Any]:
        return [
            SimpleNamespace(id=id, status=status, history=[SimpleNamespace(what="moved")])
            for id, status in (("r", "running"), ("p", "promoting"))
        ]

    async def trouble(first: Any, *_: Any) -> Any:
        tenant = first if isinstance(first, str) else first.tenant
        asked.append(tenant)
        if tenant == "acme":
            raise ValueError("Failed to parse string: 'yes'")

    async def advance(ctx: Any, document: Any, *_: Any) -> Any:
        return document

    monkeypatch.setattr(jobs.Documents, "__init__", lambda self, stores: None)
    monkeypatch.setattr(jobs.Documents, "all", all_of)
    monkeypatch.setattr(jobs.observations.Scope, "of", lambda document, stores, tenant: tenant)
    monkeypatch.setattr(jobs.observations, "observe", trouble)
    monkeypatch.setattr(jobs.reporting, "broken_guardrail", trouble)
    monkeypatch.setattr(jobs.lifecycle, "advance", advance)
    job: Any = SimpleNamespace(
        tenants=[SimpleNamespace(tenant=t, stores=None) for t in ("acme", "globex")],
        progress=lambda *_: None,
    )
    assert asyncio.run(jobs.aggregate(job)) == {"experiments": 1, "failed": 1}
    assert asyncio.run(jobs.ramps(job)) == {
        "ramps": {"acme/p": "not looked at: ValueError", "globex/p": "moved"}
    }
    assert asked == ["acme", "globex"] * 2
