"""A tenant's vector store, on a real Milvus Lite server."""

import asyncio
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from milvus_lite.search.filter import parse_expr

from shoal import Conflict, Hit, Invalid, NotFound, Unavailable, VectorSchema
from shoal.contract.names import TENANT
from shoal.stores.configuration import StoreConfig
from shoal.stores.vector_collections import NAME, collection_name, name_prefix
from shoal.stores.vector_filters import fill_placeholders, literal
from shoal.tenants.tenant_stores import TenantStores, open_stores

pytestmark = pytest.mark.anyio

SCHEMA = VectorSchema(
    4, {"board": "string", "at": "integer", "weight": "float", "open": "boolean"}, text=True
)


def row(key: str, *vector: float, **fields: object) -> dict[str, object]:
    return {
        "id": key,
        "vector": vector,
        "board": "b1",
        "at": 1,
        "weight": 0.5,
        "open": True,
        "text": key,
        **fields,
    }


ROWS = [
    row("a", 1, 0, 0, 0, board="b1", at=10, text="red apple"),
    row("b", 0.8, 0.6, 0, 0, board="b2", at=20, text="green apple apple"),
    row("c", 0, 1, 0, 0, board="b2", at=30, open=False, text="blue sky"),
    row("d", -1, 0, 0, 0, board='b"3', at=-40, text="deep sea"),
]


@pytest.fixture
async def filled(stores: TenantStores) -> TenantStores:
    await stores.vectors.ensure("items", SCHEMA)
    await stores.vectors.upsert("items", ROWS)
    return stores


async def test_a_collection_is_searched_by_vector_words_and_filter(
    filled: TenantStores, tenant: str
):
    vectors = filled.vectors
    hits = await vectors.nearest("items", [1, 0, 0, 0], limit=2, fields=["board", "at"])
    assert [(h.id, round(h.score, 5)) for h in hits] == [("a", 1.0), ("b", 0.8)]
    assert hits[0].fields == {"board": "b1", "at": 10}
    assert (await vectors.nearest("items", [1, 0, 0, 0], limit=9))[-1].score == pytest.approx(-1)
    words = await vectors.matching("items", "apple", limit=5)
    assert [h.id for h in words] == ["b", "a"]
    assert words[0].score > words[1].score > 0
    assert (
        await vectors.matching("items", "absent", limit=5)
        == await vectors.matching("items", "  ", limit=5)
        == []
    )
    within = await vectors.nearest(
        "items", [1, 0, 0, 0], limit=9, filter="board in {boards}", values={"boards": ["b2"]}
    )
    assert [h.id for h in within] == ["b", "c"]
    assert [
        h.id
        for h in await vectors.matching(
            "items", "apple", limit=9, filter="at > {n}", values={"n": 15}
        )
    ] == ["b"]
    for expression, values, expected in [
        ("board == {b}", {"b": 'b"3'}, ["d"]),
        ("at == {n}", {"n": -40}, ["d"]),
        ("open == {o} and weight <= {w}", {"o": False, "w": 0.5}, ["c"]),
        ("board in {b}", {"b": []}, []),
        ("at in {n}", {"n": [-40, 10]}, ["a", "d"]),
        ("", {}, ["a", "b", "c", "d"]),
    ]:
        hits = await vectors.nearest(
            "items", [0, 0, 0, 1], limit=9, filter=expression, values=values
        )
        assert sorted(h.id for h in hits) == expected
        assert await vectors.count("items", filter=expression, values=values) == len(expected)


async def test_rows_are_read_replaced_and_deleted(filled: TenantStores):
    vectors = filled.vectors
    got = await vectors.get("items", ["c", "zz", "a", "a"], ["at", "text"])
    assert got == [
        {"id": "c", "at": 30, "text": "blue sky"},
        {"id": "a", "at": 10, "text": "red apple"},
        {"id": "a", "at": 10, "text": "red apple"},
    ]
    assert (
        await vectors.upsert("items", [row("c", 0, 0, 1, 0, at=1), row("c", 0, 0, 1, 0, at=2)]) == 1
    )
    assert (await vectors.get("items", ["c"], ["at"]))[0]["at"] == 2
    assert await vectors.delete("items", ["a", "a", "zz"]) == 1
    assert await vectors.delete("items", ["a"]) == 0
    assert await vectors.count("items") == 3
    assert await vectors.get("items", []) == []
    await vectors.flush("items")
    assert [h.id for h in await vectors.nearest("items", [0, 0, 1, 0], limit=1)] == ["c"]


HOSTILE = [
    'x" or id != "',
    "it's",
    "back\\slash",
    "new\nline",
    "tab\tnul\x00",
    '"',
    "\\",
    "{b}",
    "%00",
    "' or 1==1 --",
    "日本",
]


async def test_no_value_escapes_its_literal(stores: TenantStores):
    vectors = stores.vectors
    await vectors.ensure("items", VectorSchema(2, {"board": "string"}))
    await vectors.upsert("items", [{"id": v, "vector": [1, 0], "board": v} for v in HOSTILE])
    for value in HOSTILE:
        hits = await vectors.nearest(
            "items", [1, 0], limit=99, filter="board == {b}", values={"b": value}
        )
        assert [h.id for h in hits] == [value]
        assert [r["id"] for r in await vectors.get("items", [value])] == [value]
    hits = await vectors.nearest(
        "items", [1, 0], limit=99, filter="board in {b}", values={"b": HOSTILE[:3]}
    )
    assert sorted(h.id for h in hits) == sorted(HOSTILE[:3])
    assert await vectors.delete("items", HOSTILE[:2]) == 2


@given(st.text(st.characters(codec="utf-8")))
def test_a_literal_parses_to_the_same_text(value: str):
    assert parse_expr(f"id == {literal(value)}").right.value == value


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=5))
def test_a_literal_list_parses_to_the_same_list(values: list[str]):
    assert [
        e.value for e in parse_expr(fill_placeholders("id in {v}", {"v": values})).values.elements
    ] == values


def test_placeholders_within_quotes_are_text():
    assert fill_placeholders('a == "{x}" and b == {x}', {"x": 1}) == 'a == "{x}" and b == 1'
    assert (
        fill_placeholders(r"a == 'it\'s {x}' or b == {x}", {"x": "{y}"})
        == r"""a == 'it\'s {x}' or b == "{y}" """.rstrip()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, None, {}, b"x", object()])
def test_a_value_without_a_literal_is_invalid(value: object):
    with pytest.raises(Invalid):
        fill_placeholders("a == {x}", {"x": value})


def test_placeholders_and_values_must_match():
    for filter, values in [("a == {x}", {}), ("a == 1", {"x": 1})]:
        with pytest.raises(ValueError, match="placeholder"):
            fill_placeholders(filter, values)


names = st.from_regex(NAME, fullmatch=True)
tenants = st.from_regex(TENANT, fullmatch=True)


@settings(max_examples=30)
@given(tenants, names, tenants, names)
def test_no_two_collections_share_a_name(a: str, one: str, b: str, other: str):
    assert (a, one) == (b, other) or collection_name(a, one) != collection_name(b, other)
    assert a == b or not collection_name(a, one).startswith(name_prefix(b))


@pytest.mark.parametrize("name", ["../x", "a-b", "", "A", "a\n", "x" * 64, "a{b}", 'a"b', 7])
async def test_a_hostile_collection_name_is_invalid(stores: TenantStores, name: str):
    with pytest.raises(Invalid):
        await stores.vectors.ensure(name, VectorSchema(2))
    with pytest.raises(Invalid):
        await stores.vectors.nearest(name, [1, 0], limit=1)


async def test_tenants_have_collections_of_their_own(
    filled: TenantStores, config: StoreConfig, tenant: str
):
    other = open_stores(config, f"{tenant}-2").vectors
    with pytest.raises(NotFound):
        await other.nearest("items", [1, 0, 0, 0], limit=1)
    assert await other.names() == []
    await other.drop("items")
    assert await filled.vectors.count("items") == 4
    assert await filled.vectors.names() == ["items"]


async def test_collections_are_listed_while_others_are_dropped(
    filled: TenantStores, config: StoreConfig, tenant: str
):
    other = open_stores(config, f"{tenant}-2").vectors
    going = [f"c{n}" for n in range(4)]
    await asyncio.gather(*(other.ensure(name, VectorSchema(2)) for name in going))

    async def asked() -> set[str]:
        return {name for _ in range(25) for name in await filled.vectors.names()}

    found, *_ = await asyncio.gather(asked(), asked(), *(other.drop(name) for name in going))
    assert found == {"items"}


async def test_ensuring_another_schema_is_a_conflict(filled: TenantStores):
    await filled.vectors.ensure("items", SCHEMA)
    for schema in [
        VectorSchema(5, SCHEMA.fields, True),
        VectorSchema(4, {}, True),
        VectorSchema(4, SCHEMA.fields),
    ]:
        with pytest.raises(Conflict):
            await filled.vectors.ensure("items", schema)


async def test_a_collection_may_be_created_concurrently(stores: TenantStores):
    await asyncio.gather(*(stores.vectors.ensure("items", VectorSchema(2)) for _ in range(4)))
    assert await stores.vectors.count("items") == 0


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"vector": [1, 0, 0, math.nan]}, "1.vector"),
        ({"vector": [1, 0, 0, math.inf]}, "1.vector"),
        ({"vector": None}, "1.vector"),
        ({"vector": "abcd"}, "1.vector"),
        ({"id": ""}, "1.id"),
        ({"id": 7}, "1.id"),
        ({"id": "x" * 3000}, "1.id"),
        ({"text": "x" * 70_000}, "1.text"),
        ({"weight": math.nan}, "1.weight"),
        ({"board": "\ud800"}, "1.board"),
    ],
)
async def test_an_invalid_row_is_located(
    config: StoreConfig, change: dict[str, object], where: str
):
    with pytest.raises(Invalid) as caught:
        await open_stores(config, "acme").vectors.upsert(
            "items", [row("new", 1, 0, 0, 0), {**ROWS[1], **change}]
        )
    assert caught.value.errors[0]["location"] == where


async def test_a_vector_of_another_dimension_is_invalid(
    filled: TenantStores,
):
    with pytest.raises(Invalid):
        await filled.vectors.upsert("items", [row("new", 1, 0, 0, 0), row("b", 1, 0)])
    with pytest.raises(Invalid):
        await filled.vectors.nearest("items", [1, 0], limit=1)
    assert await filled.vectors.get("items", ["new"]) == []


@pytest.mark.parametrize("vector", [[1, 0, 0, math.nan], [[1, 0, 0, 0]], "abcd", None])
async def test_an_invalid_query_vector_is_refused(config: StoreConfig, vector: object):
    with pytest.raises(Invalid):
        await open_stores(config, "acme").vectors.nearest("items", vector, limit=1)


async def test_a_malformed_filter_is_invalid(filled: TenantStores):
    for filter in ["at ===", "nothing == 1", "at == ", "(((", "at == 'x"]:
        with pytest.raises(Invalid):
            await filled.vectors.nearest("items", [1, 0, 0, 0], limit=1, filter=filter)


async def test_a_vector_of_zeros_has_a_finite_score(filled: TenantStores):
    await filled.vectors.upsert("items", [row("zero", 0, 0, 0, 0)])
    for vector in ([0, 0, 0, 0], [1, 0, 0, 0]):
        assert all(
            math.isfinite(h.score) for h in await filled.vectors.nearest("items", vector, limit=9)
        )


async def test_concurrent_writers_lose_no_rows(stores: TenantStores):
    """milvus-lite itself loses rows here: see shoal.local.milvus.server."""
    vectors = stores.vectors
    await vectors.ensure("items", VectorSchema(8))
    random = np.random.default_rng(0)

    async def write(writer: int) -> None:
        for n in range(8):
            await vectors.upsert(
                "items",
                [{"id": f"{writer}-{n}-{i}", "vector": random.normal(size=8)} for i in range(20)],
            )
            if n % 4 == 0:
                await vectors.flush("items")

    await asyncio.gather(*(write(w) for w in range(6)))
    assert await vectors.count("items") == 6 * 8 * 20
    assert len(await vectors.nearest("items", [1] * 8, limit=2000)) == 960


async def test_an_unreachable_milvus_is_unavailable(unreachable: StoreConfig):
    for call in [
        lambda d: d.nearest("items", [1, 0], limit=1),
        lambda d: d.ensure("items", VectorSchema(2)),
        lambda d: d.count("items"),
    ]:
        with pytest.raises(Unavailable) as caught:
            await call(open_stores(unreachable, "acme").vectors)
        assert caught.value.retry_after


async def test_a_wrong_token_is_refused(config: StoreConfig):
    with pytest.raises(Unavailable):
        await open_stores(
            config.model_copy(update={"token": "shoal:wrong"}), "acme"
        ).vectors.names()


async def test_a_store_pickles(filled: TenantStores):
    assert await pickle.loads(pickle.dumps(filled.vectors)).count("items") == 4


def test_a_hit_is_plain():
    assert Hit("a", 1.0, {}).id == "a"
