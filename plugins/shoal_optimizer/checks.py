"""Checks of requests that no model of a body makes."""

from collections.abc import Collection

from pydantic import BaseModel, ConfigDict

from shoal import Invalid

from .inputs import PlanningInputs

MAX_PEOPLE = 5000


class RequestBody(BaseModel):
    """A request's body, which has no other fields."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def check_distinct(location: str, ids: Collection[str]) -> None:
    """Raise Invalid when an id occurs twice."""
    if len(set(ids)) < len(ids):
        raise Invalid(
            f"{location} must be distinct",
            errors=[{"location": location, "message": "must be distinct"}],
        )


def check_people(inputs: PlanningInputs) -> None:
    """Raise Invalid when there are too many people for one solve."""
    if len(inputs.people) > MAX_PEOPLE:
        raise Invalid(f"{len(inputs.people):,} people; one solve takes at most {MAX_PEOPLE:,}")
