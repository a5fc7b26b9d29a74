"""The attributes of an experiment's units, read from events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .aggregation import EXPOSURE, ExposedUnits, locate, to_microseconds
from .attributes import Attribute
from .event_fields import TEXT, read_fields

MAX_VALUES = 10
"""Values of one attribute that are shown, those of the most units."""
OTHER, NONE = "(other)", "(none)"

ATTRIBUTES = pa.schema(
    [
        ("name", pa.string()),
        ("unit", pa.string()),
        ("value", pa.string()),
        ("time", pa.int64()),
    ]
)
"""One row per attribute, unit and value: when it was first seen on the day."""


def daily_attributes(
    events: pa.Table, attributes: Sequence[Attribute], experiment: str, unit_type: str
) -> pa.Table:
    """The ATTRIBUTES of one day, from that day's events."""
    parts = []
    for attribute in attributes:
        type, field = _source(attribute)
        matching = events.filter(pc.equal(events["type"], type)) if events.num_rows else events
        if not matching.num_rows:
            continue
        kinds = {field: TEXT, "experiment": TEXT, "session": TEXT}
        fields = read_fields(matching["data"], kinds)
        from_subject = unit_type != "session" or attribute.event is None
        table = pa.table(
            {
                "unit": matching["subject"].combine_chunks() if from_subject else fields["session"],
                "value": fields[field],
                "time": to_microseconds(matching["time"]),
            }
        )
        if attribute.event is None:
            ours = pc.fill_null(pc.equal(fields["experiment"], experiment), False)
            table = table.filter(ours)
        table = table.drop_null().group_by(["unit", "value"]).aggregate([("time", "min")])
        names = pa.array([attribute.name] * table.num_rows, pa.string())
        columns = [names, table["unit"], table["value"], table["time_min"]]
        parts.append(pa.table(columns, schema=ATTRIBUTES))
    return pa.concat_tables(parts) if parts else ATTRIBUTES.empty_table()


def _source(attribute: Attribute) -> tuple[str, str]:
    """Type of the events with an attribute, and the field of their data."""
    if attribute.event is None:
        return EXPOSURE, f"attributes.{attribute.name}"
    return attribute.event, attribute.field or attribute.name


def attribute_values(
    exposed: ExposedUnits, days: Sequence[pa.Table], name: str
) -> dict[str, NDArray[np.bool_]]:
    """Which units have each value, by value, those of most units first.

    Values beyond the first are together in `OTHER`; units without one are in `NONE`.
    """
    table = pa.concat_tables(days) if days else ATTRIBUTES.empty_table()
    table = table.filter(pc.equal(table["name"], name)).sort_by("time")
    encoded = table["value"].combine_chunks().dictionary_encode()
    unit = locate(exposed, table["unit"].combine_chunks())
    time = np.asarray(table["time"], dtype=np.int64)
    counts = (unit >= 0) & (time <= exposed.time[unit]) if len(exposed.units) else unit >= 0
    value = np.full(len(exposed.units), -1)
    value[unit[counts]] = np.asarray(encoded.indices, dtype=np.int64)[counts]  # the latest stays
    sizes = np.bincount(value[value >= 0], minlength=len(encoded.dictionary))
    order = [int(i) for i in np.argsort(-sizes, kind="stable") if sizes[i]]
    labels = encoded.dictionary.to_pylist()
    groups = {labels[i]: value == i for i in order[:MAX_VALUES]}
    if order[MAX_VALUES:]:
        groups[OTHER] = np.isin(value, order[MAX_VALUES:])
    if (value < 0).any():
        groups[NONE] = value < 0
    return groups
