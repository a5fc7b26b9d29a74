"""What is found over HTTP, without the router."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from shoal import Role
from shoal_search.pages import Position, read_position, write_position

pytestmark = pytest.mark.anyio
Make = Callable[..., dict[str, Any]]
Opener = Callable[..., httpx.AsyncClient]
FIRST = datetime(2022, 1, 3, 9, tzinfo=UTC)


async def add(client: httpx.AsyncClient, *rows: dict[str, Any]) -> None:
    answer = await client.post("/search/items", json=list(rows))
    assert answer.json() == {"accepted": len(rows), "rejected": [], "indexed": len(rows)}


async def ids(client: httpx.AsyncClient, q: str, **params: Any) -> list[str]:
    answer = await client.get("/search", params={"q": q, **params})
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


async def every_page(client: httpx.AsyncClient, q: str, **params: Any) -> list[list[str]]:
    pages, cursor = [], None
    while True:
        more = {"cursor": cursor} if cursor else {}
        answer = await client.get("/search", params={"q": q, **params, **more})
        assert answer.status_code == 200, answer.text
        pages.append([hit["id"] for hit in answer.json()["hits"]])
        cursor = answer.json()["cursor"]
        if cursor is None:
            return pages


def weekly(item: Make, count: int, text: str = "Weekly status meeting") -> list[dict[str, Any]]:
    """Items with one text, a week apart, the oldest first; ids in another order."""
    return [
        item(
            f"{(i * 37) % count:03}",
            text,
            updated_at=(FIRST + timedelta(weeks=i)).isoformat(),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("q", ["Weekly status meeting", "our sync every seven days"])
async def test_equal_texts_are_found_newest_first_for_every_limit(
    api: Opener, item: Make, q: str
) -> None:
    rows = weekly(item, 200)
    newest_first = [row["id"] for row in reversed(rows)]
    async with api() as client:
        await add(client, *rows, item("x", "A poem about the autumn."))
        for limit in (1, 5, 20, 100):
            assert await ids(client, q, limit=limit) == newest_first[:limit]


async def test_hits_are_the_same_for_every_limit_and_page(api: Opener, item: Make) -> None:
    rows = [
        item(f"{i}", f"Plan {i % 9} for the {'budget' if i % 3 else 'release'} of team {i % 4}")
        for i in range(90)
    ]
    async with api() as client:
        await add(client, *rows)
        everything = [
            id for page in await every_page(client, "release plan", limit=200) for id in page
        ]
        assert sorted(everything) == sorted(row["id"] for row in rows)
        for limit in (1, 7, 40):
            assert await ids(client, "release plan", limit=limit) == everything[:limit]
        pages = await every_page(client, "release plan", limit=7)
        assert [id for page in pages for id in page] == everything


async def test_pages_neither_repeat_nor_skip_while_items_change(api: Opener, item: Make) -> None:
    """Items come, change and go between the pages; those that stay are on one page."""
    rows = [item(f"{i:03}", f"Plan {i % 9} for team {i % 4}") for i in range(260)]
    async with api() as client:
        await add(client, *rows)
        seen, cursor, page = [], None, 0
        while True:
            more = {"cursor": cursor} if cursor else {}
            answer = await client.get(
                "/search", params={"q": "plan for a team", "limit": 50, **more}
            )
            seen += [hit["id"] for hit in answer.json()["hits"]]
            cursor = answer.json()["cursor"]
            if cursor is None:
                break
            page += 1
            later = f"2026-11-2{page % 9}T12:00:00Z"
            await client.delete(f"/search/items/{page:03}")
            await client.post(
                "/search/items",
                json=[
                    item(f"new{page}", "A plan for a team", updated_at=later),
                    item(f"{100 + page:03}", "The plan for the best team", updated_at=later),
                    item(f"{200 + page:03}", "Something else, now", updated_at=later),
                ],
            )
    assert len(seen) == len(set(seen))
    stayed = {row["id"] for row in rows} - {f"{i:03}" for i in range(1, page + 1)}
    assert stayed <= set(seen)


async def test_a_cursor_of_another_search_is_refused(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(client, item("1"), item("2"))
        first = (await client.get("/search", params={"q": "sign-in", "limit": 1})).json()
        for changed in (
            {"q": "form"},
            {"type": "doc"},
            {"filter": "metadata.a=1"},
            {"cursor": "x"},
        ):
            params = {"q": "sign-in", "limit": 1, "cursor": first["cursor"], **changed}
            answer = await client.get("/search", params=params)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["location"] == "query.cursor"


async def test_sorted_by_time_the_items_with_every_word_come_newest_first(
    api: Opener, item: Make
) -> None:
    rows = weekly(item, 30, "Release notes")
    async with api() as client:
        await add(client, *rows, item("x", "Release the balloons"))
        params: dict[str, Any] = {"q": "release notes", "sort": "updated_at", "limit": 7}
        pages = await every_page(client, **params)
        assert [id for page in pages for id in page] == [row["id"] for row in reversed(rows)]
        body = (await client.get("/search", params=params)).json()
        assert (body["total"], body["hits"][0]["score"]) == (30, None)


MAIL = " ".join(
    [
        "Hello, since the last release our customers say that the dashboard is slow and that",
        "the invoices of October are missing. We started the server anew, checked the budget",
        "with finance and asked the supplier, who changed nothing. Please look at",
        "{}",
        "when you can: sales promised it for the fair, and the auditor asked twice. Thanks!",
    ]
)


@pytest.mark.parametrize("pattern", ["{}", "why does {} happen after the upgrade", MAIL])
@pytest.mark.parametrize("code", ["ERR-4032", "ERR4032", "err 4032"])
async def test_a_code_in_any_text_finds_its_item(
    api: Opener, item: Make, pattern: str, code: str
) -> None:
    about = ["the dashboard is slow", "the invoices are missing", "the supplier changed it"]
    rows = [
        item(f"{i}", f"ERR-{4000 + i}: {about[i % 3]} after the upgrade, {i} times")
        for i in range(60)
    ]
    async with api() as client:
        await add(client, *rows, item("m", "Customers say that the dashboard is slow"))
        assert (await ids(client, pattern.format(code)))[0] == "32"


async def test_a_word_that_one_item_has_finds_it(api: Opener, item: Make) -> None:
    rows = [item(f"{i}", f"Customer {i} asks about the invoice") for i in range(40)]
    async with api() as client:
        await add(
            client, *rows, item("x", "Zyxthal is on holiday", updated_at="2001-01-01T00:00:00Z")
        )
        assert "x" in (await ids(client, "which customer asks about the Zyxthal invoice"))[:2]


@pytest.mark.parametrize(
    ("q", "found", "kind"),
    [
        ("duoble charge", "1", "typo"),
        ("dooble chrge", "1", "typo"),
        ("quarterly budgt", "2", "typo"),
        ("quarterly bud", "2", "beginning"),
        ("custo", "1", "beginning"),
    ],
)
async def test_mistyped_and_begun_words_are_found(
    api: Opener, item: Make, q: str, found: str, kind: str
) -> None:
    async with api() as client:
        await add(
            client,
            item("1", "Two customers were billed twice", title="Double charge"),
            item("2", "The quarterly budget of the team"),
            *(item(f"x{i}", f"Notes of week {i}") for i in range(20)),
        )
        body = (await client.get("/search", params={"q": q})).json()
    assert body["hits"][0]["id"] == found
    assert {correction["kind"] for correction in body["corrections"]} == {kind}
    for correction in body["corrections"]:
        assert correction["typed"] in q


async def test_a_word_like_others_of_newer_items_is_corrected(api: Opener, item: Make) -> None:
    newer = [
        item(f"x{i}", f"Facet filler {i}", updated_at="2026-11-21T10:00:00Z") for i in range(60)
    ]
    async with api() as client:
        await add(client, item("1", "The whole family", title="Attachment"), *newer)
        for q in ("famiy", "famill", "faxily", "atachmentt", "attahcmemt"):
            for sort in ("relevance", "updated_at"):
                answer = await client.get("/search", params={"q": q, "sort": sort})
                assert answer.json()["hits"][0]["id"] == "1", (q, sort)
                assert [c["typed"] for c in answer.json()["corrections"]] == [q]


async def test_ideographs_in_another_order_are_another_word(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(
            client,
            item("1", "会社の社会科見学。", title="会社"),
            item("2", "社会の問題。", title="社会", updated_at="2026-11-21T10:00:00Z"),
        )
        for q, first in (("会社", "1"), ("社会", "2")):
            assert (await ids(client, q))[0] == first
        assert await ids(client, "会社", sort="updated_at") == ["1"]
        found = (await client.get("/search", params={"q": "会社"})).json()["hits"]
        assert {hit["id"]: hit["highlights"]["title"] for hit in found} == {"1": [[0, 2]], "2": []}


async def test_pasted_hyphens_exclude_nothing(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(
            client,
            item("1", "tar -xzf fails on archive"),
            item("2", "An archive of tar"),
            item("3", "tar xzf fails"),
        )
        assert set(await ids(client, "Tar  -xzf fails")) == {"1", "2", "3"}
        assert await ids(client, "archive -xzf") == ["2"]
        assert await ids(client, "tar -fails") == ["2"]


async def test_a_snippet_shows_the_words_that_were_typed(api: Opener, item: Make) -> None:
    text = " ".join(f"Chapter {n} discusses the red upload of a report." for n in range(300))
    async with api() as client:
        await add(client, item("1", text), item("2", "A poem"))
        for q in ("147", "Chapter 212"):
            (hit,) = (await client.get("/search", params={"q": q, "limit": 1})).json()["hits"]
            assert q.split()[-1] in hit["snippet"]


async def test_corrections_use_only_words_that_the_asker_may_see(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(client, item("1", "layoffs", board_id="closed"), item("2", "budget"))
    async with api(user="ana", role=Role.reader, boards=frozenset({"b1"})) as client:
        for q in ("layofs", "layo"):
            body = (await client.get("/search", params={"q": q})).json()
            assert body["corrections"] == []
            suggested = (await client.get("/search/suggest", params={"q": q})).json()
            assert suggested["queries"] == suggested["items"] == []


async def test_pasted_ids_and_addresses_find_their_item(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(
            client,
            item("7f3a-99", "A poem", url="https://x.example/b/7/items/99"),
            item("2", "item 7f3a is discussed here: https x example b 7 items 99"),
            item("3", "https://x.example/b/7/items/98", url="https://x.example/b/7/items/98"),
        )
        for q in (
            "7f3a-99",
            "what is 7f3a-99?",
            "https://x.example/b/7/items/99",
            "look at https://x.example/b/7/items/99, please",
            "https://other.example/#/7f3a-99",
        ):
            assert (await ids(client, q))[0] == "7f3a-99", q


async def test_phrases_and_exclusions_restrict_what_is_found(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(
            client,
            item("1", "The exact phrase is here, Café"),
            item("2", "The phrase is exact here"),
            item("3", "Here is an EXACT PHRASE about refunds"),
        )
        assert set(await ids(client, '"exact phrase"')) == {"1", "3"}
        assert await ids(client, '"exact phrase" -refund') == ["1"]
        assert await ids(client, 'here -"exact phrase"') == ["2"]
        assert await ids(client, '"cafe"') == ["1"]
        assert await ids(client, '"phrase exact"') == []
        answer = (
            await client.get("/search", params={"q": "here -refunds", "facets": "board"})
        ).json()
        assert (answer["total"], answer["facets"]) == (2, {"board": [{"value": "b1", "count": 2}]})


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["metadata.status=done"], "12"),
        (["metadata.status!=done"], "345"),
        (['metadata.status=["open","done"]'], "123"),
        (["metadata.size>=3"], "23"),
        (["metadata.size>3"], "3"),
        (["metadata.size<3", "metadata.status=done"], "1"),
        (["metadata.size=3"], "24"),
        (['metadata.size="3"'], "4"),
        (["metadata.tags=a"], "13"),
        (["metadata.owner.name=Ana"], "3"),
        (["metadata.urgent=true"], "3"),
        (["metadata.status=null"], "45"),
        (["metadata.due>=2026-01-01", "metadata.due<2027-01-01"], "5"),
    ],
)
async def test_filters_on_metadata(api: Opener, item: Make, filters: list[str], found: str) -> None:
    metadata: list[dict[str, Any] | None] = [
        {"status": "done", "size": 1, "tags": ["a", "b"]},
        {"status": "done", "size": 3, "tags": ["b"]},
        {"status": "open", "size": 5.5, "tags": ["a"], "owner": {"name": "Ana"}, "urgent": True},
        {"size": "3"},
        {"due": "2026-03-01"},
    ]
    async with api() as client:
        await add(client, *(item(f"{i}", metadata=m) for i, m in enumerate(metadata, 1)))
        answer = (await client.get("/search", params={"q": "sign-in", "filter": filters})).json()
    assert {hit["id"] for hit in answer["hits"]} == set(found)
    assert answer["total"] == len(found)


@pytest.mark.parametrize("key", ["sp ace", "a=b", "a,b", "<", 'say "hi"', "it's", "ü\\"])
async def test_keys_in_quotes_may_have_any_character(api: Opener, item: Make, key: str) -> None:
    name = f"metadata.{json.dumps(key)}"
    async with api() as client:
        await add(client, item("1", metadata={key: "R AND D"}), item("2", metadata={key: 2}))
        params = {"q": "x", "filter": f'{name}="R AND D"', "facets": f"type, {name}"}
        body = (await client.get("/search", params=params)).json()
        assert [hit["id"] for hit in body["hits"]] == ["1"]
        assert body["facets"][name] == [{"value": "R AND D", "count": 1}]
        assert await ids(client, "x", filter=f"{name}>1") == ["2"]


@pytest.mark.parametrize(
    "params",
    [
        {"filter": "status=done"},
        {"filter": "metadata.status"},
        {"filter": "metadata.size>=[1]"},
        {"filter": "metadata.size==1"},
        {"filter": "metadata.size=>1"},
        {"filter": "metadata.size<>1"},
        {"filter": "metadata.size=~1"},
        {"filter": "metadata.size>5 AND metadata.size<8"},
        {"filter": "metadata.size=5 OR 6"},
        {"filter": "metadata.size>5 and metadata.size<8"},
        {"filter": "metadata.size>5&&metadata.size<8"},
        {"filter": "metadata.status=[open,done]"},
        {"filter": 'metadata.status="open'},
        {"filter": 'metadata.status={"a":1}'},
        {"filter": "metadata.sp ace=1"},
        {"filter": 'metadata."sp \\ace"=1'},
        {"facets": 'metadata."sp \\ace"'},
        {"facets": 'metadata."sp'},
        {"filter": "metadata.size=[[1]]"},
        {"filter": "metadata.size=[]"},
        {"filter": "metadata.size=18446744073709551616"},
        {"filter": "metadata=1"},
        {"facets": "title"},
        {"facets": "metadata"},
        {"facets": ",".join(f"metadata.f{i}" for i in range(11))},
        {"sort": "title"},
        {"cursor": "nonsense"},
        {"explain": "perhaps"},
    ],
)
async def test_a_parameter_that_cannot_be_read_is_refused(
    api: Opener, item: Make, params: dict[str, str]
) -> None:
    async with api() as client:
        await add(client, item())
        assert (await client.get("/search", params={"q": "x", **params})).status_code == 422


async def test_facets_count_what_passes_the_filters(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(
            client,
            item("1", metadata={"status": "done"}),
            item("2", board_id="b2", type="doc", metadata={"status": "done"}),
            item(
                "3", board_id="b2", updated_at="2026-10-01T00:00:00Z", metadata={"status": "open"}
            ),
            item("4", board_id="closed", metadata={"status": "secret"}),
        )
    async with api(user="ana", role=Role.reader, boards=frozenset({"b1", "b2"})) as client:
        params = {"q": "sign-in", "limit": 1, "facets": "board,type,month,metadata.status"}
        facets = (await client.get("/search", params=params)).json()["facets"]
    assert {
        name: [(v["value"], v["count"]) for v in values] for name, values in facets.items()
    } == {
        "board": [("b2", 2), ("b1", 1)],
        "type": [("item", 2), ("doc", 1)],
        "month": [("2026-11", 2), ("2026-10", 1)],
        "metadata.status": [("done", 2), ("open", 1)],
    }


async def test_highlights_are_ranges_of_the_title_and_snippet(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(client, item("1", "<b>Résumés</b> 😀 of résumé writers", title="One résumé"))
        (hit,) = (await client.get("/search", params={"q": "resume"})).json()["hits"]
    marks = hit["highlights"]
    assert [hit["title"][a:b] for a, b in marks["title"]] == ["résumé"]
    assert [hit["snippet"][a:b] for a, b in marks["snippet"]] == ["Résumés", "résumé"]


async def test_an_explanation_says_why(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(client, item("1", "The sign-in form of ERR-4032"), item("2", "Another form"))
        hits = (await client.get("/search", params={"q": "form err4032", "explain": True})).json()
    why = hits["hits"][0]["explanation"]
    assert why["words"] == ["4032", "err", "err4032", "form"]
    assert why["passage"] == [0, len("The sign-in form of ERR-4032")]
    assert why["weights"] == {"semantic": 0.7, "keyword": 0.2, "recency": 0.1}
    for hit in hits["hits"]:
        parts = sum(hit["scores"][part] * why["weights"][part] for part in why["weights"])
        assert hit["score"] == pytest.approx(parts + hit["explanation"]["lift"], abs=1e-5)


async def test_similar_items_are_those_nearest_by_meaning(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(
            client,
            item("1", "The automobile needs new tyres"),
            item("2", "Repair the car", board_id="b2"),
            item("3", "A poem about autumn"),
            item("4", "Repair the car", board_id="closed"),
        )
        hits = (await client.get("/search/similar/1")).json()["hits"]
        assert [hit["id"] for hit in hits][-1] == "3"
        assert {hit["id"] for hit in hits} == {"2", "3", "4"}
    async with api(user="ana", role=Role.reader, boards=frozenset({"b1", "b2"})) as client:
        hits = (await client.get("/search/similar/1", params={"limit": 5})).json()["hits"]
        assert [hit["id"] for hit in hits] == ["2", "3"]
        hidden = await client.get("/search/similar/4")
        absent = await client.get("/search/similar/9")
        assert hidden.status_code == absent.status_code == 404
        assert hidden.json()["detail"].replace("4", "9") == absent.json()["detail"]


async def test_titles_and_words_are_suggested_while_typing(api: Opener, item: Make) -> None:
    async with api() as client:
        await add(
            client,
            item("1", "x", title="Double charge at the checkout"),
            item("2", "The checker is broken", title="Chart of the double gates"),
            item("3", "x", title="Notes"),
        )

        async def suggested(q: str) -> tuple[list[str], list[str]]:
            body = (await client.get("/search/suggest", params={"q": q})).json()
            return body["queries"], [one["id"] for one in body["items"]]

        assert await suggested("double cha") == (["double charge", "double chart"], ["1", "2"])
        assert await suggested("chec") == (["checker", "checkout"], ["1"])
        assert await suggested("double ") == ([], ["1", "2"])
        assert await suggested("zzz") == ([], [])
        assert await suggested("n") == ([], [])
        body = (await client.get("/search/suggest", params={"q": "double cha"})).json()
        assert [body["items"][0]["title"][a:b] for a, b in body["items"][0]["highlights"]] == [
            "Double",
            "cha",
        ]


@pytest.mark.parametrize(
    ("title", "typed", "marked"),
    [
        ("Error ERR-4032 in gateway", "ERR-40", ["ERR", "40"]),
        ("Error ERR-4032 in gateway", "Error ERR-4", ["Error", "ERR", "4"]),
        ("Error ERR-4032 in gateway", "err40", ["ERR", "40"]),
        ("Error ERR-4032 in gateway", "err-4032 gat", ["ERR-4032", "gat"]),
        ("Rock'n'roll O'Reilly", "o'reilly", ["O", "Reilly"]),
        ("Rock'n'roll O'Reilly", "O'Re", ["O", "Re"]),
        ("Rock'n'roll O'Reilly", "rock'n'ro", ["Rock", "n", "ro"]),
        ("PROJ_77b moved", "proj_7", ["PROJ", "7"]),
        ("京都", "京都", ["京都"]),
        ("京都の社会", "社", ["社"]),
        ("北京欢迎你", "北京", ["北京"]),
        ("東京タワー", "東京タ", ["東京", "タ"]),
        ("서울시청 앞", "서울시", ["서울시청"]),
        ("한국어를 배웁니다", "한국어", ["한국어를"]),
        ("Straße", "stras", ["Straß"]),
    ],
)
async def test_titles_are_suggested_by_any_beginning(
    api: Opener, item: Make, title: str, typed: str, marked: list[str]
) -> None:
    async with api() as client:
        await add(client, item("1", "x", title=title), item("2", "x", title="Others"))
        body = (await client.get("/search/suggest", params={"q": typed})).json()
        assert [one["id"] for one in body["items"]] == ["1"]
        (found,) = body["items"]
        assert [title[a:b] for a, b in found["highlights"]] == marked


@pytest.mark.parametrize("title", ["Long manual", "It is what it is", "会社", "Tar -xzf fails"])
async def test_an_item_whose_whole_title_is_typed_comes_first(
    api: Opener, item: Make, title: str
) -> None:
    rows = [item(str(i), title, title=f"Very {title}") for i in range(3)]
    async with api() as client:
        await add(client, *rows, item("9", "Lamps and cables.", title=title))
        for typed in (title, title.lower()):
            assert (await ids(client, typed))[0] == "9"


async def test_a_tenant_without_items_finds_nothing(api: Opener) -> None:
    async with api() as client:
        body = (await client.get("/search", params={"q": "x", "facets": "type"})).json()
        assert (body["hits"], body["total"], body["cursor"]) == ([], 0, None)
        assert body["facets"] == {"type": []}
        assert (await client.get("/search/suggest", params={"q": "xy"})).json()["queries"] == []
        assert (await client.get("/search/similar/1")).status_code == 404


def test_the_longest_cursor_can_be_read() -> None:
    seen = frozenset(i.to_bytes(6, "big") for i in range(200))
    position = Position(1_795_392_000_000, seen, "😀" * 512)
    assert read_position(write_position(position, "q"), "q", 0) == position
