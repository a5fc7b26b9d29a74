"""Rows of JSON, NDJSON or CSV in, an error per bad row out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, field_validator

from shoal import Batch, Invalid, Malformed, RowError, read_rows, validate_rows

NDJSON, CSV = "application/x-ndjson; charset=utf-8", "text/csv"


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    size: float = 0

    @field_validator("size")
    @classmethod
    def _positive(cls, size: float) -> float:
        if size < 0:
            raise ValueError("must not be negative")
        return size


LINES = st.one_of(
    st.builds(lambda i: (f'{{"id": "{i}"}}', str(i)), st.integers()),
    st.sampled_from([(line, None) for line in ('{"id"', '{"id": NaN}', "[]", "7", "\udcff", "{}")]),
)


def batch(body: bytes, content_type: str, limit: int = 1000) -> Batch[Item]:
    return validate_rows(read_rows(body, content_type, limit=limit), Item.model_validate)


@given(st.lists(st.one_of(LINES, st.sampled_from([("", None), ("  ", None)]))))
def test_every_ndjson_row_is_accepted_or_rejected(lines: list[tuple[str, str | None]]) -> None:
    body = "\n".join(line for line, _ in lines).encode(errors="surrogateescape")
    expected = [id for line, id in lines if line.strip()]
    found = batch(body, NDJSON)
    assert {index: item.id for index, item in found.accepted.items()} == {
        index: id for index, id in enumerate(expected) if id is not None
    }
    assert set(found.rejected) == {index for index, id in enumerate(expected) if id is None}
    assert all(found.rejected.values())


@given(st.lists(st.one_of(st.fixed_dictionaries({"id": st.text()}), st.integers(), st.none())))
def test_every_json_row_is_accepted_or_rejected(rows: list[Any]) -> None:
    found = batch(json.dumps(rows).encode(), "application/json")
    assert set(found.accepted) == {n for n, row in enumerate(rows) if isinstance(row, dict)}
    assert set(found.accepted) | set(found.rejected) == set(range(len(rows)))


@pytest.mark.parametrize("content_type", ["", "application/json"])
def test_a_single_object_is_one_row(content_type: str) -> None:
    assert read_rows(b'{"id": "a"}', content_type, limit=1) == [{"id": "a"}]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"[1, 2, 3]", ""), (b"1\n{\n\n3\n", NDJSON), (b"id\na\nb\nc\n", CSV)],
    ids=["json", "ndjson", "csv"],
)
def test_more_rows_than_the_limit_are_invalid(body: bytes, content_type: str) -> None:
    assert len(read_rows(body, content_type, limit=3)) == 3
    with pytest.raises(Invalid, match="more than 2 rows in one request") as refused:
        read_rows(body, content_type, limit=2)
    assert [fault["location"] for fault in refused.value.errors] == ["body"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[1,", b"[" * 5000, b"[NaN,", b'{"a": NaN}', b'{"a":' * 3000]
)
def test_a_body_that_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed, match="not JSON"):
        read_rows(body, "application/json", limit=10)


@pytest.mark.parametrize("body", [b"\xff", b'id\n"a'], ids=["not UTF-8", "open quote"])
def test_a_body_that_is_not_csv_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed, match="not CSV"):
        read_rows(body, CSV, limit=10)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_is_located(number: str) -> None:
    body = f'[{{"id": "a"}}, {{"id": "b", "tags": [0, {number}]}}]'.encode()
    found = batch(body, "application/json")
    assert list(found.accepted) == [0]
    assert found.rejected[1] == f"tags.1: {float(number)} is not a JSON number"


def test_csv_cells_are_texts_or_json() -> None:
    body = '\ufeffid, tags,size\na,"[1, 2]", 3 \nb,,\n\nc,{"x"\nd,,1,2\n'.encode()
    first, second, third, fourth = read_rows(body, CSV, limit=10)
    assert (first, second) == ({"id": "a", "tags": [1, 2], "size": "3"}, {"id": "b"})
    assert third.error.startswith("tags: not JSON")
    assert fourth == RowError("the row has more cells than the header")


def test_errors_are_one_line_with_locations() -> None:
    found = validate_rows([{"size": -1}, 7], Item.model_validate)
    assert found.rejected[0] == "id: Field required; size: must not be negative"
    assert found.rejected[1] == "must be an object"


def test_any_value_error_or_invalid_rejects_a_row() -> None:
    def validate(row: int) -> int:
        if row:
            raise (ValueError if row == 1 else Invalid)("wrong")
        return row

    found = validate_rows([0, 1, 2], validate)
    assert (found.accepted, found.rejected) == ({0: 0}, {1: "wrong", 2: "wrong"})


def test_a_response_lists_rejected_rows_in_order() -> None:
    found = validate_rows([{"id": "a"}, {}, {"id": "b"}], Item.model_validate)
    found.reject(0, "id: already exists")
    assert found.response() == {
        "accepted": 1,
        "rejected": [
            {"index": 0, "error": "id: already exists"},
            {"index": 1, "error": "id: Field required"},
        ],
    }
