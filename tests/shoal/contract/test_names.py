"""Names in keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.contract.names import check_tenant, check_text, encode, mask_keys


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Acme",
        "-a",
        "_a",
        "a:b",
        "../a",
        "a\n",
        "a\0",
        "a b",
        "ä",
        "a" * 64,
        "a/b",
        "{a}",
        "%41",
    ],
)
def test_what_cannot_name_a_tenant(name: str) -> None:
    with pytest.raises(ValueError, match="tenant"):
        check_tenant(name)


@pytest.mark.parametrize("name", ["a", "acme", "0x", "a-b_c", "a" * 63])
def test_what_can(name: str) -> None:
    assert check_tenant(name) == name


@pytest.mark.parametrize("value", ["", "a\nb", "\0", "x" * 513, "\x7f", "a\ud800"])
def test_text_that_cannot_be_an_id(value: str) -> None:
    with pytest.raises(ValueError, match="512"):
        check_text(value)


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_part_of_a_key_can_pretend_to_be_two(a: str, b: str) -> None:
    a, b = (s.encode("utf-8", "ignore").decode() or "x" for s in (a, b))
    assert not set(encode(a)) & set(":{}")
    assert (encode(a) == encode(b)) == (a == b)


def test_a_secret_is_masked_wherever_it_stands() -> None:
    key = "shoal_" + "a" * 16 + "_" + "b" * 32
    assert mask_keys(f"no key '{key}' at /{key}") == (
        f"no key 'shoal_{'a' * 16}_…' at /shoal_{'a' * 16}_…"
    )
    assert mask_keys("shoal_search_index") == "shoal_search_index"
