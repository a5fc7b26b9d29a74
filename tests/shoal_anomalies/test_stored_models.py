"""Fitted models as bytes: whatever is stored, points are still processed."""

import io
import pickle
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyod.models.iforest import IForest

from shoal import Event
from shoal_anomalies import jobs, keys, model_fitting
from shoal_anomalies.isolation_forest import IsolationTrees
from shoal_anomalies.multivariate import CombinationForest
from shoal_anomalies.points import series_id
from shoal_anomalies.seasonal_model import SeasonalModel
from shoal_anomalies.stored_models import load_forest, load_season
from shoal_anomalies.stored_series import load_all_series
from shoal_anomalies.stream_processor import StreamProcessor

METRICS = ["load", "latency", "cpu"]
ROWS = np.random.default_rng(0).normal(100, 10, (400, 3))
FOREST = CombinationForest(METRICS).fit(ROWS)
SEASON = SeasonalModel("stl", 0.0, 900.0, np.full(96, 5.0), np.full(96, 1.0), True, 1.7e9)


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return self.path.write_text, ("executed",)


def with_changed(stored: bytes, **changes) -> bytes:
    """A stored forest with some of its arrays replaced."""
    with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
        changed = {**arrays, **{k: np.asarray(v) for k, v in changes.items()}}
    file = io.BytesIO()
    np.savez_compressed(file, **changed)
    return file.getvalue()


GOOD = FOREST.to_bytes()
HOSTILE = {
    "empty": b"",
    "truncated": GOOD[: len(GOOD) // 2],
    "one byte changed": GOOD[:1000] + bytes([GOOD[1000] ^ 1]) + GOOD[1001:],
    "a pickle": zlib.compress(pickle.dumps({"not": "a forest"})),
    "an array": b"\x93NUMPY\x01\x00",
    "another version": with_changed(GOOD, version=99),
    "no version": b"PK\x05\x06" + 18 * b"\0",
    "a child out of range": with_changed(
        GOOD, children=np.full(FOREST.trees.children.shape, 10**6)
    ),
    "a negative feature": with_changed(GOOD, feature=np.full(FOREST.trees.feature.shape, -1)),
    "arrays of unequal length": with_changed(GOOD, children=[0, 0]),
    "an infinite path": with_changed(GOOD, path_length=FOREST.trees.path_length * np.inf),
    "a scale of zero": with_changed(GOOD, scale=np.zeros(3)),
    "fewer metrics": with_changed(GOOD, metrics=["load"]),
    "a tail out of range": with_changed(GOOD, tail_pointer=10**6),
}


def test_trees_score_as_the_library_that_fitted_them():
    library = IForest(random_state=0, contamination=0.01).fit(ROWS)
    trees = IsolationTrees.from_forest(library.detector_)
    rows = np.vstack([ROWS, ROWS * 3, np.zeros((2, 3))])
    assert trees.score(rows) == pytest.approx(library.decision_function(rows), abs=1e-12)


def test_a_stored_forest_scores_the_same():
    restored = CombinationForest.from_bytes(GOOD)
    assert restored.metrics == tuple(METRICS)
    assert np.array_equal(restored.surprisals(ROWS * 1.2), FOREST.surprisals(ROWS * 1.2))
    row = dict(zip(METRICS, (200.0, 10.0, 100.0), strict=True))
    assert restored.drivers(row) == FOREST.drivers(row)


@pytest.mark.parametrize("stored", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_unreadable_forest_is_ignored(stored):
    assert load_forest("group", stored) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400) | st.integers(0, len(GOOD) - 1).map(lambda n: GOOD[:n]))
def test_loading_a_forest_fails_for_no_stored_bytes(stored):
    assert load_forest("group", stored) is None


def test_loading_executes_no_code_from_the_store(tmp_path):
    target = tmp_path / "executed"
    payload = pickle.dumps(Malicious(target))
    for stored in (payload, zlib.compress(payload), with_changed(GOOD, metrics=[payload])):
        load_forest("group", stored)
        load_season("series", stored)
    assert not target.exists()


SEASONS = {
    "empty": b"",
    "truncated": orjson.dumps(SEASON.to_dict())[:100],
    "another version": orjson.dumps({**SEASON.to_dict(), "version": 99}),
    "not an object": b"[1]",
    "a field missing": orjson.dumps({k: v for k, v in SEASON.to_dict().items() if k != "step"}),
    "no slots": orjson.dumps({**SEASON.to_dict(), "expected": [], "scale": []}),
    "unequal slots": orjson.dumps({**SEASON.to_dict(), "scale": [1.0]}),
    "a step of zero": orjson.dumps({**SEASON.to_dict(), "step": 0}),
    "a scale of zero": orjson.dumps({**SEASON.to_dict(), "scale": [0.0] * 96}),
    "text for numbers": orjson.dumps({**SEASON.to_dict(), "start": "x"}),
}


@pytest.mark.parametrize("stored", SEASONS.values(), ids=SEASONS.keys())
def test_an_unreadable_season_is_ignored(stored):
    assert load_season("series", stored) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_loading_a_season_fails_for_no_stored_bytes(stored):
    assert load_season("series", stored) is None


def events(values, metric, until, **data):
    times = [until - timedelta(minutes=len(values) - 1 - i) for i in range(len(values))]
    return [
        Event(type="metric", time=t, data={"metric": metric, "value": float(v), **data})
        for t, v in zip(times, values, strict=True)
    ]


def processor() -> StreamProcessor:
    found = StreamProcessor()
    found.notifier.schedule_delivery = lambda ctx: None  # type: ignore[method-assign]
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("stored", [b"", b"\x80garbage", HOSTILE["another version"]])
async def test_processing_continues_until_the_next_fit_replaces_unreadable_models(ctx, stored):
    now = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    batch = [
        e for k, m in enumerate(METRICS) for e in events(ROWS[:, k], m, now, labels={"a": "b"})
    ]
    await processor().handle(ctx, batch)
    group, series = series_id("", {"a": "b"}), series_id("load", {"a": "b"})
    online = ctx.stores.online
    await online.hset(keys.FORESTS, mapping={group: stored, "gone": stored})
    await online.hset(keys.SEASONS, series, stored)
    await online.hset(keys.STATES, series, stored)
    await online.set(keys.FITTED_AT, "broken")
    await processor().handle(
        ctx, events([1e6], "load", now + timedelta(minutes=1), labels={"a": "b"})
    )
    found = [orjson.loads(a) for a in await online.zrange(keys.ANOMALIES, 0, -1)]
    assert found[-1]["value"] == 1e6
    await jobs.archive_new_points(ctx)
    series_info = load_all_series(await online.hgetall(keys.SERIES))
    await jobs.store_forests(
        ctx, model_fitting.fit_forests(await jobs.read_history(ctx), series_info)
    )
    forests = await online.hgetall(keys.FORESTS)
    assert list(forests) == [group.encode()]
    assert load_forest(group, forests[group.encode()]) is not None
