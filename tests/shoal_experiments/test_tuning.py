"""From tuned parameters to a draft."""

from __future__ import annotations

from typing import Any

import pytest

from shoal import Client, Invalid
from shoal_experiments.tuning import Proposal, proposed_design

TUNED = {
    "capability": "greeting",
    "metric": "smiles",
    "default": 0.4,
    "best": 0.5,
    "parameters": {"warmth": 0.81234, "repeat": 3},
    "tried": 9,
}
REST = {"primary": {"name": "smiled"}, "minimum_effect": 0.05, "baseline": 0.3}


def proposal(**fields: Any) -> Proposal:
    return Proposal.model_validate({"tuned": TUNED, "design": REST, **fields})


def test_tuned_values_are_tested_against_current_ones() -> None:
    design = proposed_design(proposal(only=["warmth"], allocation=20))
    assert [(v.name, v.allocation, v.parameters) for v in design.variants] == [
        ("present", 80, {}),
        ("tuned", 20, {"warmth": 0.812}),
    ]
    assert "0.4 to 0.5" in design.hypothesis and design.capability == "greeting"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"tuned": {**TUNED, "best": 0.4}}, "nothing to test"),
        ({"only": ["heat"]}, "unknown tuned parameters: heat"),
        ({"tuned": {**TUNED, "parameters": {}}}, "varies no parameter"),
        ({"design": {}}, "primary"),
    ],
)
def test_a_proposal_without_gain_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        proposed_design(proposal(**fields))


def test_a_proposal_becomes_a_draft_over_http(acme: Client) -> None:
    drafted = acme.experiments.propose(id="tuned-greeting", body={"tuned": TUNED, "design": REST})
    assert drafted["status"] == "draft" and drafted["design"]["variants"][1]["parameters"] == {
        "warmth": 0.812,
        "repeat": 3,
    }
    with pytest.raises(Invalid, match="overrides"):
        acme.experiments.propose(
            id="too-warm", body={"tuned": {**TUNED, "parameters": {"warmth": 7.0}}, "design": REST}
        )
    with pytest.raises(Invalid):
        acme.experiments.propose(
            id="no-metric", body={"tuned": TUNED, "design": {"minimum_effect": 1}}
        )
