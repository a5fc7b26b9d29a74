"""From an offline search to an online test: tuned parameters as a draft experiment."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shoal import JsonObject, Number, Text

from .design import Design


class Tuned(BaseModel):
    """The output of `shoal tune --json`."""

    model_config = ConfigDict(extra="ignore")

    capability: Text
    metric: Text
    default: Number
    best: Number
    parameters: JsonObject


class Proposal(BaseModel):
    """The output of a tuning run, and the parts of a design that people decide.

    `only` names the parameters to test, for when the offline data say nothing about the
    others (judged queries have no dates, so they say nothing about recency). None tests
    all of them.
    """

    model_config = ConfigDict(extra="forbid")

    tuned: Tuned
    only: list[Text] | None = Field(None, max_length=200)
    allocation: float = Field(50, gt=0, lt=100, description="The tuned variant's share in percent.")
    design: JsonObject = Field(
        description="The rest of the design: primary, minimum_effect, baseline, guardrails, …"
    )


def proposed_design(proposal: Proposal) -> Design:
    """The design of an experiment that compares the current values with the tuned ones.

    Raises:
        ValueError: No parameter is left to vary, or tuning found nothing better.
    """
    tuned = proposal.tuned
    unknown = sorted(set(proposal.only or ()) - set(tuned.parameters))
    if unknown:
        raise ValueError(
            f"unknown tuned parameters: {', '.join(unknown)}; "
            f"available: {', '.join(tuned.parameters)}"
        )
    values = {
        name: _rounded(value)
        for name, value in tuned.parameters.items()
        if proposal.only is None or name in proposal.only
    }
    if not values:
        raise ValueError("the tuning varies no parameter")
    if tuned.best <= tuned.default:
        raise ValueError(
            f"the best {tuned.metric} found ({tuned.best:.4g}) is not above that of the current "
            f"values ({tuned.default:.4g}): there is nothing to test"
        )
    hypothesis = (
        f"Tuned {', '.join(sorted(values))} raise offline {tuned.metric} "
        f"from {tuned.default:.4g} to {tuned.best:.4g}, and so the online metric."
    )
    return Design.model_validate(
        {
            "hypothesis": hypothesis,
            **proposal.design,
            "capability": tuned.capability,
            "variants": [
                {"name": "present", "allocation": 100 - proposal.allocation},
                {"name": "tuned", "allocation": proposal.allocation, "parameters": values},
            ],
        }
    )


def _rounded(value: Any) -> Any:
    """Numbers with three significant digits, which is what the data can tell apart."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
