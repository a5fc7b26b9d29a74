"""Parameters that tenants set, experiments vary and studies search."""

from pydantic import Field

from shoal import Parameters

from .detector import DetectorSettings


class AnomalyParameters(Parameters):
    """Parameters of the detector; `docs/anomalies.md` measures the defaults."""

    sensitivity_threshold: float = Field(
        3.2, ge=2, le=6, description="combined surprisal, in nats, at which a point is an anomaly"
    )
    refractory_points: int = Field(
        75, ge=1, le=1000, description="points after an anomaly in which only a worse one counts"
    )
    worse_factor: float = Field(
        1.5, ge=1, le=5, description="ratio of surprisals at which an anomaly is worse"
    )
    habituation: float = Field(
        0.2, ge=0, le=1, description="nats by which each anomaly raises the threshold"
    )
    habituation_memory: int = Field(
        4000, ge=100, le=20_000, description="points over which the raised threshold decays"
    )

    def settings(self) -> DetectorSettings:
        """The settings of a detector with these parameters."""
        return DetectorSettings(
            threshold=self.sensitivity_threshold,
            refractory=self.refractory_points,
            worse_factor=self.worse_factor,
            habituation=self.habituation,
            memory=self.habituation_memory,
        )
