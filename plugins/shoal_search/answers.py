"""The bodies of what search answers."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from shoal import off_loop

from .analyzer import Analyzer
from .bm25 import has_term
from .candidates import Candidate
from .corrections import Correction
from .items import ItemType
from .query_text import QueryText, marked_terms
from .rows import passage_range, read_passages
from .searcher import Found, Question
from .snippets import MAX_SCANNED, find_highlights, snippet

PARTS = ("semantic", "keyword", "recency")

Range = tuple[int, int]


class Body(BaseModel):
    """A body that has no other fields than those it declares."""

    model_config = ConfigDict(extra="forbid")


class HitScores(Body):
    semantic: float
    keyword: float
    recency: float


class Highlights(Body):
    """Where the words of the query are: [start, end) in Unicode code points."""

    title: list[Range]
    snippet: list[Range]


class Explanation(Body):
    """Why an item is a hit, and where."""

    weights: HitScores = Field(description="What each part of the score is multiplied by.")
    lift: float = Field(
        description="Added because the query names the item: its id, address, title, or a "
        "word that hardly another item has."
    )
    relevance: float | None = Field(
        description="By which the first hits are ordered, where a reranker is configured; null of "
        "others."
    )
    words: list[str] = Field(description="The terms of the query that the item has.")
    passage: Range | None = Field(
        description="The part of the text that is nearest by meaning: [start, end) in Unicode "
        "code points. null if the item has no vector."
    )


class HitBody(Body):
    id: str
    board_id: str
    type: ItemType
    title: str
    snippet: str
    highlights: Highlights
    updated_at: datetime
    url: str | None
    metadata: dict[str, Any] | None = Field(description="As the item was added with it.")
    score: float | None = Field(description="null where hits are sorted by time.")
    scores: HitScores | None
    explanation: Explanation | None = Field(default=None, description="With `explain=true`.")


class CorrectionBody(Body):
    typed: str
    meant: list[str] = Field(description="The words that were searched instead, folded.")
    kind: str = Field(description="`typo`, or `beginning` of a word only begun.")


class FacetValue(Body):
    value: str | float | bool
    count: int


class SearchResults(Body):
    hits: list[HitBody]
    total: int = Field(description="How many items pass the filters; the pages list them all.")
    cursor: str | None = Field(description="Of the next page; null on the last.")
    corrections: list[CorrectionBody] = Field(
        description="Words of the query that no item has, and what was searched instead."
    )
    facets: dict[str, list[FacetValue]] | None = Field(
        default=None, description="With `facets`: the most frequent values of each."
    )
    took_ms: float


class SuggestedItem(Body):
    id: str
    board_id: str
    type: ItemType
    title: str
    highlights: list[Range] = Field(description="In the title, in Unicode code points.")


class Suggestions(Body):
    queries: list[str] = Field(description="The query with its last word completed.")
    items: list[SuggestedItem] = Field(description="Items with such titles.")
    took_ms: float


class SimilarItems(Body):
    hits: list[HitBody]
    took_ms: float


def hit_body(
    found: Found,
    question: Question,
    analyzer: Analyzer,
    *,
    explain: bool = False,
) -> dict[str, Any]:
    """A hit with its scores.

    Args:
        found: The item and its scores.
        question: What was asked for.
        analyzer: Finds the words to mark.
        explain: Whether to say why it is a hit.
    """
    ways, scores, candidate = question.ways, found.scores, found.candidate
    passage = passage_range(candidate.row, found.passage)
    shown = _wordy_passage(candidate, passage, ways, analyzer)
    hit = _body(candidate.id, candidate.row, shown, ways, analyzer)
    hit["score"] = round(scores.total, 6)
    hit["scores"] = {part: round(getattr(scores, part), 6) for part in PARTS}
    if explain:
        hit["explanation"] = {
            "weights": {part: getattr(question.parameters, f"{part}_weight") for part in PARTS},
            "lift": scores.lift,
            "relevance": found.relevance,
            "words": sorted(way for way in ways if has_term(candidate.words, way)),
            "passage": None if found.passage is None else passage,
        }
    return hit


async def hit_bodies(
    page: Sequence[Found], question: Question, analyzer: Analyzer, *, explain: bool = False
) -> list[dict[str, Any]]:
    """As `hit_body`, of several; in the background where their texts are long."""

    def make(page: Sequence[Found]) -> list[dict[str, Any]]:
        return [hit_body(found, question, analyzer, explain=explain) for found in page]

    size = sum(len(found.candidate.row["body"]) for found in page)
    return make(page) if size <= MAX_SCANNED else await off_loop(make, page)


def correction_bodies(query: QueryText, corrections: Sequence[Correction]) -> list[dict[str, Any]]:
    """Which words of a query were corrected, and how."""
    return [
        {"typed": query.text[c.word.start : c.word.end], "meant": list(c.meant), "kind": c.kind}
        for c in corrections
    ]


def _wordy_passage(
    candidate: Candidate, nearest: Range, ways: Collection[str], analyzer: Analyzer
) -> Range:
    """The passage with the most different words of a query; of equals the nearest."""
    body = candidate.row["body"]
    if nearest == (0, len(body)):
        return nearest
    having = {way for way in ways if has_term(candidate.words, way)}
    start, end = nearest
    if having.issubset(analyzer.stems(body[start:end])):
        return nearest
    places = [(t.start, t.stem) for t in analyzer.tokens(body) if t.stem in having]

    def count_words(passage: Range) -> int:
        return len({term for at, term in places if passage[0] <= at < passage[1]})

    return max([nearest, *read_passages(candidate.row)], key=count_words)


def sorted_hit(
    row: Mapping[str, Any], terms: Collection[str], analyzer: Analyzer
) -> dict[str, Any]:
    """A hit of a list that is sorted by time, which has no scores."""
    hit = _body(row["id"], row, (0, len(row["body"])), terms, analyzer)
    return {**hit, "score": None, "scores": None}


def suggested_item(row: Mapping[str, Any], marks: Sequence[Range]) -> dict[str, Any]:
    """A suggestion of an item, with the marks in its title."""
    return {
        "id": row["id"],
        "board_id": row["board"],
        "type": row["type"],
        "title": row["title"],
        "highlights": marks,
    }


def _body(
    id: str, row: Mapping[str, Any], passage: Range, terms: Collection[str], analyzer: Analyzer
) -> dict[str, Any]:
    start, end = passage
    terms = marked_terms(terms)
    text = snippet(row["body"][start:end], terms, analyzer)
    if start > 0 and not text.startswith("…"):
        text = f"…{text}"
    if end < len(row["body"]) and not text.endswith("…"):
        text = f"{text}…"
    return {
        "id": id,
        "board_id": row["board"],
        "type": row["type"],
        "title": row["title"],
        "snippet": text,
        "highlights": {
            "title": find_highlights(row["title"], terms, analyzer),
            "snippet": find_highlights(text, terms, analyzer),
        },
        "updated_at": datetime.fromtimestamp(row["updated"] / 1000, UTC),
        "url": row["url"],
        "metadata": row["metadata"],
    }


def json_response(value: Any) -> Response:
    """A response whose body may hold arrays of NumPy and times."""
    return Response(
        orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z),
        media_type="application/json",
    )
