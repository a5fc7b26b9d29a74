"""Searching an index that states were written to, over the real stores."""

from collections.abc import Callable
from typing import Any

import pytest

from shoal import Between, Equals, Role, TenantContext, VectorCondition

from .conftest import NOW, Index, Opener

pytestmark = pytest.mark.anyio
Make = Callable[..., dict[str, Any]]


async def write(index: Index, ctx: TenantContext, *rows: dict[str, Any]) -> None:
    await index.write(ctx, *rows)


async def ids(index: Index, ctx: TenantContext, text: str, *filter: VectorCondition) -> list[str]:
    return [found.candidate.id for found in await index.rank(ctx, text, *filter)]


async def test_an_item_is_found_by_meaning_without_a_common_word(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    await write(
        index,
        ctx,
        item("car", "The automobile needs new tyres."),
        item("poem", "A poem about the autumn."),
    )
    hits = await index.rank(ctx, "repair my vehicle")
    assert [hit.candidate.id for hit in hits] == ["car", "poem"]
    assert hits[0].scores.keyword == 0


async def test_an_exact_word_is_found_though_it_means_nothing(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    await write(
        index, ctx, *(item(str(i), f"Ticket QX{i}Z is about the sign-in form.") for i in range(40))
    )
    hits = await index.rank(ctx, "QX37Z")
    assert hits[0].candidate.id == "37"
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
    few = await index.rank(ctx, "budget plan", candidates=10)
    expected = {
        hit.candidate.id: hit.scores for hit in await index.rank(ctx, "budget plan", candidates=100)
    }
    for hit in few:
        scores = expected[hit.candidate.id]
        assert hit.scores.semantic == pytest.approx(scores.semantic, abs=1e-3)
        assert hit.scores.keyword == pytest.approx(scores.keyword, abs=1e-6)


async def test_a_new_item_is_scored_by_the_statistics_of_all(
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
    hits = await index.rank(ctx, "Zyxthal supplier")
    assert hits[0].candidate.id == "new"
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
    mine, late = Equals("board", "mine"), Between("updated", above=NOW - 2 * 86_400_000)
    assert await ids(index, ctx, text, mine) == ["near"]
    assert await ids(index, ctx, text, Equals("type", "doc")) == ["near"]
    assert await ids(index, ctx, text, late) == ["near"]
    assert await ids(index, ctx, text, mine, Equals("type", "file")) == []


async def test_quotes_in_a_board_name_are_escaped(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    name = '"] or id != "" or board in ["\\'
    await write(index, ctx, item("1", board_id=name), item("2", board_id="b2"))
    assert await ids(index, ctx, "sign-in", Equals("board", name)) == ["1"]


async def test_writing_again_replaces_and_deleting_removes(
    index: Index, ctx: TenantContext, item: Make
) -> None:
    await write(index, ctx, item("1", "about zebras"), item("2", "about horses"))
    await write(index, ctx, item("1", "about trains"))
    hits = await index.rank(ctx, "zebras")
    assert len(hits) == 2
    assert all(hit.scores.keyword == 0 for hit in hits)
    await index.delete(ctx, "1", "nobody")
    assert await ids(index, ctx, "trains") == ["2"]


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


async def test_an_item_moved_away_meanwhile_is_shown_as_it_was(
    index: Index, ctx: TenantContext, item: Make, api: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(
        index, ctx, item("1", "sign-in", board_id="mine"), item("2", "sign-in", board_id="mine")
    )
    nearest = type(ctx.stores.vectors).nearest

    async def moved_after(self: Any, *args: Any, **options: Any) -> Any:
        found = await nearest(self, *args, **options)
        monkeypatch.undo()
        await write(index, ctx, item("1", "sign-in, now a secret", board_id="closed"))
        return found

    monkeypatch.setattr(type(ctx.stores.vectors), "nearest", moved_after)
    async with api(user="ana", role=Role.reader, boards=frozenset({"mine"})) as client:
        hits = (await client.get("/search", params={"q": "sign-in"})).json()["hits"]
    assert {(hit["board_id"], hit["snippet"]) for hit in hits} == {("mine", "sign-in")}


async def test_the_longest_text_is_found(index: Index, ctx: TenantContext, item: Make) -> None:
    await write(index, ctx, item("1", "路" * 20_000))
    assert await ids(index, ctx, "路") == ["1"]
