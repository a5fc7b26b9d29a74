"""Anomaly detection: series that turn odd, and the alerts that people get of it."""

from .detector import DEFAULT_THRESHOLD, score_series

__all__ = ["DEFAULT_THRESHOLD", "score_series"]
