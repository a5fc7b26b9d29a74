"""Which people belong to an experiment's units, read from events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .aggregation import EXPOSURES, ExposedUnits, locate, to_microseconds
from .event_fields import TEXT, read_fields
from .people import People


def first_memberships(events: pa.Table, people: People) -> pa.Table:
    """The first unit of each person in one day's events, as EXPOSURES.

    `unit` is the person, and `variant` the unit that they belong to.
    """
    matching = events.filter(pc.equal(events["type"], people.event)) if events.num_rows else events
    if not matching.num_rows:
        return EXPOSURES.empty_table()
    named = read_fields(matching["data"], {people.field: TEXT})[people.field]
    table = pa.table(
        {
            "unit": matching["subject"].combine_chunks(),
            "variant": named,
            "time": to_microseconds(matching["time"]),
        },
        schema=EXPOSURES,
    ).drop_null()
    return _first(table)


def people_within(exposed: ExposedUnits, days: Sequence[pa.Table]) -> ExposedUnits:
    """The people of the exposed units, each with the index of their unit.

    A person counts from the unit's exposure on, or from when they joined if later.
    """
    table = _first(pa.concat_tables(days) if days else EXPOSURES.empty_table())
    cluster = locate(exposed, table["variant"].combine_chunks())
    known = cluster >= 0
    cluster = cluster[known]
    joined = np.asarray(table["time"], dtype=np.int64)[known]
    return ExposedUnits(
        table["unit"].combine_chunks().filter(pa.array(known)),
        exposed.arm[cluster],
        np.maximum(exposed.time[cluster], joined),
        cluster=cluster,
    )


def _first(table: pa.Table) -> pa.Table:
    """The earliest row of each unit; of those at the same time, the first by name."""
    ordered = table.sort_by([("time", "ascending"), ("variant", "ascending")])
    row = ordered.append_column("row", pa.array(np.arange(ordered.num_rows)))
    first = row.group_by("unit").aggregate([("row", "min")])["row_min"]
    return ordered.take(first)
