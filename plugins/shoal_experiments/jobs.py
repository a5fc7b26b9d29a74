"""Batch work: days aggregated by Ray Data, and ramps moved on."""

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

from . import lifecycle, observations, reporting
from .repository import Documents

log = logging.getLogger("shoal.experiments")


async def aggregate(job: JobContext) -> dict[str, Any]:
    """Make the days that have new events, of every experiment that runs or was stopped
    lately. Incremental and idempotent.
    """
    done = failed = 0
    for number, ctx in enumerate(job.tenants):
        job.progress(number, len(job.tenants), ctx.tenant)
        for document in await Documents(ctx.stores).all():
            if document.status not in ("running", "stopped"):
                continue
            scope = observations.Scope.of(document, ctx.stores, ctx.tenant)
            try:
                await observations.observe(scope, datetime.now(UTC), by_ray)
                done += 1
            except (
                Exception
            ):  # one experiment's trouble must not keep the others' days from being made
                log.exception(
                    "the days of experiment %s of %s could not be made", document.id, ctx.tenant
                )
                failed += 1
    job.progress(len(job.tenants), len(job.tenants), "done")
    return {"experiments": done, "failed": failed}


async def by_ray(tasks: Sequence[observations.Task]) -> list[pa.Table]:
    """Days made side by side, as a Ray Data pipeline. What they have in common travels
    once, with the function.
    """
    import ray.data

    rows = [{"place": place, "task": replace(task, who=None)} for place, task in enumerate(tasks)]
    made = ray.data.from_items(rows).map(partial(_make, who=tasks[0].who), num_cpus=1).take_all()
    tables: dict[int, pa.Table] = {
        row["place"]: pa.ipc.open_stream(row["table"]).read_all() for row in made
    }
    return [tables[place] for place in range(len(tasks))]


def _make(row: dict[str, Any], who: Any) -> dict[str, Any]:
    table = asyncio.run(replace(row["task"], who=who).run())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return {"place": row["place"], "table": sink.getvalue().to_pybytes()}


async def ramps(job: JobContext) -> dict[str, Any]:
    """Move every ramp to the step that is due, or back when a guardrail broke."""
    moved: dict[str, str] = {}
    for number, ctx in enumerate(job.tenants):
        job.progress(number, len(job.tenants), ctx.tenant)
        for document in await Documents(ctx.stores).all():
            if document.status == "promoting":
                now = datetime.now(UTC)
                try:
                    broken = await reporting.broken_guardrail(ctx, document, now)
                    after = await lifecycle.advance(ctx, document, broken, now)
                    moved[f"{ctx.tenant}/{document.id}"] = after.history[-1].what
                except Exception as error:  # one ramp's trouble must not keep another's guardrail from being looked at
                    log.exception(
                        "the ramp of experiment %s of %s was not looked at", document.id, ctx.tenant
                    )
                    moved[f"{ctx.tenant}/{document.id}"] = (
                        f"not looked at: {error.detail if isinstance(error, ShoalError) else type(error).__name__}"
                    )
    return {"ramps": moved}
