"""Cursors of lists."""

from base64 import urlsafe_b64encode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal import Invalid, read_cursor, write_cursor

POSITIONS = st.one_of(
    st.integers(0, 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"]), max_size=512)
)


@given(POSITIONS)
def test_a_cursor_is_read_as_it_was_written(position: int | str) -> None:
    assert read_cursor("a.list", write_cursor("a.list", position), type(position)) == position


@given(POSITIONS)
def test_a_cursor_of_another_list_is_refused(position: int | str) -> None:
    with pytest.raises(Invalid, match="not a cursor of this list"):
        read_cursor("another.list", write_cursor("a.list", position), type(position))


@given(st.text(min_size=1))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="not a cursor of this list"):
        read_cursor("a.list", text, str)


@pytest.mark.parametrize(
    "value", [None, 7, "a.list", [], ["a.list"], ["a.list", -1], ["a.list", "1"], ["a.list", True]]
)
def test_a_forged_position_is_refused(value: object) -> None:
    with pytest.raises(Invalid):
        read_cursor("a.list", urlsafe_b64encode(orjson.dumps(value)).decode(), int)


def test_without_a_cursor_a_list_begins_at_its_first() -> None:
    assert read_cursor("a.list", None, int) is None
    assert read_cursor("a.list", "", str) is None
