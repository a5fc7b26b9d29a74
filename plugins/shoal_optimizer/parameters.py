"""The parameters of the optimizer."""

from pydantic import Field, model_validator

from shoal import Parameters


class OptimizerParameters(Parameters):
    """What a tenant may set and an experiment may vary."""

    # Weights of a candidate's score, divided by their sum.
    skill_weight: float = Field(0.5, ge=0, le=1)
    availability_weight: float = Field(0.3, ge=0, le=1)
    success_weight: float = Field(0.2, ge=0, le=1)
    experience_weight: float = Field(0, ge=0, le=1)
    # Weights of a team's objective.
    score_importance: float = Field(1.0, ge=0, le=10)
    cost_importance: float = Field(0.3, ge=0, le=10)
    balance_importance: float = Field(0.3, ge=0, le=10)
    collaboration_importance: float = Field(0.1, ge=0, le=10)
    # Hard constraints on a team.
    workload_limit: float = Field(80, gt=0, le=100)
    """Percent that nobody may exceed after the assignment."""
    overlap_hours: float = Field(4, ge=0, le=24)
    """Working hours a day that the whole team must share."""
    # Matching of skills, and past success.
    similarity: float = Field(0.6, ge=0, le=1)
    """Cosine from which the names of two skills mean the same."""
    accept_similar: bool = False
    """Whether a skill near in meaning meets a requirement, and not only ranks."""
    half_life_days: float = Field(180, gt=0, le=3650)
    """Age at which an outcome counts half."""
    prior_strength: float = Field(4, gt=0, le=100)
    """How many outcomes of a person the tenant's mean is worth."""
    time_limit: float = Field(5, gt=0, le=60)
    """Seconds for a recommendation."""
    plan_time_limit: float = Field(20, gt=0, le=300)
    """Seconds for a plan."""

    @model_validator(mode="after")
    def _check_weights(self) -> "OptimizerParameters":
        weights = ("skill", "availability", "success", "experience")
        if not any(getattr(self, f"{name}_weight") for name in weights):
            raise ValueError(
                "one of skill_weight, availability_weight, success_weight and "
                "experience_weight must be above 0"
            )
        return self
