"""Attributes of units, such as plan, country or device, that a design names."""

from __future__ import annotations

from pydantic import Field

from .metrics import FrozenModel, Name


class Attribute(FrozenModel):
    """An attribute of units, by which the primary metric is broken down.

    A unit has the value of its latest such event before its exposure, from 90 days
    before the start on.
    """

    name: Name
    event: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Type of the events with the attribute; when not given, it is sent with the "
        "request for the assignment, as `attribute=name:value`.",
    )
    field: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Field of the event's data with the value, a text; the attribute's name "
        "when not given.",
    )
