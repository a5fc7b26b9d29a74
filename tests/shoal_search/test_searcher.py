"""Searching an index that states were written to, over the real stores."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shoal import TenantContext
from shoal_search.items import Item
from shoal_search.parameters import SearchParameters
from shoal_search.searcher import SearchQuery

from .conftest import Index

pytestmark = pytest.mark.anyio
Make = Callable[..., dict[str, Any]]
NOW = Item.model_validate(
    {
        "id": "x",
        "board_id": "x",
        "type": "doc",
        "title": "",
        "text": "x",
        "updated_at": "2026-11-23T00:00:00Z",
    }
).updated_ms


async def write(index: Index, ctx: TenantContext, *rows: dict[str, Any]) -> None:
    await index.write(ctx, *rows)


async def ids(index: Index, ctx: TenantContext, text: str, **wanted: Any) -> list[str]:
    hits, _ = await index.search(ctx, SearchQuery(text, **wanted), SearchParameters(), NOW)
    return [hit.item.id for hit in hits]


async def test_an_storedis_found_by_meaning_without_a_common_word(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    await write(
        index,
        ctx,
        item("car", "The automobile needs new tyres."),
        item("poem", "A poem about the autumn."),
    )
    hits, total = await index.search(ctx, SearchQuery("repair my vehicle"), SearchParameters(), NOW)
    assert [hit.item.id for hit in hits] == ["car", "poem"]
    assert total == 2
    assert hits[0].scores.keyword == 0


async def test_an_exact_word_is_found_though_it_means_nothing(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    await write(
        index, ctx, *(item(str(i), f"Ticket QX{i}Z is about the sign-in form.") for i in range(40))
    )
    hits, _ = await index.search(ctx, SearchQuery("QX37Z", limit=3), SearchParameters(), NOW)
    assert hits[0].item.id == "37"
    assert hits[0].scores.keyword == 1


async def test_every_hit_has_the_same_score_whichever_search_found_it(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    """With few candidates from each side, each hit's parts are still those that a
    search with all candidates gives.
    """
    await write(
        index,
        ctx,
        *(
            item(str(i), f"Plan {i}: " + ("budget review " * (i % 7)) + "for the team")
            for i in range(60)
        ),
    )
    few, all_of_them = SearchParameters(candidates=10), SearchParameters(candidates=100)
    narrow, _ = await index.search(ctx, SearchQuery("budget plan", limit=10), few, NOW)
    wide, _ = await index.search(ctx, SearchQuery("budget plan", limit=60), all_of_them, NOW)
    expected = {hit.item.id: hit.scores for hit in wide}
    for hit in narrow:
        assert hit.scores.semantic == pytest.approx(expected[hit.item.id].semantic, abs=1e-3)
        assert hit.scores.keyword == pytest.approx(expected[hit.item.id].keyword, abs=1e-6)


async def test_a_new_storedis_scored_by_the_statistics_of_all(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    """Where the store scores new rows by themselves, no word is rare among them: a new
    exact match must come out on top all the same.
    """
    await write(
        index, ctx, *(item(str(i), f"The supplier number {i} sent a contract.") for i in range(40))
    )
    await ctx.stores.vectors.optimize(index.collection)
    await write(index, ctx, item("new", "The supplier Zyxthal sent a contract."))
    hits, _ = await index.search(ctx, SearchQuery("Zyxthal supplier"), SearchParameters(), NOW)
    assert hits[0].item.id == "new"
    assert hits[0].scores.keyword == 1


async def test_board_type_and_date_leave_no_place_to_others(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    far = [item(f"far{i}", "the sign-in form is slow", board_id="other") for i in range(60)]
    await write(
        index,
        ctx,
        *far,
        item(
            "near",
            "a poem about autumn",
            board_id="mine",
            type="doc",
            updated_at="2026-11-22T00:00:00Z",
        ),
    )
    text = "the sign-in form is slow"
    assert await ids(index, ctx, text, boards=frozenset({"mine"}), limit=5) == ["near"]
    assert await ids(index, ctx, text, types=frozenset({"doc"}), limit=5) == ["near"]
    assert await ids(index, ctx, text, after=NOW - 2 * 86_400_000, limit=5) == ["near"]
    assert await ids(index, ctx, text, boards=frozenset({"mine"}), types=frozenset({"file"})) == []


async def test_quotes_in_a_board_name_are_escaped(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    name = '"] or id != "" or board in ["\\'
    await write(index, ctx, item("1", board_id=name), item("2", board_id="b2"))
    assert await ids(index, ctx, "sign-in", boards=frozenset({name})) == ["1"]


async def test_writing_again_replaces_and_deleting_removes(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    await write(index, ctx, item("1", "about zebras"), item("2", "about horses"))
    await write(index, ctx, item("1", "about trains"))
    hits, total = await index.search(ctx, SearchQuery("zebras"), SearchParameters(), NOW)
    assert total == 2
    assert all(hit.scores.keyword == 0 for hit in hits)
    await index.delete(ctx, "1", "nobody")
    assert await ids(index, ctx, "trains") == ["2"]


async def test_a_tenant_without_items_finds_nothing(index: Index, ctx: TenantContext) -> None:
    assert await index.search(ctx, SearchQuery("anything"), SearchParameters(), NOW) == ([], 0)
    assert await index.writer.rows(ctx, ["1"], ["board"]) == {}


async def test_a_query_of_stop_words_alone_goes_by_meaning(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    await write(index, ctx, item("1"))
    assert await ids(index, ctx, "who is it?") == ["1"]


async def test_what_was_dropped_behind_its_back_is_made_again(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    await write(index, ctx, item("1"))
    await ctx.stores.vectors.drop(index.collection)
    await write(index, ctx, item("2"))
    assert await ids(index, ctx, "sign-in") == ["2"]


async def test_an_storedmoved_away_during_a_search_is_not_shown(
    index: Index, ctx: TenantContext, item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(
        index, ctx, item("1", "sign-in", board_id="mine"), item("2", "sign-in", board_id="mine")
    )
    matching, nearest = (
        getattr(type(ctx.stores.vectors), name) for name in ("matching", "nearest")
    )
    first = asyncio.Event()

    async def near_before(self: Any, *args: Any, **options: Any) -> Any:
        found = await nearest(self, *args, **options)
        first.set()
        return found

    async def moved_before(self: Any, *args: Any, **options: Any) -> Any:
        await first.wait()
        monkeypatch.undo()
        await write(index, ctx, item("1", "sign-in, now a secret", board_id="closed"))
        return await matching(self, *args, **options)

    monkeypatch.setattr(type(ctx.stores.vectors), "nearest", near_before)
    monkeypatch.setattr(type(ctx.stores.vectors), "matching", moved_before)
    found, _ = await index.search(
        ctx, SearchQuery("sign-in", boards=frozenset({"mine"})), SearchParameters(), NOW
    )
    assert {(hit.item.board, hit.item.text) for hit in found} == {("mine", "sign-in")}


async def test_an_storedkeeps_all_that_came_with_it(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    metadata = {"owner": "Ana", "points": [1, 2.5, None], "nested": {"ä": True}}
    await write(
        index, ctx, item("1", title="Title", url="https://example.com/1", metadata=metadata)
    )
    (hit,), _ = await index.search(ctx, SearchQuery("title"), SearchParameters(), NOW)
    stored = hit.item
    assert (stored.title, stored.url, stored.metadata, stored.board, stored.type) == (
        "Title",
        "https://example.com/1",
        metadata,
        "b1",
        "item",
    )


async def test_the_longest_text_is_stored_whole(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    text = "路" * 20_000
    await write(index, ctx, item("1", text))
    (hit,), _ = await index.search(ctx, SearchQuery("路"), SearchParameters(), NOW)
    assert hit.item.text == text
