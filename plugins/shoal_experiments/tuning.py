"""From an offline search to an online test: the best parameters of `shoal tune`, as a
draft experiment.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .design import Design, Finite


class Tuned(BaseModel):
    """What `shoal tune` prints."""

    model_config = ConfigDict(extra="ignore")

    capability: str
    metric: str
    default: Finite
    best: Finite
    parameters: dict[str, Any]


class Proposal(BaseModel):
    """A tuning's answer, and what only people can say: which online metric decides, and
    from what effect on it matters.

    `only` names the parameters to take over, for when the offline data say nothing of
    the others (judged queries have no dates, so they say nothing of recency); None
    takes all.
    """

    model_config = ConfigDict(extra="forbid")

    tuned: Tuned
    only: list[str] | None = None
    allocation: float = Field(50, gt=0, lt=100, description="The tuned variant's share in percent.")
    design: dict[str, Any] = Field(
        description="The rest of the design: primary, minimum_effect, baseline, guardrails, …"
    )


def design_of(proposal: Proposal) -> Design:
    """The draft's design: today's values against the tuned ones. Raises ValueError when
    nothing is to be varied, or nothing was gained.
    """
    tuned = proposal.tuned
    unknown = sorted(set(proposal.only or ()) - set(tuned.parameters))
    if unknown:
        raise ValueError(
            f"the tuning has no parameters {', '.join(unknown)}; it has {', '.join(tuned.parameters)}"
        )
    values = {
        name: _plain(value)
        for name, value in tuned.parameters.items()
        if proposal.only is None or name in proposal.only
    }
    if not values:
        raise ValueError("the tuning varies no parameter")
    if tuned.best <= tuned.default:
        raise ValueError(
            f"the best {tuned.metric} found, {tuned.best:.4g}, is not above that of the present values, {tuned.default:.4g}: nothing to test"
        )
    hypothesis = f"Tuned {', '.join(sorted(values))} raise offline {tuned.metric} from {tuned.default:.4g} to {tuned.best:.4g}, and so the online metric."
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


def _plain(value: Any) -> Any:
    """Three significant digits: the data do not know more, and people read them."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
