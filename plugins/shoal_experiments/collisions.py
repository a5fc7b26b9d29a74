"""Running experiments that would measure each other's effects.

Two experiments that vary one parameter must not have a unit in common.
"""

from __future__ import annotations

from collections.abc import Sequence

from shoal import Conflict, ExperimentRecord, TenantContext, overlapping_experiments

from .transitions import platform_operations, stop_assigning


async def running_besides(ctx: TenantContext, *ids: str) -> list[ExperimentRecord]:
    """Other running experiments and ramps on the tenant's units, the operator's too."""
    listed = (await platform_operations(ctx).list_experiments())["experiments"]
    records = [ExperimentRecord.model_validate(record) for record in listed]
    own = {r.id for r in records if r.tenant == ctx.tenant}
    return [
        r
        for r in records
        if r.status == "running"
        and not (r.id in ids and (r.tenant == ctx.tenant or r.id not in own))
    ]


def check_collisions(record: ExperimentRecord, running: Sequence[ExperimentRecord]) -> None:
    """Refuse an experiment or ramp that would share units with one in its way.

    Raises:
        Conflict: Another one varies the same parameter for the same units, or has other
            units in the same layer.
    """
    if overlapping_experiments([record, *running]):
        raise Conflict("the experiment's range in its layer overlaps another experiment's")
    for other in running:
        in_layer = record.layer is not None and record.layer == other.layer
        if in_layer and other.unit != record.unit:
            raise Conflict(
                f"layer {record.layer!r} has experiments on units of type {other.unit} "
                f"({other.id!r}): those on units of type {record.unit} would overlap them"
            )
        shared = _parameters(record) & _parameters(other)
        if other.capability == record.capability and shared and not in_layer:
            raise Conflict(
                f"experiment {other.id!r} already varies {', '.join(sorted(shared))}: "
                "put both into one layer, or wait until it ends"
            )


async def assign_without_collision(
    ctx: TenantContext, record: ExperimentRecord, replaces: str = ""
) -> None:
    """Let the router assign an experiment, unless another has got in its way.

    Of two that are started at the same moment, at least one sees the other here.

    Args:
        ctx: The experiment's tenant.
        record: The experiment, or its ramp.
        replaces: The experiment that a ramp takes the place of.

    Raises:
        Conflict: Another one is in its way. The experiment is then not assigned.
    """
    await platform_operations(ctx).put_experiment(id=record.id, body=record.model_dump(mode="json"))
    try:
        check_collisions(record, await running_besides(ctx, record.id, replaces))
    except Conflict:
        await stop_assigning(ctx, record.id)
        raise


def check_control_of_others(
    capability: str | None, names: set[str], running: Sequence[ExperimentRecord]
) -> None:
    """Refuse to promote parameters that another running experiment varies.

    Its control has the tenant's own values, so it would change.

    Raises:
        Conflict: There is such an experiment.
    """
    for other in running:
        shared = names & _parameters(other)
        if other.capability == capability and shared:
            raise Conflict(
                f"experiment {other.id!r} varies {', '.join(sorted(shared))} too, and promoting "
                "would change its control: stop it first, or wait until it ends"
            )


def _parameters(record: ExperimentRecord) -> set[str]:
    return {name for variant in record.variants for name in variant.parameters}
