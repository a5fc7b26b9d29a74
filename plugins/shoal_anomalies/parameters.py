"""Parameters that tenants set, experiments vary and studies search."""

from pydantic import Field

from shoal import Parameters

from .alarm_policy import DAY, HOUR, DetectorSettings


class AnomalyParameters(Parameters):
    """Parameters of the detector; `docs/anomalies.md` measures the defaults."""

    sensitivity_threshold: float = Field(
        3.2, ge=2, le=6, description="combined surprisal, in nats, at which a point is an anomaly"
    )
    hold_hours: float = Field(
        6, ge=0.1, le=168, description="hours after an anomaly in which more of the same is held"
    )
    worse_factor: float = Field(
        1.5, ge=1, le=5, description="ratio of surprisals at which an anomaly counts as worse"
    )
    habituation: float = Field(
        0.2, ge=0, le=1, description="nats by which each anomaly raises the threshold"
    )
    habituation_days: float = Field(
        14, ge=1, le=90, description="days in which the raised threshold decays"
    )

    def settings(self) -> DetectorSettings:
        """The settings of a detector with these parameters."""
        return DetectorSettings(
            threshold=self.sensitivity_threshold,
            hold=self.hold_hours * HOUR,
            worse_factor=self.worse_factor,
            habituation=self.habituation,
            memory=self.habituation_days * DAY,
        )
