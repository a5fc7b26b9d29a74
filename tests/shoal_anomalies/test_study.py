"""The score that tuning maximises, and the search for parameters."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest

from shoal import Invalid
from shoal_anomalies import DEFAULT_THRESHOLD, AnomalyParameters, score_series, shoal_capabilities
from shoal_anomalies.detector import Rarity
from shoal_anomalies.study import (
    LabelledSeries,
    load_labelled_series,
    objective,
    suggest_parameters,
    to_labelled_series,
)

REFERENCE = Path(os.environ.get("SHOAL_REFERENCE", Path(__file__).parents[3] / "shared" / "data"))
DEFAULTS = AnomalyParameters.model_validate({})


def series(*spikes, windows=(), denied=(), n=1200, size=50.0):
    """White noise with spikes at indices; windows and denials by the index at their
    middle.
    """
    values = np.random.default_rng(0).normal(0, 1, n)
    values[list(spikes)] += size
    times = 300.0 * np.arange(n)
    around = {
        w: [[times[i - 5], times[i + 10]] for i in at]
        for w, at in (("windows", windows), ("denied", denied))
    }
    return {"name": "s", "times": times.tolist(), "values": values.tolist(), **around}


def rarity(surprisals):
    return Rarity(300.0 * np.arange(len(surprisals)), surprisals, np.zeros(len(surprisals)))


def test_no_alarms_score_0_and_prompt_ones_nearly_100():
    data = [to_labelled_series(series(600, 900, windows=(600, 900)))]
    assert objective(DEFAULTS, data) > 70
    deaf = DEFAULTS.model_copy(update={"sensitivity_threshold": 100.0})
    assert objective(deaf, data) == 0


def test_a_denied_alarm_costs_as_much_as_a_missed_window():
    plain = objective(DEFAULTS, [to_labelled_series(series(600, 900, windows=(600,)))])
    assert plain - objective(
        DEFAULTS, [to_labelled_series(series(600, 900, windows=(600,), denied=(900,)))]
    ) == pytest.approx(50)


def test_the_objective_is_the_benchmarks_own_score():
    tool = REFERENCE.parent / "tools" / "nabscore.py"
    names = [
        "artificialWithAnomaly/art_daily_flatmiddle.csv",
        "artificialWithAnomaly/art_daily_jumpsup.csv",
    ]
    if not tool.is_file() or not all((REFERENCE / "nab" / n).is_file() for n in names):
        pytest.skip(f"no reference data at {REFERENCE}")
    spec = importlib.util.spec_from_file_location("nabscore", tool)
    nab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nab)
    windows = json.loads((REFERENCE / "nab" / "windows.json").read_text())
    points, records = [], []
    for name in names:
        rows = [line.split(",") for line in (REFERENCE / "nab" / name).read_text().splitlines()[1:]]
        stamps, values = [r[0][:19] for r in rows], [float(r[1]) for r in rows]
        records.append({"name": name, "times": stamps, "values": values, "windows": windows[name]})
        scores = score_series(stamps, values).tolist()
        points += nab.file_points(
            stamps, scores, [(a[:19], b[:19]) for a, b in windows[name]], 1.0, 0.11, name
        )
    raw = nab.score_at(points, 1.0, DEFAULT_THRESHOLD)
    expected = nab.normalise(raw, sum(len(windows[n]) for n in names), 1.0, 1.0)
    assert objective(DEFAULTS, [to_labelled_series(r) for r in records]) == pytest.approx(
        expected, abs=0.5
    )


def test_series_are_loaded_from_a_folder_or_a_file(tmp_path):
    record = series(600, windows=(600,))
    (tmp_path / "labels.json").write_text(json.dumps({"series": [record]}))
    (tmp_path / "nab" / "group").mkdir(parents=True)
    rows = "\n".join(
        f"{np.datetime64(int(t), 's')},{v}"
        for t, v in zip(record["times"], record["values"], strict=True)
    )
    (tmp_path / "nab" / "group" / "one.csv").write_text(f"timestamp,value\n{rows}\n")
    bounds = [[str(np.datetime64(int(t), "s")) for t in w] for w in record["windows"]]
    (tmp_path / "nab" / "windows.json").write_text(json.dumps({"group/one.csv": bounds}))
    (document,), (file,) = (
        load_labelled_series(str(tmp_path / "labels.json")),
        load_labelled_series(str(tmp_path / "nab")),
    )
    assert document.windows == file.windows == ((595, 610),)
    assert np.allclose(document.rarity.surprisals, file.rarity.surprisals)
    [capability] = shoal_capabilities()
    assert capability.study and capability.study.objective(DEFAULTS, [document]) > 60


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"series": [{"name": "s"}]}',
        '{"series": [{"name": "s", "times": [1, 2], "values": [1], "windows": []}]}',
        json.dumps({"series": [series(600, denied=(600,))]}),
    ],
)
def test_files_without_labels_are_rejected(tmp_path, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(Invalid):
        load_labelled_series(str(tmp_path / "labels.json"))


def test_denied_alarms_lower_the_suggested_sensitivity():
    surprisals = np.zeros(3000)
    true, false = [1000, 2000], [1300, 1600, 2300, 2600, 2900]
    surprisals[true], surprisals[false] = 8.0, 4.2
    spans = [tuple((i - 5, min(i + 10, 2999)) for i in at) for at in (true, false)]
    data = [LabelledSeries("s", rarity(surprisals), *spans)]
    best, value, before = suggest_parameters(data, DEFAULTS)
    assert value > before + 50 and best.sensitivity_threshold + best.habituation > 4.0
    assert suggest_parameters(data, DEFAULTS) == (best, value, before)


def test_the_current_parameters_are_suggested_if_best():
    surprisals = np.zeros(2000)
    surprisals[1000] = 9.0
    best, value, before = suggest_parameters(
        [LabelledSeries("s", rarity(surprisals), ((1000, 1010),))], DEFAULTS
    )
    assert best == DEFAULTS and value == before
