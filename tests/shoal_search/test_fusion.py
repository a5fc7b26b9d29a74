"""Fusion."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_search.fusion import DAY_MS, WHOLE, Scores, lift
from shoal_search.fusion import fuse as fuse_ids
from shoal_search.parameters import SearchParameters

DEFAULT = SearchParameters()
NOW = 1_800_000_000_000


def fuse(cosine: Any, bm25: Any, updated: Any, **options: Any) -> list[tuple[int, Scores]]:
    ids = [f"{i:03}" for i in range(len(updated))]
    return fuse_ids(cosine, bm25, updated, ids, **options)


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


def test_equals_are_ordered_by_time_then_id() -> None:
    """Also where both are so old that recency is the same for them."""
    old = [NOW - days * DAY_MS for days in (4_000, 3_000, 5_000, 3_000)]
    cosine = [0.5 + noise for noise in (0, 1e-8, 2e-8, -1e-8)]
    ranked = fuse(cosine, [1.0] * 4, old, now=NOW, parameters=DEFAULT)
    assert [i for i, _ in ranked] == [1, 3, 0, 2]


def test_words_can_be_relative_to_another_best() -> None:
    ((_, scores),) = fuse([0], [2.0], [NOW], now=NOW, parameters=DEFAULT, best=8.0)
    assert scores.keyword == 0.25


def scores(*totals: float) -> list[Scores]:
    return [Scores(total, 0, 0, total) for total in totals]


weights = st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.0])


@given(st.lists(st.tuples(st.floats(0, 1), weights, weights), min_size=1, max_size=8))
def test_what_is_named_is_first_or_second(rows: list[tuple[float, float, float]]) -> None:
    given = scores(*sorted((total for total, _, _ in rows), reverse=True))
    named, rare = [one for _, one, _ in rows], [one for _, _, one in rows]
    lifted = lift(given, named, rare)
    assert sorted(place for place, _ in lifted) == list(range(len(rows)))
    totals = [one.total for _, one in lifted]
    assert totals == sorted(totals, reverse=True)
    for place, one in lifted:
        assert one.total == pytest.approx(given[place].total + one.lift, abs=1e-5)
    top = [place for place, _ in lifted[:2]]
    most_named = sorted(range(len(rows)), key=lambda i: (-named[i], i))[: min(2, len(rows))]
    for place in most_named:
        assert not named[place] or place in top
    if not any(named) and max(rare) > 0:
        assert rare.index(max(rare)) in top
        assert not lifted[0][1].lift


def test_nothing_rare_changes_no_order() -> None:
    given = scores(0.9, 0.5, 0.1)
    assert lift(given, [0] * 3, [0] * 3) == list(enumerate(given))


def test_what_the_query_is_the_name_of_is_first() -> None:
    lifted = lift(scores(0.9, 0.5, 0.3), [3.0, 0.0, WHOLE + 1], [0.0] * 3)
    assert [place for place, _ in lifted] == [2, 0, 1]
    assert [one.total for _, one in lifted] == [0.9, 0.9, 0.5]
