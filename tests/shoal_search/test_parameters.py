"""The settings of search."""

from typing import Any

import pytest

from shoal_search.parameters import SearchSettings


def collection(model: str = "x", **changes: Any) -> str:
    named = {"model": "small", "endpoint": "https://example.com/v1", **changes}
    return SearchSettings.model_validate({"model": model, "models": {"x": named}}).collection


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "https://example.org/v1"},
        {"model": "large"},
        {"dimensions": 256},
        {"max_bytes": 500},
        {"passage_characters": 1_000},
    ],
)
def test_what_makes_other_vectors_makes_another_index(change: dict[str, Any]) -> None:
    assert collection(**change) != collection()


@pytest.mark.parametrize(
    "change", [{"key": "KEY"}, {"batch": 3}, {"timeout": 5}, {"requests_per_minute": 60}]
)
def test_what_makes_the_same_vectors_keeps_the_index(change: dict[str, Any]) -> None:
    assert collection(**change) == collection()


def test_models_and_languages_have_indexes_of_their_own() -> None:
    made = [SearchSettings(), SearchSettings(model="m"), SearchSettings(language="german")]
    assert len({one.collection for one in made} | {collection(), collection("y")}) == 5
