"""What comes in."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal import Invalid, Malformed
from shoal_search.items import ITEMS, TEXT_BYTES, checked, rows

Make = Callable[..., dict[str, Any]]


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": ""}, "text: is empty"),
        ({"text": " \n\t"}, "text: is empty"),
        ({"text": "x" * 1_048_576}, f"text: is 1,048,576 bytes long; {TEXT_BYTES:,} is the most"),
        ({"text": "a\0b"}, "text: holds a NUL character, at position 1"),
        ({"title": "a\0b"}, "title: holds a NUL"),
        ({"text": 7}, "text: Input should be a valid string"),
        ({"text": None}, "text: Input should be a valid string"),
        ({"text": "\ud800"}, "text: "),
        ({"id": 7}, "id: Input should be a valid string"),
        ({"id": ""}, "id: 1 to 512 characters"),
        ({"id": "a\nb"}, "id: 1 to 512 characters"),
        ({"board_id": None}, "board_id: "),
        ({"type": "board"}, "type: Input should be 'item', 'update', 'doc' or 'file'"),
        ({"updated_at": "1969-12-31T23:59:59Z"}, "updated_at: is before 1970"),
        ({"updated_at": "2026-11-23T10:00:00"}, "updated_at: Input should have timezone info"),
        ({"updated_at": "yesterday"}, "updated_at: "),
        ({"updated_at": 1_700_000_000}, "updated_at: is a number"),
        ({"updated_at": float("nan")}, "updated_at: is a number"),
        ({"updated_at": "1700000000"}, "updated_at: is a number"),
        ({"updated_at": "1.7e9"}, "updated_at: is a number"),
        ({"updated_at": "9999-12-31T23:59:59.999999Z"}, "updated_at: is after 9999-12-30"),
        ({"updated_at": "9999-12-30T23:59:59-23:59"}, "updated_at: is after 9999-12-30"),
        ({"metadata": {"a": [1, {"b": float("nan")}]}}, "metadata: a.1.b is nan"),
        ({"metadata": {"a": float("inf")}}, "metadata: a is inf"),
        ({"metadata": {"a": "x" * 20_000}}, "metadata: is 20,008 bytes"),
        ({"metadata": {"a": 10**30}}, "metadata: cannot be stored as JSON"),
        ({"metadata": {"a": "\ud800"}}, "metadata: cannot be stored as JSON"),
        ({"metadata": nested(33)}, "metadata: is nested more than 32 levels deep"),
        ({"metadata": nested(1_000)}, "metadata: is nested more than 32 levels deep"),
        ({"metadata": [1]}, "metadata: Input should be a valid dictionary"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_a_bad_field_is_named_with_what_is_wrong(
    item: Make, fields: dict[str, Any], said: str
) -> None:
    good, bad = checked([item("0"), item("1") | fields, item("2")])
    assert [i.id for _, i in good] == ["0", "2"]
    assert [fault["index"] for fault in bad] == [1]
    assert bad[0]["error"].startswith(said)


def test_a_missing_field_is_named(item: Make) -> None:
    row = item()
    del row["board_id"]
    assert checked([row])[1] == [{"index": 0, "error": "board_id: Field required"}]


def test_of_two_rows_with_one_id_the_later_is_refused(item: Make) -> None:
    good, bad = checked([item("a"), item("b"), item("a")])
    assert [index for index, _ in good] == [0, 1]
    assert bad == [{"index": 2, "error": "id: 'a' is already in row 0 of this batch"}]


def test_a_refused_row_does_not_take_its_id(item: Make) -> None:
    good, _ = checked([item("a", text=""), item("a")])
    assert [index for index, _ in good] == [1]


def test_an_array_an_object_and_ndjson_are_taken(item: Make) -> None:
    one = json.dumps(item()).encode()
    assert rows(b"[%b,%b]" % (one, one)) == [item(), item()]
    assert rows(one) == [item()]
    assert rows(one + b"\n\n" + one, "application/x-ndjson; charset=utf-8") == [item(), item()]


def test_a_broken_line_of_ndjson_leaves_the_others(item: Make) -> None:
    one = json.dumps(item()).encode()
    good, bad = checked(rows(one + b"\n{oops\n", "application/x-ndjson"))
    assert len(good) == 1
    assert bad[0]["index"] == 1
    assert bad[0]["error"].startswith("the line is not JSON")


def test_nan_in_an_array_is_told_by_its_row(item: Make) -> None:
    body = json.dumps([item("0"), item("1", metadata={"x": float("nan")})]).encode()
    good, bad = checked(rows(body))
    assert len(good) == 1
    assert bad == [{"index": 1, "error": "metadata: x is nan, which is no JSON number"}]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[1,", b"[" * 5000, b"[NaN,", b'{"a":' * 3000 + b"NaN"]
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        rows(body)


@pytest.mark.parametrize("row", [7, "x", None, [], True])
def test_a_row_that_is_no_object_is_refused(row: Any) -> None:
    assert checked([row])[1][0]["index"] == 0


def test_no_items_and_too_many_are_refused() -> None:
    with pytest.raises(Invalid, match="no item"):
        rows(b"[]")
    with pytest.raises(Invalid, match="10,001"):
        rows(json.dumps([0] * (ITEMS + 1)).encode())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "id": json_values,
                "board_id": json_values,
                "type": json_values,
                "title": json_values,
                "text": json_values,
                "updated_at": json_values,
                "metadata": json_values,
            },
        ),
        max_size=4,
    )
)
def test_every_row_is_either_taken_or_reported(values: list[Any]) -> None:
    good, bad = checked(values)
    assert sorted([i for i, _ in good] + [fault["index"] for fault in bad]) == list(
        range(len(values))
    )
