"""Reading of stored models.

A stored model may be damaged, or of another version. Points must be processed all the
same, so such a model counts as none until the next fit replaces it.
"""

import logging

from .multivariate import CombinationForest
from .seasonal_model import SeasonalModel

log = logging.getLogger("shoal.anomalies")


def load_forest(group: str, stored: bytes) -> CombinationForest | None:
    """The forest of a group of series; None if it cannot be read."""
    try:
        return CombinationForest.from_bytes(stored)
    except ValueError as error:
        log.warning(
            "forest of group %s is unreadable, ignored until the next fit: %s", group, error
        )
        return None


def load_season(series: str, stored: bytes | None) -> SeasonalModel | None:
    """The season of a series; None if none is stored or it cannot be read."""
    if stored is None:
        return None
    try:
        return SeasonalModel.from_bytes(stored)
    except ValueError as error:
        log.warning(
            "season of series %s is unreadable, ignored until the next fit: %s", series, error
        )
        return None
