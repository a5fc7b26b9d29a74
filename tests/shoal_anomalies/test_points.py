import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_anomalies.line_protocol import format_line, parse_line
from shoal_anomalies.points import InvalidPoint, parse_point, series_id

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
names = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs"), exclude_characters='\\"#\x85'),
    min_size=1,
    max_size=20,
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)


@given(
    st.fixed_dictionaries(
        {}, optional={k: anything for k in ("metric", "time", "value", "labels", "kind", "x")}
    )
    | anything
)
def test_any_record_is_a_point_or_an_invalid_point(record):
    try:
        point = parse_point(record, NOW)
    except InvalidPoint as fault:
        assert str(fault)
    else:
        assert (
            math.isfinite(point.value)
            and point.time.tzinfo is not None
            and "\n" not in point.metric
        )


@given(st.text() | st.text('abc=,. \\"1-', max_size=30))
def test_any_line_is_read_or_rejected(line):
    try:
        for record in parse_line(line):
            parse_point(record, NOW)
    except InvalidPoint as fault:
        assert str(fault)


@given(
    names,
    st.dictionaries(names, names, max_size=4),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.integers(0, 2**60),
)
def test_a_formatted_line_is_read_back(metric, labels, value, time):
    (record,) = parse_line(format_line(metric, labels, {"value": value}, time))
    assert (record["metric"], record["labels"], record["value"]) == (metric, labels, value)
    assert abs(record["time"].timestamp() - time / 1e9) < 1e-3


def test_a_line_can_have_spaces_quotes_and_several_fields():
    found = parse_line(
        'my\\ disk,path=/a\\,b free=12i,used=.5,full=true,note="a b,c=d" 1772442000000000000'
    )
    assert [(r["metric"], r["value"]) for r in found] == [
        ("my disk.free", 12.0),
        ("my disk.used", 0.5),
        ("my disk.full", 1.0),
    ]
    assert found[0]["labels"] == {"path": "/a,b"} and found[0]["time"] == NOW


@pytest.mark.parametrize(
    "line",
    [
        "cpu",
        "cpu a=1 x",
        "cpu a",
        "cpu,tag a=1",
        "cpu a=nan",
        "cpu a=1e999",
        "cpu a=1 1 1",
        "cpu a=1 99999999999999999999999999999",
    ],
)
def test_an_invalid_line_is_rejected(line):
    with pytest.raises(InvalidPoint):
        parse_line(line)


def test_the_order_of_labels_does_not_change_the_series():
    assert (
        series_id("m", {"a": "1", "b": "2"})
        == series_id("m", {"b": "2", "a": "1"})
        != series_id("m", {"a": "2", "b": "1"})
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"time": (NOW + timedelta(minutes=6)).isoformat()}, "time"),
        ({"time": (NOW - timedelta(days=91)).isoformat()}, "time"),
        ({"time": "9999-12-31T23:59:59-12:00"}, "time"),
        ({"value": math.nan}, "value"),
        ({"value": 10**400}, "value"),
        ({"labels": {str(i): "x" for i in range(10_000)}}, "labels"),
        ({"metric": "a\nb"}, "metric"),
    ],
)
def test_an_invalid_point_names_its_field(change, field):
    with pytest.raises(InvalidPoint) as fault:
        parse_point({"metric": "m", "value": 1, "time": NOW.isoformat(), **change}, NOW)
    assert fault.value.location == field
