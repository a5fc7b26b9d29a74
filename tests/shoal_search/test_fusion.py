"""Fusion."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_search.fusion import DAY_MS, fuse
from shoal_search.parameters import SearchParameters

DEFAULT = SearchParameters()
NOW = 1_800_000_000_000


def test_the_score_is_seventy_percent_meaning_twenty_words_ten_recency() -> None:
    ((_, scores),) = fuse([0.5], [3.0], [NOW - 30 * DAY_MS], now=NOW, parameters=DEFAULT)
    assert (scores.semantic, scores.keyword, scores.recency) == (0.5, 1.0, 0.5)
    assert scores.total == pytest.approx(0.7 * 0.5 + 0.2 * 1 + 0.1 * 0.5)


def test_words_are_relative_to_the_best_of_the_query() -> None:
    ranked = dict(fuse([0, 0], [2.0, 8.0], [NOW, NOW], now=NOW, parameters=DEFAULT))
    assert ranked[0].keyword == 0.25
    assert ranked[1].keyword == 1


def test_no_word_found_is_no_words_at_all() -> None:
    ((_, scores),) = fuse([0.3], [0.0], [NOW], now=NOW, parameters=DEFAULT)
    assert scores.keyword == 0


def test_an_opposite_meaning_is_no_better_than_none() -> None:
    ((_, scores),) = fuse([-0.4], [0.0], [NOW], now=NOW, parameters=DEFAULT)
    assert scores.semantic == 0


def test_the_future_is_now() -> None:
    ((_, scores),) = fuse([0.1], [0.0], [NOW + 900 * DAY_MS], now=NOW, parameters=DEFAULT)
    assert scores.recency == 1


def test_one_date_for_all_changes_no_order() -> None:
    cosine, words = [0.3, 0.9, 0.6], [1.0, 0.0, 2.0]
    without = DEFAULT.model_copy(update={"recency_weight": 0.0})
    old = NOW - 400 * DAY_MS
    assert [i for i, _ in fuse(cosine, words, [old] * 3, now=NOW, parameters=DEFAULT)] == [
        i for i, _ in fuse(cosine, words, [old] * 3, now=NOW, parameters=without)
    ]


def test_no_candidates_no_hits() -> None:
    assert fuse([], [], [], now=NOW, parameters=DEFAULT) == []


floats = st.floats(allow_nan=True, allow_infinity=True)


@settings(deadline=None)
@given(st.lists(st.tuples(floats, floats, st.integers(0, 4 * NOW)), max_size=20))
def test_every_score_is_finite_and_the_order_is_theirs(
    rows: list[tuple[float, float, int]],
) -> None:
    cosine, words, updated = (
        (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    )
    ranked = fuse(np.array(cosine), np.array(words), updated, now=NOW, parameters=DEFAULT)
    assert sorted(i for i, _ in ranked) == list(range(len(rows)))
    totals = [s.total for _, s in ranked]
    assert totals == sorted(totals, reverse=True)
    for _, s in ranked:
        assert all(
            math.isfinite(part) and 0 <= part <= 1 for part in (s.semantic, s.keyword, s.recency)
        )


def test_a_limit_keeps_the_best() -> None:
    given = ([0.1, 0.9, 0.5], [0.0] * 3, [NOW] * 3)
    assert (
        fuse(*given, now=NOW, parameters=DEFAULT, limit=2)
        == fuse(*given, now=NOW, parameters=DEFAULT)[:2]
    )
