"""The HTTP side, without the router (which has tests of its own)."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from shoal import Role, TenantContext, Unavailable
from shoal_search.stream import index_events

pytestmark = pytest.mark.anyio
Make = Callable[..., dict[str, Any]]
Opener = Callable[..., httpx.AsyncClient]


async def test_items_added_are_found_at_once(api: Opener, item: Make) -> None:
    async with api() as client:
        answer = await client.post(
            "/search/items",
            json=[
                item("1", title="Login", url="https://example.com/1"),
                item("2", "A poem about autumn"),
            ],
        )
        assert (answer.status_code, answer.json()) == (
            200,
            {"accepted": 2, "rejected": [], "indexed": 2},
        )
        body = (await client.get("/search", params={"q": "slow login"})).json()
    first = body["hits"][0]
    assert first["id"] == "1"
    assert set(first) == {
        "id",
        "board_id",
        "type",
        "title",
        "snippet",
        "highlights",
        "updated_at",
        "url",
        "metadata",
        "score",
        "scores",
    }
    assert first["snippet"] == "The sign-in form takes ten seconds."
    assert first["updated_at"] == "2026-11-20T10:00:00Z"
    parts = first["scores"]
    assert first["score"] == pytest.approx(
        0.7 * parts["semantic"] + 0.2 * parts["keyword"] + 0.1 * parts["recency"], abs=1e-5
    )
    assert body["total"] == 2
    assert body["took_ms"] > 0


async def test_good_rows_are_taken_and_bad_ones_told(api: Opener, item: Make) -> None:
    lines = [json.dumps(item("1")), "{", json.dumps(item("2", text="")), json.dumps(item("3"))]
    async with api() as client:
        answer = await client.post(
            "/search/items",
            content="\n".join(lines),
            headers={"content-type": "application/x-ndjson"},
        )
        body = answer.json()
        assert body["accepted"] == 2
        assert [fault["index"] for fault in body["rejected"]] == [1, 2]
        assert (await client.get("/search", params={"q": "sign-in"})).json()["total"] == 2


async def test_what_came_in_is_in_the_event_log(
    api: Opener, ctx: TenantContext, item: Make
) -> None:
    async with api() as client:
        await client.post("/search/items", json=[item("1")])
        await client.delete("/search/items/1")
    events = [event async for _, event in ctx.stores.events.read()]
    assert [(event.type, event.subject) for event in events] == [
        ("item.updated", "1"),
        ("item.deleted", "1"),
    ]
    assert events[0].data["text"] == item()["text"]


async def test_the_latest_time_and_the_deepest_metadata_are_answered(
    api: Opener, item: Make
) -> None:
    metadata: dict[str, Any] = {}
    for _ in range(31):
        metadata = {"a": metadata}
    latest = item("1", updated_at="9999-12-30T23:59:59.999999Z", metadata=metadata)
    async with api() as client:
        assert (await client.post("/search/items", json=[latest])).json()["accepted"] == 1
        (hit,) = (await client.get("/search", params={"q": "sign-in"})).json()["hits"]
    assert hit["updated_at"] == "9999-12-31T00:00:00Z"
    assert hit["metadata"] == metadata


async def test_an_item_is_read_as_it_was_sent(api: Opener, item: Make) -> None:
    sent = item(
        "1",
        title="Title",
        url="https://example.com/1",
        updated_at="2026-11-20T10:00:00.123457Z",
        metadata={"empty": {}, "none": None, "large": 2**64 - 1, "small": -(2**63)},
    )
    async with api() as client:
        await client.post("/search/items", json=[sent, item("2", metadata={}), item("3")])
        assert (await client.get("/search/items/1")).json() == sent
        assert (await client.get("/search/items/2")).json()["metadata"] == {}
        assert (await client.get("/search/items/3")).json()["metadata"] is None
        assert (await client.get("/search/items/4")).status_code == 404
    async with api(user="ana", boards=frozenset({"b2"})) as client:
        assert (await client.get("/search/items/1")).status_code == 404


async def test_an_integer_beyond_64_bits_rejects_its_row(api: Opener, item: Make) -> None:
    rows = [item("1"), item("2", metadata={"size": [2**64]})]
    async with api() as client:
        body = (await client.post("/search/items", json=rows)).json()
    assert body["accepted"] == 1
    assert body["rejected"][0]["error"].startswith("metadata.size.0: is an integer beyond 64 bits")


async def test_an_older_item_is_rejected_with_the_time_of_the_newer(
    api: Opener, item: Make
) -> None:
    async with api() as client:
        await client.post("/search/items", json=[item("1", "new"), item("2", "gone")])
        await client.delete("/search/items/2")
        older = "2026-11-19T10:00:00Z"
        rows = [item("1", "old", updated_at=older), item("2", "old", updated_at=older), item("3")]
        body = (await client.post("/search/items", json=rows)).json()
        assert (body["accepted"], body["indexed"]) == (1, 1)
        of_item, of_deletion = (fault["error"] for fault in body["rejected"])
        assert of_item == (
            "updated_at: the item's current state is of 2026-11-20T10:00:00Z, which is later"
        )
        assert of_deletion.startswith("updated_at: the item was deleted at ")
        assert (await client.get("/search/items/1")).json()["text"] == "new"
        assert (await client.get("/search/items/2")).status_code == 404


async def test_an_item_of_the_future_is_deleted_and_can_return(api: Opener, item: Make) -> None:
    ahead, later = "2999-01-01T00:00:00Z", "2999-01-02T00:00:00Z"
    async with api() as client:
        await client.post("/search/items", json=[item("1", updated_at=ahead)])
        assert (await client.delete("/search/items/1")).status_code == 200
        assert (await client.get("/search/items/1")).status_code == 404
        await client.post("/search/items", json=[item("1", updated_at=later)])
        assert (await client.get("/search/items/1")).status_code == 200


async def test_what_is_known_is_neither_logged_nor_embedded(
    api: Opener, ctx: Any, item: Make
) -> None:
    rows = [item("1", "one"), item("2", "two"), item("3", "two")]
    async with api() as client:
        await client.post("/search/items", json=rows)
        assert sorted(set(ctx.services.embedded) - {"."}) == ["one", "two"]
        ctx.services.embedded.clear()
        again = (await client.post("/search/items", json=rows)).json()
        assert again == {"accepted": 3, "rejected": [], "indexed": 3}
        assert await ctx.stores.events.length() == 3
        moved = item("1", "one", board_id="b2", updated_at="2026-11-21T10:00:00Z")
        await client.post("/search/items", json=[moved])
        assert (await client.get("/search/items/1")).json()["board_id"] == "b2"
    assert ctx.services.embedded == []


async def never_ready() -> None:
    await asyncio.sleep(60)


async def away() -> None:
    raise Unavailable("the embedder is unavailable")


@pytest.mark.parametrize("trouble", [never_ready, away])
async def test_what_was_not_indexed_in_time_is_logged_and_counted(
    api: Opener, ctx: Any, item: Make, trouble: Any
) -> None:
    ctx.services.trouble = trouble
    async with api(seconds=1) as client:
        body = (await client.post("/search/items", json=[item("1"), item("2")])).json()
    assert body == {"accepted": 2, "rejected": [], "indexed": 0}
    assert await ctx.stores.events.length() == 2
    ctx.services.trouble = None
    logged = [event.at("1-0") async for _, event in ctx.stores.events.read()]
    await index_events(ctx, logged)
    async with api() as client:
        assert (await client.get("/search/items/2")).status_code == 200


async def test_a_deletion_that_could_not_be_logged_can_be_repeated(
    api: Opener, ctx: TenantContext, item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api() as client:
        await client.post("/search/items", json=[item("1")])
        with monkeypatch.context() as away:

            async def append(self: Any, events: Any) -> None:
                raise Unavailable("Redis is unavailable")

            away.setattr(type(ctx.stores.events), "append", append)
            assert (await client.delete("/search/items/1")).status_code == 503
        assert (await client.delete("/search/items/1")).status_code == 200
        assert (await client.get("/search", params={"q": "sign-in"})).json()["hits"] == []
    assert [event.type async for _, event in ctx.stores.events.read()] == [
        "item.updated",
        "item.deleted",
    ]


async def test_a_user_finds_only_what_is_on_their_boards(api: Opener, item: Make) -> None:
    async with api() as client:
        await client.post(
            "/search/items", json=[item("1", board_id="b1"), item("2", board_id="b2")]
        )
    async with api(user="ana", role=Role.reader, boards=frozenset({"b2", "b3"})) as client:
        assert [
            hit["id"]
            for hit in (await client.get("/search", params={"q": "sign-in"})).json()["hits"]
        ] == ["2"]
        hidden = await client.get("/search", params={"q": "sign-in", "board": "b1"})
        absent = await client.get("/search", params={"q": "sign-in", "board": "b9"})
        assert hidden.status_code == absent.status_code == 404
        assert hidden.json()["detail"].replace("b1", "b9") == absent.json()["detail"]
    async with api(user="bo", role=Role.reader, boards=frozenset()) as client:
        assert (await client.get("/search", params={"q": "sign-in"})).json()["hits"] == []


async def test_a_user_changes_only_what_is_on_their_boards(api: Opener, item: Make) -> None:
    async with api() as client:
        await client.post(
            "/search/items", json=[item("1", board_id="b1"), item("2", board_id="b2")]
        )
    async with api(user="ana", boards=frozenset({"b2"})) as client:
        rows = [
            item("3", board_id="b1"),
            item("1", board_id="b2"),
            item("2", board_id="b2"),
            item("4", board_id="b2"),
        ]
        body = (await client.post("/search/items", json=rows)).json()
        assert body["accepted"] == 2
        assert [fault["index"] for fault in body["rejected"]] == [0, 1]
        assert (await client.delete("/search/items/1")).status_code == 404
        assert (await client.delete("/search/items/2")).status_code == 200


async def test_an_unknown_board_is_said_to_be(api: Opener, item: Make) -> None:
    async with api() as client:
        await client.post("/search/items", json=[item("1", board_id="b1", type="doc")])
        assert (
            await client.get("/search", params={"q": "x", "board": "nowhere"})
        ).status_code == 404
        assert (
            await client.get("/search", params={"q": "x", "board": "b1", "type": "file"})
        ).json()["hits"] == []


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"q": ""},
        {"q": "  "},
        {"q": "a\0b"},
        {"q": "x" * 5000},
        {"q": "x", "limit": "0"},
        {"q": "x", "limit": "1000"},
        {"q": "x", "limit": "nan"},
        {"q": "x", "type": "board"},
        {"q": "x", "board": "a\nb"},
        {"q": "x", "updated_after": "yesterday"},
        {"q": "x", "updated_after": "1700000000"},
        {"q": "x", "updated_after": "2026-11-23T10:00:00"},
    ],
)
async def test_a_bad_query_is_refused(api: Opener, params: dict[str, str]) -> None:
    async with api() as client:
        assert (await client.get("/search", params=params)).status_code == 422


@pytest.mark.parametrize(
    "q", ["'; drop", '"', "{id}", "%", "*", "😀", "a" * 4000, "\u202e", "＜script＞", "\\"]
)
async def test_a_strange_query_is_only_a_query(api: Opener, item: Make, q: str) -> None:
    async with api() as client:
        await client.post("/search/items", json=[item("1")])
        assert (await client.get("/search", params={"q": q})).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"", 400), (b"[]", 200), (b"7", 200), (b"null", 200)]
)
async def test_a_body_that_is_no_items_is_refused(api: Opener, body: bytes, status: int) -> None:
    async with api() as client:
        answer = await client.post("/search/items", content=body)
        assert answer.status_code == status
        assert answer.json().get("accepted", 0) == 0


async def test_embed_gives_vectors_in_the_order_of_the_texts(api: Opener) -> None:
    async with api(role=Role.reader) as client:
        texts = ["python programming", "knitting", "software development"]
        body = (await client.post("/search/embed", json={"texts": texts})).json()
        a, b, c = body["vectors"]
        assert body["dimension"] == len(a) == 384
        dot = lambda x, y: sum(p * q for p, q in zip(x, y, strict=True))  # noqa: E731
        assert dot(a, a) == pytest.approx(1, abs=1e-4)
        assert dot(a, c) > dot(a, b)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"texts": []},
        {"texts": [""]},
        {"texts": [7]},
        {"texts": ["x"] * 1001},
        {"texts": ["x"], "kind": "poem"},
    ],
)
async def test_embed_refuses_what_is_no_texts(api: Opener, body: dict[str, Any]) -> None:
    async with api() as client:
        assert (await client.post("/search/embed", json=body)).status_code == 422
