"""Whether the control of a running experiment still is what it was at the start.

The control uses the tenant's own values. `PUT /platform/parameters` can change them at
any time, and a new version of the capability its defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shoal import Conflict, ExperimentRecord, TenantContext

from .design import Design
from .repository import Document, Repository
from .transitions import platform_operations


async def values_in_effect(ctx: TenantContext, design: Design) -> dict[str, Any]:
    """The fields `values` and `values_changed_at` of a document, as of now."""
    if design.capability is None:
        return {"values": None, "values_changed_at": {}}
    found = await platform_operations(ctx).get_parameters(capability=design.capability)
    times = {name: datetime.fromisoformat(time) for name, time in found["changed_at"].items()}
    return {"values": found["effective"], "values_changed_at": times}


async def record_changes(ctx: TenantContext, document: Document) -> Document:
    """Add what changed of a running experiment's parameters to its history.

    Returns:
        The experiment, as it is stored.
    """
    if document.status != "running":
        return document
    found = await values_in_effect(ctx, document.design)
    now, before = found["values"] or {}, document.values or {}
    times, seen = found["values_changed_at"], document.values_changed_at
    changed = sorted(
        n
        for n in {*now, *before}
        if now.get(n) != before.get(n) or times.get(n) != seen.get(n)  # or changed back
    )
    is_altered = not document.changed_assignment and await _is_altered(ctx, document)
    if not (changed or is_altered):
        return document
    after = document
    if is_altered:
        after = after.with_change(
            "experiments",
            "its assignment was changed or deleted at /platform/experiments, not here",
            changed_assignment=True,
        )
    if changed:
        after = after.with_change(
            "experiments",
            "the tenant's values changed: " + ", ".join(_describe(n, before, now) for n in changed),
            at=max((times[n] for n in changed if times.get(n) != seen.get(n)), default=None),
            **found,
            changed_control=sorted(
                {*document.changed_control, *changed} & _left_open(document.design)
            ),
        )
    try:
        return await Repository(ctx.stores).put(after, document)
    except Conflict:  # another reader has recorded it
        return await Repository(ctx.stores).get(document.id)


async def _is_altered(ctx: TenantContext, document: Document) -> bool:
    """Whether the router assigns otherwise than the frozen design says."""
    listed = (await platform_operations(ctx).list_experiments())["experiments"]
    records = map(ExperimentRecord.model_validate, listed)
    own = [r for r in records if r.id == document.id and r.tenant in (ctx.tenant, None)]
    unlike = {"tenant": None, "started_at": None}
    expected = document.record().model_copy(update=unlike)
    return all(r.model_copy(update=unlike) != expected for r in own)


def _left_open(design: Design) -> set[str]:
    """Parameters that some variants set, and others leave at the tenant's own value."""
    sets = [set(variant.parameters) for variant in design.variants]
    return {n for names in sets for n in names if not all(n in other for other in sets)}


def _describe(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if before.get(name) == now.get(name):
        return f"{name}, and back to {now.get(name)!r}"
    return f"{name} from {before.get(name)!r} to {now.get(name)!r}"
