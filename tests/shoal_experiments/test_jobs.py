"""Jobs with experiments that raise errors."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from shoal_experiments import jobs


def test_the_error_of_one_experiment_does_not_stop_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of Arrow's errors once ended the run, and with it other tenants' ramps."""
    asked: list[str] = []

    async def all_of(self: Any) -> list[Any]:
        return [
            SimpleNamespace(
                id=id, status=status, values=None, history=[SimpleNamespace(what="moved")]
            )
            for id, status in (("r", "running"), ("p", "promoting"))
        ]

    async def fail_for_acme(first: Any, *_: Any) -> Any:
        tenant = first if isinstance(first, str) else first.tenant
        asked.append(tenant)
        if tenant == "acme":
            raise ValueError("Failed to parse string: 'yes'")

    async def advance(ctx: Any, document: Any, *_: Any) -> Any:
        return document

    monkeypatch.setattr(jobs.Repository, "__init__", lambda self, stores: None)
    monkeypatch.setattr(jobs.Repository, "all", all_of)
    monkeypatch.setattr(jobs.observations.Scope, "of", lambda document, stores, tenant: tenant)
    monkeypatch.setattr(jobs.observations, "observe", fail_for_acme)
    monkeypatch.setattr(jobs.ramps, "harm_of_ramp", fail_for_acme)
    monkeypatch.setattr(jobs.promotion, "advance_ramp", advance)
    monkeypatch.setattr(jobs, "record_changes", advance)
    job: Any = SimpleNamespace(
        tenants=[SimpleNamespace(tenant=t, stores=None) for t in ("acme", "globex")],
        progress=lambda *_: None,
    )
    assert asyncio.run(jobs.aggregate(job)) == {"experiments": 1, "failed": 1}
    assert asyncio.run(jobs.advance_ramps(job)) == {
        "ramps": {"acme/p": "not checked: ValueError", "globex/p": "moved"}
    }
    assert asked == ["acme", "globex"] * 2
