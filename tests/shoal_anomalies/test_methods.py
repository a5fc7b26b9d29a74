"""The statistical and the multivariate method."""

import numpy as np
import pytest

from shoal_anomalies.multivariate import CombinationForest
from shoal_anomalies.statistical import RollingZScore, z_scores

METRICS = ["requests", "error_rate", "latency"]


def test_an_anomaly_masks_neither_itself_nor_the_next():
    values = np.random.default_rng(0).normal(100, 1, 200)
    values[[100, 105, 110]] = 150
    assert (z_scores(values)[[100, 105, 110]] > 20).all()


def test_only_a_jump_of_a_constant_is_an_anomaly():
    z = z_scores([45.0] * 50 + [45.0001] + [45.0] * 9 + [60.0])
    assert np.isfinite(z).all() and np.abs(z[:-1]).max() < 1 and z[-1] > 3


def test_z_scores_ignore_values_that_are_not_finite():
    score = RollingZScore()
    for _ in range(20):
        score.update(1.0)
    assert score.update(float("nan")) == 0.0 and score.update(1.0) == 0.0


def test_a_window_too_small_is_rejected():
    with pytest.raises(ValueError, match="window"):
        RollingZScore(window=2)


@pytest.fixture(scope="module")
def forest():
    random = np.random.default_rng(1)
    rows = np.column_stack(
        [
            random.normal(1000, 50, 1500),
            random.normal(0.01, 0.002, 1500),
            random.normal(0.2, 0.02, 1500),
        ]
    )
    return CombinationForest(METRICS).fit(rows)


def surprisal(forest, *values):
    (nats,) = forest.surprisals(np.array([values]))
    return nats


def test_an_unusual_combination_is_found_with_its_drivers(forest):
    unusual = (1000, 0.017, 0.27)
    assert surprisal(forest, *unusual) > 6 > surprisal(forest, 1000, 0.01, 0.2)
    drivers = forest.drivers(dict(zip(METRICS, unusual, strict=True)))
    assert {d.metric for d in drivers[:2]} == {"error_rate", "latency"}
    assert sum(d.share for d in drivers) == pytest.approx(1)


def test_diverging_metrics_are_found_though_each_is_usual():
    random = np.random.default_rng(2)
    load = random.normal(0, 1, 1500)
    forest = CombinationForest(["load", "cpu"]).fit(
        np.column_stack([load, load + random.normal(0, 0.05, 1500)])
    )
    assert surprisal(forest, 1.0, -1.0) > 5
    assert surprisal(forest, 1.0, 1.0) < 2


def test_a_missing_value_has_no_surprisal(forest):
    assert surprisal(forest, 1000, float("nan"), 0.2) == 0.0
    assert forest.drivers({"requests": 1000.0}) == []


def test_too_few_rows_or_metrics_are_rejected():
    with pytest.raises(ValueError, match="two metrics"):
        CombinationForest(["one"])
    with pytest.raises(ValueError, match="100 complete rows"):
        CombinationForest(METRICS).fit(np.ones((50, 3)))
