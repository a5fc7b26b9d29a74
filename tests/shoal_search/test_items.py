"""Rows of a request become items, or are rejected with a reason."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal import Invalid, Malformed
from shoal_search.items import MAX_ITEMS, MAX_TEXT_BYTES, check_items, read_items

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
        (
            {"text": "x" * 1_048_576},
            f"text: is 1,048,576 bytes long, over the limit of {MAX_TEXT_BYTES:,}",
        ),
        ({"text": "a\0b"}, "text: contains a NUL character, at position 1"),
        ({"title": "a\0b"}, "title: contains a NUL"),
        ({"text": 7}, "text: must be text"),
        ({"text": None}, "text: must be text"),
        ({"text": "\ud800"}, "text: "),
        ({"id": 7}, "id: must be text"),
        ({"id": ""}, "id: 1 to 512 characters"),
        ({"id": "a\nb"}, "id: 1 to 512 characters"),
        ({"board_id": None}, "board_id: "),
        ({"type": "board"}, "type: must be 'item', 'update', 'doc' or 'file'"),
        ({"updated_at": "1969-12-31T23:59:59Z"}, "updated_at: is before 1970"),
        ({"updated_at": "2026-11-23T10:00:00"}, "updated_at: must be a time with an offset"),
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
        ({"metadata": [1]}, "metadata: must be an object"),
        ({"colour": "red"}, "colour: unknown field"),
    ],
)
def test_a_bad_field_is_named_with_what_is_wrong(
    item: Make, fields: dict[str, Any], said: str
) -> None:
    batch = check_items([item("0"), item("1") | fields, item("2")])
    assert [i.id for i in batch.accepted.values()] == ["0", "2"]
    assert list(batch.rejected) == [1]
    assert batch.rejected[1].startswith(said)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "HTTPS://example.com/a?b=c#d",
        "http://127.0.0.1:8080/board/1",
        "https://[2001:db8::1]/x",
        "https://пример.рф/ä",
        "https://example.com/users/@ana",
    ],
)
def test_the_address_of_a_page_is_kept(url: str, item: Make) -> None:
    assert check_items([item("1", url=url)]).accepted[0].url == url


@pytest.mark.parametrize("scheme", ["javascript", "data", "vbscript", "file", "blob", "ftp", ""])
@pytest.mark.parametrize("rest", [":alert(1)", "://x/%0aalert(1)", ":text/html,<script>"])
@pytest.mark.parametrize("disguise", ["{}", " {}", "\t{}", "{}\n", "java\nscript:{}"])
def test_a_url_that_runs_code_rejects_its_row(
    scheme: str, rest: str, disguise: str, item: Make
) -> None:
    for url in (scheme + rest, scheme.upper() + rest):
        rows = [item("0"), item("1", url=disguise.format(url)), item("2")]
        batch = check_items(rows)
        assert list(batch.accepted) == [0, 2]
        assert batch.rejected[1].startswith("url: must be the address of a page")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "https:example.com",
        "https:/example.com",
        "https:///x",
        "https://",
        "https:\\\\example.com",
        "https://example.com\\@evil.example",
        "https://example.com@evil.example",
        "https://example.com/a b",
        "https://exa\tmple.com",
        "https://example.com/\x01",
        "https://example.com/\x85",
        "xhttps://example.com",
        "javascript://example.com/%0aalert(1)//https://",
    ],
)
def test_what_is_no_address_of_a_page_is_rejected(url: str, item: Make) -> None:
    assert list(check_items([item("1", url=url)]).rejected) == [0]


def test_a_missing_field_is_named(item: Make) -> None:
    row = item()
    del row["board_id"]
    assert check_items([row]).rejected == {0: "board_id: Field required"}


def test_of_two_rows_with_one_id_the_later_is_rejected(item: Make) -> None:
    batch = check_items([item("a"), item("b"), item("a")])
    assert list(batch.accepted) == [0, 1]
    assert batch.rejected == {2: "id: 'a' is already in row 0 of this batch"}


def test_a_rejected_row_does_not_take_its_id(item: Make) -> None:
    assert list(check_items([item("a", text=""), item("a")]).accepted) == [1]


@pytest.mark.parametrize(
    ("template", "content_type", "count"),
    [
        (b"[%b,%b]", "application/json", 2),
        (b"%b", "application/json", 1),
        (b"%b\n\n%b", "application/x-ndjson; charset=utf-8", 2),
    ],
)
def test_arrays_objects_and_ndjson_are_accepted(
    item: Make, template: bytes, content_type: str, count: int
) -> None:
    rows = [json.dumps(item(str(i))).encode() for i in range(count)]
    batch = read_items(template % tuple(rows), content_type)
    assert [i.id for i in batch.accepted.values()] == [str(i) for i in range(count)]
    assert not batch.rejected


def test_a_broken_line_of_ndjson_leaves_the_others(item: Make) -> None:
    body = json.dumps(item()).encode() + b"\n{oops\n"
    batch = read_items(body, "application/x-ndjson")
    assert len(batch.accepted) == 1
    assert batch.rejected[1].startswith("the line is not JSON")


def test_nan_in_an_array_rejects_its_row(item: Make) -> None:
    body = json.dumps([item("0"), item("1", metadata={"x": float("nan")})]).encode()
    batch = read_items(body, "application/json")
    assert len(batch.accepted) == 1
    assert batch.rejected == {1: "metadata.x: nan is not a JSON number"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[1,", b"[" * 5000, b"[NaN,", b'{"a":' * 3000 + b"NaN"]
)
def test_a_body_that_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_items(body, "application/json")


@pytest.mark.parametrize("row", [7, "x", None, [], True])
def test_a_row_that_is_not_an_object_is_rejected(row: Any) -> None:
    assert list(check_items([row]).rejected) == [0]


def test_too_many_items_are_refused() -> None:
    with pytest.raises(Invalid, match="more than 10,000 rows"):
        read_items(json.dumps([0] * (MAX_ITEMS + 1)).encode(), "application/json")


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
def test_every_row_is_either_accepted_or_rejected(values: list[Any]) -> None:
    batch = check_items(values)
    assert sorted([*batch.accepted, *batch.rejected]) == list(range(len(values)))
