"""Passages of texts."""

import pickle
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.contract.vectors import MAX_VECTORS
from shoal_search.passages import MAX_PASSAGES, PassageLimit, passages
from shoal_search.sentence_encoder import PACKAGED, model_path

with open(f"{model_path(PACKAGED)}/tokenizer.json") as file:
    PIECES = PassageLimit(254, file.read())
CHARACTERS = PassageLimit(200)
SMALL = PassageLimit(12, PIECES.tokenizer)

texts = st.text(max_size=1_000).filter(str.strip) | st.lists(
    st.sampled_from(
        [
            "A sentence. ",
            "word ",
            "\n\n",
            "# Heading\n",
            "路线图",
            "e\u0301",
            "\u200b",
            ".",
            "👨‍👩‍👧 ",
        ]
    ),
    min_size=1,
    max_size=300,
).map("".join).filter(str.strip)
limits = st.sampled_from([PIECES, CHARACTERS, SMALL])


@settings(deadline=None)
@given(st.text(max_size=300), texts, limits)
def test_every_character_is_in_a_passage_that_fits(
    title: str, text: str, limit: PassageLimit
) -> None:
    found = passages(title, text, limit)
    covered = set[int]()
    for passage in found:
        assert len(limit.ends(passage.embedded)) <= limit.size
        assert 0 <= passage.start <= passage.end <= len(text)
        assert passage.embedded.endswith(text[passage.start : passage.end])
        covered.update(range(passage.start, passage.end))
    assert all(text[at].isspace() for at in set(range(len(text))) - covered)
    assert [p.start for p in found] == sorted(p.start for p in found)


def test_short_text_is_one_passage_with_its_title() -> None:
    assert passages("Plan", "For the quarter.", PIECES) == [("Plan\nFor the quarter.", 0, 16)]
    assert passages("", "For the quarter.", PIECES) == [("For the quarter.", 0, 16)]


def test_passages_end_with_sentences_and_overlap() -> None:
    text = " ".join(f"Sentence number {n} says nothing new." for n in range(200))
    found = passages("Title", text, PIECES)
    assert len(found) > 4
    for passage, following in pairwise(found):
        assert text[passage.start : passage.end].endswith(".")
        assert following.start < passage.end
        assert passage.embedded.startswith("Title\nSentence")


def test_title_longer_than_a_passage_is_read_whole() -> None:
    title = " ".join(f"part{n}" for n in range(300))
    found = passages(title, "The text.", PIECES)
    read = " ".join(passage.embedded for passage in found)
    assert all(f"part{n}" in read for n in range(300))
    assert "The text." in found[-1].embedded


@pytest.mark.parametrize(
    "text",
    [
        "a" * 60_000,
        "." * 60_000,
        "x" + "\n" * 59_999,
        "a\n" * 30_000,
        "# a\n" * 15_000,
        "路线图" * 6_600,
        "e\u0301" * 20_000,
        "`" * 60_000,
        "👨‍👩‍👧" * 3_300,
        "> " * 30_000,
    ],
    ids=lambda text: repr(text[:4]),
)
@pytest.mark.parametrize("limit", [PIECES, CHARACTERS], ids=["pieces", "characters"])
@pytest.mark.timeout(60)
def test_hostile_texts_have_few_passages_that_fit(text: str, limit: PassageLimit) -> None:
    found = passages("A title", text, limit)
    assert 1 <= len(found) <= MAX_PASSAGES
    assert all(len(limit.ends(passage.embedded)) <= limit.size for passage in found)


def test_passages_are_no_more_than_a_row_has_vectors() -> None:
    assert MAX_PASSAGES <= MAX_VECTORS


def test_limit_can_be_pickled_after_use() -> None:
    passages("", "word " * 500, PIECES)
    assert pickle.loads(pickle.dumps(PIECES)) == PIECES
