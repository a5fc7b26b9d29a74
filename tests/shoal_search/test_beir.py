"""JudgedCollection collections and what ranks them."""

import json
import math
from pathlib import Path

import pytest

from shoal import Invalid
from shoal_search.beir import load_collection, ndcg
from shoal_search.commands import read_items_file
from shoal_search.items import check_items
from shoal_search.parameters import SearchParameters
from shoal_search.study import STUDY


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    (folder / "qrels").mkdir(parents=True)
    documents = [
        ("d1", "Zebras", "Zebras live on the savannah."),
        ("d2", "", "A train to the coast."),
        ("d3", "Only a title", ""),
    ]
    rows = [{"_id": i, "title": title, "text": text} for i, title, text in documents]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text(
        '{"_id": "q1", "text": "striped animals"}\n{"_id": "q2", "text": "unjudged"}\n'
    )
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t0\n"
    )
    return folder


def test_ndcg_is_the_formula() -> None:
    relevance = {"a": 3, "b": 2, "c": 1}
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert ndcg(["a", "b", "c"], relevance) == 1
    assert ndcg(["x", "a", "c"], relevance) == pytest.approx((3 / math.log2(3) + 1 / 2) / ideal)
    assert ndcg(["x"] * 10 + ["a"], relevance) == 0
    assert ndcg(["a"], {}) == 0


def test_a_collection_is_read_with_its_judged_queries(collection: Path) -> None:
    found = load_collection(collection)
    assert [id for id, _, _ in found.documents] == ["d1", "d2", "d3"]
    assert found.relevance == {"q1": {"d1": 2, "d2": 0}}


def test_a_wrong_line_is_named(collection: Path) -> None:
    (collection / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1 d1 2\n")
    with pytest.raises(ValueError, match="line 2"):
        load_collection(collection)
    (collection / "corpus.jsonl").write_text('{"_id": "d1", "text": "x"}\n{\n')
    with pytest.raises(ValueError, match="line 2"):
        load_collection(collection)


def test_beir_documents_become_items_that_are_taken(collection: Path) -> None:
    rows = list(read_items_file(collection))
    batch = check_items(rows)
    assert not batch.rejected
    items = list(batch.accepted.values())
    assert [(item.id, item.board_id, item.type) for item in items] == [
        ("d1", "zoo", "doc"),
        ("d2", "zoo", "doc"),
        ("d3", "zoo", "doc"),
    ]
    assert (items[2].title, items[2].text) == ("", "Only a title")
    assert len({item.updated_at for item in items}) == 1


def test_ndjson_items_are_taken_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "items.ndjson"
    file.write_text('{"id": "1", "board_id": "b"}\n\n{"id": "2"}\n')
    assert list(read_items_file(file)) == [{"id": "1", "board_id": "b"}, {"id": "2"}]


@pytest.mark.integration
def test_the_study_finds_that_meaning_helps(collection: Path) -> None:
    data = STUDY.load(str(collection))
    assert STUDY.objective(SearchParameters(), data) == 1
    assert 0 <= STUDY.objective(SearchParameters(semantic_weight=0), data) <= 1


def test_what_is_no_collection_is_said_to_be_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(Invalid, match="BEIR"):
            STUDY.load(str(path))
