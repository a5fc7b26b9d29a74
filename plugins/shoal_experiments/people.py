"""People as observations within an experiment's units."""

from __future__ import annotations

from pydantic import Field

from shoal import Number

from .metrics import FrozenModel


class People(FrozenModel):
    """People as observations within units, such as companies or boards.

    Each person belongs to the unit that their first such event names. The last three
    fields are for planning.
    """

    event: str = Field(
        min_length=1,
        max_length=512,
        description="Type of the events that say to which unit their subject, a person, belongs.",
    )
    field: str = Field(
        "unit", min_length=1, max_length=512, description="Field of their data with the unit."
    )
    mean_size: Number | None = Field(None, ge=1, description="People per unit.")
    size_cv: float = Field(
        0, ge=0, le=100, description="Standard deviation of the units' sizes over their mean."
    )
    icc: float | None = Field(
        None, ge=0, le=1, description="Intra-cluster correlation: how alike a unit's people are."
    )
