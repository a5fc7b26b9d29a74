"""Promotion: a variant's parameters become the tenant's own, at once or over a ramp.

A ramp assigns the winner to a growing share of the units that do not have it, as an
experiment of its own against the control, and is rolled back when a guardrail shows
harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shoal import Conflict, ExperimentRecord, Invalid, TenantContext

from .collisions import assign_without_collision, check_control_of_others, running_besides
from .design import RAMP, Design
from .repository import Document, Ramp, Repository
from .transitions import actor, apply_transition, platform_operations, stop_assigning


async def promote(
    ctx: TenantContext,
    id: str,
    *,
    variant: str | None,
    verdict: Mapping[str, Any] | None,
    override: str = "",
    days: float = 0,
    steps: list[float] | None = None,
) -> Document:
    """Make a variant's parameters the tenant's own values, at once or over a ramp.

    Args:
        ctx: The caller's tenant.
        id: The experiment, running or stopped.
        variant: The variant to promote; the verdict's winner when None.
        verdict: The verdict of the current report, if there is one.
        override: Why to promote it although the verdict is not to ship it.
        days: How long the ramp takes.
        steps: The ramp's steps, as increasing percentages of the units that the
            experiment did not give the winner, who keep it; None promotes at once.

    Raises:
        Conflict: It is not running or stopped, or the verdict is against it and there
            is no override.
        Invalid: The variant is unknown, or cannot be ramped.
    """
    repository = Repository(ctx.stores)
    before = await repository.get(id)
    winner = _check_winner(before, variant, verdict or {}, override)
    if steps:
        _check_ramp(before.design, winner)
    names = set(_parameters_of(before.design, winner))
    check_control_of_others(before.design.capability, names, await running_besides(ctx, id))
    now = datetime.now(UTC)
    against = not _is_shipped(winner, verdict or {})
    note = f"promoted {winner}" + (f" against the verdict: {override}" if against else "")
    stopped = before.stopped_at or now
    if steps:
        after = before.with_change(
            actor(ctx),
            f"{note}, over {days:g} days",
            status="promoting",
            stopped_at=stopped,
            ramp=Ramp(variant=winner, steps=steps, days=days, started_at=now, reached={0: now}),
        )
        record = ramp_record(after)
        await apply_transition(
            repository, before, after, lambda: assign_without_collision(ctx, record, replaces=id)
        )
    else:
        previous, values = await _promoted_values(ctx, before.design, winner)
        after = before.with_change(
            actor(ctx),
            note,
            status="promoted",
            stopped_at=stopped,
            winner=winner,
            promoted=values,
            previous=previous,
        )
        capability = before.design.capability
        await apply_transition(
            repository, before, after, lambda: _set_parameters(ctx, capability, values)
        )
    await stop_assigning(ctx, id)
    return after


def _check_winner(
    document: Document, variant: str | None, verdict: Mapping[str, Any], override: str
) -> str:
    """The variant to promote, if it may be promoted."""
    if document.status not in ("running", "stopped"):
        raise Conflict(
            f"experiment {document.id!r} is {document.status}: "
            "only a running or stopped one can be promoted"
        )
    winner = variant or verdict.get("winner")
    if winner is None:
        raise Conflict("there is no winner to promote: name a variant and give an override")
    arms = document.design.arms
    if winner not in arms:
        raise Invalid(
            f"{document.id!r} has no variant {winner!r}",
            errors=[{"location": "variant", "message": f"one of {', '.join(arms)}"}],
        )
    decision = verdict.get("decision")
    if not _is_shipped(winner, verdict) and not any(map(str.isalnum, override)):
        raise Conflict(
            f"the verdict is {decision or 'not yet known'}, not to ship {winner}: "
            "promoting it needs an `override` with the reason"
        )
    return str(winner)


def _is_shipped(winner: str, verdict: Mapping[str, Any]) -> bool:
    return verdict.get("decision") == "ship" and verdict.get("winner") == winner


def _check_ramp(design: Design, winner: str) -> None:
    if winner == design.control:
        raise Invalid(
            "the control is already in use: there is nothing to ramp",
            errors=[{"location": "days", "message": "must be 0"}],
        )


async def _set_parameters(
    ctx: TenantContext, capability: str | None, values: Mapping[str, Any] | None
) -> None:
    """Make these the tenant's own values. A product experiment has none to set."""
    if capability is not None and values is not None:
        await platform_operations(ctx).put_parameters(capability=capability, body=values)


async def _promoted_values(
    ctx: TenantContext, design: Design, winner: str
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The tenant's own values, before the promotion and with the winner's in them.

    Parameters that only other variants set keep the tenant's value.
    """
    parameters = _parameters_of(design, winner)
    if design.capability is None:
        return None, parameters
    platform = platform_operations(ctx)
    own = dict((await platform.get_parameters(capability=design.capability))["own"])
    return own, {**own, **parameters}


def _parameters_of(design: Design, variant: str) -> dict[str, Any]:
    return next(dict(v.parameters) for v in design.variants if v.name == variant)


def ramp_id(id: str) -> str:
    """The id under which an experiment's ramp is assigned and exposed."""
    return f"{id}{RAMP}"


def ramp_design(document: Document) -> Design:
    """The ramp as an experiment: the winner against the control, at the current step.

    The winner is the first variant, so that a growing share moves no unit back.
    """
    assert document.ramp is not None
    design, ramp = document.design, document.ramp
    share = ramp.steps[ramp.step]
    winner = next(v for v in design.variants if v.name == ramp.variant)
    control = next(v for v in design.variants if v.name == design.control)
    arms = (
        winner.model_copy(update={"allocation": share}),
        control.model_copy(update={"allocation": 100 - share}),
    )
    return design.model_copy(
        update={"variants": arms, "traffic": 100.0, "layer": None, "targeting": (), "holdout": None}
    )


def ramp_record(document: Document) -> ExperimentRecord:
    """What the router is told of the ramp: who has the winner keeps it."""
    ramp = document.ramp
    assert ramp is not None
    record = ramp_design(document).record(
        ramp_id(document.id), status="running", started_at=ramp.started_at
    )
    return record.keeping(ramp.variant, document.record())


async def _assign_ramp(ctx: TenantContext, document: Document) -> None:
    record = ramp_record(document)
    await platform_operations(ctx).put_experiment(id=record.id, body=record.model_dump(mode="json"))


def due_step(ramp: Ramp, now: datetime) -> int:
    """The index of the step due now; the number of steps when all are over.

    Every step lasts equally long.
    """
    if ramp.days <= 0:
        return len(ramp.steps)
    elapsed = (now - ramp.started_at) / timedelta(days=ramp.days)
    return min(len(ramp.steps), int(elapsed * len(ramp.steps)))


async def advance_ramp(
    ctx: TenantContext, document: Document, harm: str, now: datetime
) -> Document:
    """Move a ramp to the step that is due, complete it, or roll it back.

    Args:
        ctx: The experiment's tenant.
        document: An experiment that is being promoted.
        harm: Why the ramp must be rolled back; empty when it need not be.
        now: The current time.

    Returns:
        The experiment after the change; the same one when no step is due.
    """
    assert document.ramp is not None
    repository, ramp = Repository(ctx.stores), document.ramp
    if harm:
        after = document.with_change(
            "ramp",
            f"rolled back: {harm}",
            status="rolled back",
            ramp=ramp.model_copy(update={"state": "rolled back", "reason": harm}),
        )
        return await apply_transition(
            repository, document, after, lambda: stop_assigning(ctx, ramp_id(document.id))
        )
    step = due_step(ramp, now)
    if step >= len(ramp.steps):
        return await _complete_ramp(ctx, repository, document, ramp)
    if step == ramp.step:
        return document
    after = document.with_change(
        "ramp",
        f"ramp at {ramp.steps[step]:g} percent",
        ramp=ramp.model_copy(update={"step": step, "reached": {**ramp.reached, step: now}}),
    )
    return await apply_transition(repository, document, after, lambda: _assign_ramp(ctx, after))


async def _complete_ramp(
    ctx: TenantContext, repository: Repository, document: Document, ramp: Ramp
) -> Document:
    previous, values = await _promoted_values(ctx, document.design, ramp.variant)
    after = document.with_change(
        "ramp",
        f"ramp completed: promoted {ramp.variant}",
        status="promoted",
        winner=ramp.variant,
        promoted=values,
        previous=previous,
        ramp=ramp.model_copy(update={"state": "done"}),
    )
    capability = document.design.capability
    await apply_transition(
        repository, document, after, lambda: _set_parameters(ctx, capability, values)
    )
    await stop_assigning(ctx, ramp_id(document.id))
    return after


async def roll_back(ctx: TenantContext, id: str, reason: str = "") -> Document:
    """Undo a promotion, or end a ramp: restore the tenant's previous values.

    Raises:
        Conflict: It was not promoted.
    """
    repository = Repository(ctx.stores)
    before = await repository.get(id)
    if before.status == "promoting":
        return await advance_ramp(ctx, before, reason or "by hand", datetime.now(UTC))
    if before.status != "promoted":
        raise Conflict(
            f"experiment {id!r} is {before.status}: only a promoted one can be rolled back"
        )
    values, kept = await _restored_values(ctx, before)
    what = "rolled back" + (f": {reason}" if reason else "")
    if kept:
        what += f" (changed since the promotion, so left as they are: {', '.join(kept)})"
    after = before.with_change(actor(ctx), what, status="rolled back")
    return await apply_transition(
        repository, before, after, lambda: _set_parameters(ctx, before.design.capability, values)
    )


async def _restored_values(
    ctx: TenantContext, document: Document
) -> tuple[dict[str, Any] | None, list[str]]:
    """The tenant's own values without the promoted ones, and those changed since."""
    capability = document.design.capability
    if capability is None or document.winner is None:
        return None, []
    own = dict((await platform_operations(ctx).get_parameters(capability=capability))["own"])
    previous, kept = document.previous or {}, []
    for name, promoted in _parameters_of(document.design, document.winner).items():
        if own.get(name) != promoted:
            kept.append(name)
        elif name in previous:
            own[name] = previous[name]
        else:
            del own[name]
    return own, kept
