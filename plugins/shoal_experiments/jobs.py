"""Jobs: daily tables computed with Ray Data, and ramps moved to their next step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from shoal import JobContext, ShoalError

from . import observations, promotion, ramps
from .aggregation import ExposedUnits
from .control_values import record_changes
from .repository import Repository

log = logging.getLogger("shoal.experiments")


async def aggregate(job: JobContext) -> dict[str, Any]:
    """Recompute the daily tables of running and stopped experiments that need it.

    Incremental and idempotent.

    Returns:
        How many `experiments` were brought up to date, and how many `failed`.
    """
    done = failed = 0
    for number, ctx in enumerate(job.tenants):
        job.progress(number, len(job.tenants), ctx.tenant)
        for document in await Repository(ctx.stores).all():
            if document.status not in ("running", "stopped"):
                continue
            scope = observations.Scope.of(document, ctx.stores, ctx.tenant)
            try:
                await record_changes(ctx, document)
                await observations.observe(scope, datetime.now(UTC), run_with_ray)
                done += 1
            except Exception:  # one experiment's error must not stop the others
                log.exception(
                    "could not compute the daily tables of experiment %s of tenant %s",
                    document.id,
                    ctx.tenant,
                )
                failed += 1
    job.progress(len(job.tenants), len(job.tenants), "done")
    return {"experiments": done, "failed": failed}


async def run_with_ray(tasks: Sequence[observations.Task]) -> list[pa.Table]:
    """Run tasks in parallel, as a Ray Data pipeline, in the order given."""
    import ray.data

    # The units are the same for all tasks, so they are sent once, with the function.
    rows = [
        {"index": index, "task": replace(task, exposed=None)} for index, task in enumerate(tasks)
    ]
    run = partial(_run_task, exposed=tasks[0].exposed)
    done = ray.data.from_items(rows).map(run, num_cpus=1).take_all()
    tables: dict[int, pa.Table] = {
        row["index"]: pa.ipc.open_stream(row["table"]).read_all() for row in done
    }
    return [tables[index] for index in range(len(tasks))]


def _run_task(row: dict[str, Any], exposed: ExposedUnits | None) -> dict[str, Any]:
    table = asyncio.run(replace(row["task"], exposed=exposed).run())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return {"index": row["index"], "table": sink.getvalue().to_pybytes()}


async def advance_ramps(job: JobContext) -> dict[str, Any]:
    """Move every ramp to the step that is due, or roll it back when it does harm.

    Returns:
        `ramps`: the last change of each ramp, by tenant/experiment.
    """
    changes: dict[str, str] = {}
    for number, ctx in enumerate(job.tenants):
        job.progress(number, len(job.tenants), ctx.tenant)
        for document in await Repository(ctx.stores).all():
            if document.status != "promoting":
                continue
            now = datetime.now(UTC)
            name = f"{ctx.tenant}/{document.id}"
            try:
                harm = await ramps.harm_of_ramp(ctx, document, now)
                after = await promotion.advance_ramp(ctx, document, harm, now)
                changes[name] = after.history[-1].what
            except Exception as error:  # one ramp's error must not leave the others unchecked
                log.exception(
                    "could not check the ramp of experiment %s of tenant %s",
                    document.id,
                    ctx.tenant,
                )
                cause = error.detail if isinstance(error, ShoalError) else type(error).__name__
                changes[name] = f"not checked: {cause}"
    return {"ramps": changes}
