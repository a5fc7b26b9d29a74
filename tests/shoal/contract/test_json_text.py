"""JSON is read as it was sent, or refused."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal import Invalid, RowError, read_rows
from shoal.contract.json_text import LARGEST, SMALLEST, load_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**21), 10**21) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def fits(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(fits, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or SMALLEST <= value <= LARGEST


@given(values)
def test_a_value_is_read_as_it_is_or_refused(value: Any) -> None:
    text = json.dumps(value).encode()
    if fits(value):
        assert load_json(text) == value
    else:
        with pytest.raises(Invalid, match="beyond 64 bits"):
            load_json(text)


@pytest.mark.parametrize(
    ("text", "location"),
    [
        (b"18446744073709551616", "body"),
        (b'{"a": [0, {"b": -9223372036854775809}]}', "a.1.b"),
        (b'{"a": "99999999999999999999", "b": 99999999999999999999}', "b"),
    ],
)
def test_the_error_names_the_place(text: bytes, location: str) -> None:
    with pytest.raises(Invalid) as caught:
        load_json(text)
    assert caught.value.errors[0]["location"] == location


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b'"\\ud800"', b"[" * 3000])
def test_what_is_not_json_is_an_error(text: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        load_json(text)


def test_a_deeply_nested_number_is_an_error() -> None:
    with pytest.raises(Invalid):
        load_json(b"[" * 1000 + b"9" * 30 + b"]" * 1000)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'[{"a": 1}, {"a": 99999999999999999999}]', "application/json"),
        (b'{"a": 1}\n{"a": 99999999999999999999}', "application/x-ndjson"),
        (b'a\n{}\n{"b": 99999999999999999999}', "text/csv"),
    ],
)
def test_a_row_of_lost_digits_is_reported_alone(body: bytes, content_type: str) -> None:
    good, bad = read_rows(body, content_type, limit=9)
    assert isinstance(good, dict)
    assert isinstance(bad, RowError)
    assert bad.error.startswith("a")
    assert "send it as text" in bad.error
