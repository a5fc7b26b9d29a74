"""The contract of the vectors store, which every backend keeps."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count as numbers
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shoal.contract.errors import Conflict, Invalid, NotFound
from shoal.contract.vectors import (
    MAX_LIMIT,
    AnyOf,
    Between,
    Condition,
    Equals,
    Not,
    Vectors,
    VectorSchema,
)
from shoal.stores import milvus_vectors
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.stores.lance_vectors import LanceVectors
from shoal.stores.milvus_vectors import MilvusVectors

pytestmark = pytest.mark.anyio

SCHEMA = VectorSchema(
    4,
    {
        "board": "string",
        "labels": "strings",
        "at": "integer",
        "weight": "float",
        "open": "boolean",
        "metadata": "json",
        "words": "tokens",
        "title": "stored",
    },
)
OPEN = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SLOW_EXAMPLES = 5
"""Of the properties, on a server."""
Row = Mapping[str, Any]


@dataclass
class Backend:
    """A backend, as a store of a tenant."""

    open: Callable[[str], Vectors]
    examples: int = 1_000
    """How often a property is tried: a read after a write may take 0.2 s."""
    asked: Iterator[int] = field(default_factory=numbers)

    def is_done(self) -> bool:
        """Whether it was asked often enough."""
        return next(self.asked) >= self.examples


@pytest.fixture(
    params=[
        "lance",
        pytest.param("milvus_lite", marks=pytest.mark.milvus),
        pytest.param("milvus", marks=pytest.mark.milvus),
    ]
)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    if request.param == "lance":
        folder, lake = str(tmp_path / "vectors"), str(tmp_path / "lake")
        config = StoreConfig(online="redis://localhost", vectors=folder, lake=lake)
        yield Backend(lambda tenant: LanceVectors(config, tenant))
        return
    config = request.getfixturevalue(request.param)
    yield Backend(lambda tenant: MilvusVectors(config, tenant), SLOW_EXAMPLES)
    for tenant in ("acme", "acm"):
        await milvus_vectors.erase(config, tenant)
    await close_connections()


@pytest.fixture
async def vectors(backend: Backend) -> AsyncIterator[Vectors]:
    store = backend.open("acme")
    await store.ensure("items", SCHEMA)
    yield store


def row(key: str, *vectors: Sequence[float], **fields: Any) -> dict[str, Any]:
    return {"id": key, "vectors": np.array(vectors, np.float32), **fields}


# The truth, in plain Python


def values_of(item: Row, name: str) -> list[Any]:
    """The values that a condition on this field is about."""
    own, _, path = name.partition(".")
    value = item.get(own)
    if value is None:
        return []
    if own == "words":
        return [token for token in value.split(" ") if token]
    if own == "metadata":
        return [leaf for at, leaf in leaves("", value) if at == path]
    return list(value) if isinstance(value, list) else [value]


def leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for k, v in value.items() for leaf in leaves(f"{path}.{k}" if path else k, v)]
    if isinstance(value, list):
        return [leaf for v in value for leaf in leaves(path, v)]
    return [] if value is None else [(path, value)]


def comparable(value: Any) -> tuple[str, Any]:
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, str):
        return "text", value.encode("utf-8", "surrogatepass")
    return "number", Decimal(value) if isinstance(value, int) else Decimal(repr(value))


def passes(item: Row, condition: Condition) -> bool:
    if isinstance(condition, Not):
        return not passes(item, condition.condition)
    found = [comparable(value) for value in values_of(item, condition.field)]
    if isinstance(condition, Equals):
        return comparable(condition.value) in found if condition.value is not None else not found
    if isinstance(condition, AnyOf):
        return any(comparable(value) in found for value in condition.values)
    bounds = [
        (comparable(bound), holds)
        for bound, holds in (
            (condition.least, lambda c: c >= 0),
            (condition.most, lambda c: c <= 0),
            (condition.above, lambda c: c > 0),
            (condition.below, lambda c: c < 0),
        )
        if bound is not None
    ]
    return any(
        all(
            value[0] == bound[0] and holds((value[1] > bound[1]) - (value[1] < bound[1]))
            for bound, holds in bounds
        )
        for value in found
    )


def cosine(item: Row, query: Sequence[float]) -> float | None:
    vectors = np.asarray(item["vectors"], np.float64).reshape(-1, len(query))
    if not len(vectors):
        return None
    sought = np.asarray(query, np.float32).astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(sought)
    return float((vectors @ sought / lengths).max())


# Collections


async def test_collections_are_those_of_the_tenant(backend: Backend):
    one, other = backend.open("acme"), backend.open("acm")
    await one.ensure("items", SCHEMA)
    await one.ensure("items", SCHEMA)
    await one.ensure("notes", VectorSchema(2))
    assert await one.names() == ["items", "notes"]
    assert await other.names() == []
    with pytest.raises(NotFound):
        await other.count("items")
    await one.drop("items")
    assert await one.names() == ["notes"]
    for call in (
        one.count("items"),
        one.drop("items"),
        one.get("items", ["a"]),
        one.get("items", []),
        one.upsert("items", [row("a")]),
        one.retire("items", {"a": "1"}),
        one.delete("items", ["a"]),
        one.versions("items", ["a"]),
        one.nearest("items", [1, 0, 0, 0], limit=1),
        one.rows("items", limit=1),
        one.optimize("items"),
    ):
        with pytest.raises(NotFound):
            await call


async def test_another_schema_conflicts_and_names_the_fields(vectors: Vectors):
    with pytest.raises(Conflict, match="board"):
        await vectors.ensure("items", VectorSchema(4, {**SCHEMA.fields, "board": "integer"}))
    with pytest.raises(Conflict, match="dimension"):
        await vectors.ensure("items", VectorSchema(5, SCHEMA.fields))


async def test_a_collection_made_again_elsewhere_is_seen(backend: Backend):
    one, other = backend.open("acme"), backend.open("acme")
    await one.ensure("items", SCHEMA)
    await one.upsert("items", [row("a", [1, 0, 0, 0], board="x")])
    assert await one.count("items") == 1
    await other.drop("items")
    await other.ensure("items", VectorSchema(2, {"team": "string"}))
    await other.upsert("items", [row("b", [1, 0], team="y")])
    assert await one.count("items", filter=[Equals("team", "y")]) == 1
    assert [h.id for h in await one.nearest("items", [1, 0], limit=5)] == ["b"]


@pytest.mark.parametrize("name", ["", "A", "1a", "a-b", "a" * 64, "../a", "a/b", "a.b", "é"])
async def test_invalid_names_of_collections_are_refused(backend: Backend, name: str):
    with pytest.raises(Invalid):
        await backend.open("acme").ensure(name, SCHEMA)


@pytest.mark.parametrize("name", ["", "A", "id", "vectors", "version", "_x", "a.b", "a" * 64])
async def test_invalid_names_of_fields_are_refused(backend: Backend, name: str):
    with pytest.raises(Invalid):
        await backend.open("acme").ensure("items", VectorSchema(2, {name: "string"}))


# Rows

FULL = row(
    "a",
    [1, 2, 3, 4],
    [0.5, 0, 0, 0],
    version="7",
    board="b'1",
    labels=["x", "y"],
    at=2**63 - 1,
    weight=0.1,
    open=False,
    metadata={"a": {"b": [1, 2**80, None, "é"]}, "c": True, "e": {}},
    words="one two",
    title="One",
)


async def test_rows_come_back_as_they_were_written(vectors: Vectors):
    empty = row("b")
    assert await vectors.upsert("items", [FULL, empty]) == []
    everything = [*SCHEMA.fields, "version", "vectors"]
    found = await vectors.get("items", ["b", "nobody", "a", "\ud800"], everything)
    assert [r["id"] for r in found] == ["b", "a"]
    assert found[0]["vectors"].shape == (0, 4)
    np.testing.assert_array_equal(found[1]["vectors"], FULL["vectors"])
    assert {k: v for k, v in found[1].items() if k != "vectors"} == {
        k: v for k, v in FULL.items() if k != "vectors"
    }
    assert all(found[0][name] is None for name in [*SCHEMA.fields, "version"])
    assert await vectors.get("items", ["a"]) == [{"id": "a"}]


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"id": ""}, "1.id"),
        ({"id": 3}, "1.id"),
        ({"id": "é" * 1025}, "1.id"),
        ({"id": "\ud800"}, "1.id"),
        ({"version": 3}, "1.version"),
        ({"version": "x" * 256}, "1.version"),
        ({"vectors": [[1, 0, 0]]}, "1.vectors"),
        ({"vectors": [1, 0, 0, 0]}, "1.vectors"),
        ({"vectors": [[math.nan, 0, 0, 1]]}, "1.vectors"),
        ({"vectors": [[0, 0, 0, 0]]}, "1.vectors"),
        ({"vectors": [[1e38, 1e38, 1e38, 1e38]]}, "1.vectors"),
        ({"vectors": [["a", 0, 0, 1]]}, "1.vectors"),
        ({"vectors": [[1, 0, 0, 0]] * 257}, "1.vectors"),
        ({"board": 3}, "1.board"),
        ({"board": "x" * 65_536}, "1.board"),
        ({"title": "\udfff"}, "1.title"),
        ({"labels": "x"}, "1.labels"),
        ({"labels": ["x", 3]}, "1.labels"),
        ({"at": 2**63}, "1.at"),
        ({"at": 1.5}, "1.at"),
        ({"at": True}, "1.at"),
        ({"weight": math.inf}, "1.weight"),
        ({"weight": 10**400}, "1.weight"),
        ({"open": 1}, "1.open"),
        ({"metadata": [1]}, "1.metadata"),
        ({"metadata": {"a": math.nan}}, "1.metadata"),
        ({"metadata": {"a": {"b": b"x"}}}, "1.metadata"),
        ({"metadata": {"\ud800": 1}}, "1.metadata"),
        ({"metadata": {"a": "x" * 65_536}}, "1.metadata"),
        ({"nothing": 1}, "1.nothing"),
    ],
)
async def test_rows_that_cannot_be_stored_are_refused(
    vectors: Vectors, fields: dict[str, Any], location: str
):
    with pytest.raises(Invalid) as refused:
        await vectors.upsert("items", [row("a"), {**row("b"), **fields}])
    assert refused.value.errors[0]["location"] == location
    assert await vectors.count("items") == 0


async def test_of_rows_with_one_id_the_greatest_version_counts(vectors: Vectors):
    many = [
        row("a", version=v, board=b) for v, b in [("2", "x"), ("3", "y"), ("3", "z"), ("1", "q")]
    ]
    assert await vectors.upsert("items", many) == []
    assert await vectors.get("items", ["a"], ["board"]) == [{"id": "a", "board": "z"}]
    await vectors.upsert("items", [row("b", board="x"), row("b", board="y")])
    assert await vectors.get("items", ["b"], ["board"]) == [{"id": "b", "board": "y"}]


async def test_more_rows_than_a_batch_are_written(vectors: Vectors):
    rows = [row(f"i{i}", [1, i, 0, 0], at=i, version="1") for i in range(2_500)]
    assert await vectors.upsert("items", rows) == []
    again = await vectors.upsert("items", rows[::-1])
    assert sorted(again) == sorted(r["id"] for r in rows)
    assert await vectors.count("items") == 2_500
    await vectors.retire("items", {r["id"]: "2" for r in rows[:1_500]})
    assert await vectors.count("items") == 1_000
    await vectors.delete("items", [r["id"] for r in rows])
    assert await vectors.count("items") == 0
    assert await vectors.versions("items", [r["id"] for r in rows]) == {}


# Histories

KEYS = st.sampled_from(["a", "b'", 'c"\\', "d\x00é"])
VERSIONS = st.sampled_from(["1", "2", "3", "4", "50", "6"])
STEPS = st.one_of(
    st.tuples(
        st.just("upsert"), st.lists(st.tuples(KEYS, st.none() | VERSIONS, st.integers(0, 99)))
    ),
    st.tuples(st.just("retire"), st.dictionaries(KEYS, VERSIONS)),
    st.tuples(st.just("delete"), st.lists(KEYS)),
    st.tuples(st.just("forget"), VERSIONS),
    st.tuples(st.just("optimize"), st.just(None)),
)


class Dictionary:
    """What the store must know: by id, the version, and the number (None: retired)."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str | None, int | None]] = {}

    def upsert(self, rows: Sequence[tuple[str, str | None, int]]) -> set[str]:
        best: dict[str, tuple[str | None, int]] = {}
        for key, version, number in rows:
            other = best.get(key)
            if not other or not version or not other[0] or version >= other[0]:
                best[key] = version, number
        refused = set()
        for key, (version, number) in best.items():
            old = self.rows.get(key)
            if old and old[0] and version and old[0] >= version:
                refused.add(key)
            else:
                self.rows[key] = version, number
        return refused

    def retire(self, versions: Mapping[str, str]) -> set[str]:
        refused = set()
        for key, version in versions.items():
            old = self.rows.get(key)
            if old and old[0] and old[0] > version:
                refused.add(key)
            else:
                self.rows[key] = version, None
        return refused

    def forget(self, before: str) -> int:
        gone = [k for k, (v, n) in self.rows.items() if n is None and v and v < before]
        for key in gone:
            del self.rows[key]
        return len(gone)


@given(steps=st.lists(STEPS, max_size=12))
@OPEN
async def test_histories_are_those_of_a_dictionary(backend: Backend, steps: list[tuple[str, Any]]):
    store, model = backend.open("acme"), Dictionary()
    if backend.is_done():
        return
    if "items" in await store.names():
        await store.drop("items")
    await store.ensure("items", SCHEMA)
    everyone = ["a", "b'", 'c"\\', "d\x00é"]
    for step, given_ in steps:
        if step == "upsert":
            rows = [row(k, [1, n, 0, 0], version=v, at=n) for k, v, n in given_]
            refused = await store.upsert("items", rows)
            assert (len(refused), set(refused)) == (len(set(refused)), model.upsert(given_))
        elif step == "retire":
            assert set(await store.retire("items", given_)) == model.retire(given_)
        elif step == "delete":
            await store.delete("items", given_)
            for key in given_:
                model.rows.pop(key, None)
        elif step == "forget":
            assert await store.forget("items", given_) == model.forget(given_)
        else:
            await store.optimize("items")
        live = {k: n for k, (_, n) in model.rows.items() if n is not None}
        found = await store.get("items", everyone, ["at"])
        assert {r["id"]: r["at"] for r in found} == live
        assert await store.versions("items", everyone) == {
            k: (v, n is None) for k, (v, n) in model.rows.items() if v is not None
        }
        assert await store.count("items") == len(live)
        hits = await store.nearest("items", [1, 0, 0, 0], limit=9)
        assert {h.id for h in hits} == set(live)


# Filters

TEXTS = st.sampled_from(
    ["", " ", "x", "X", "x'", "''", '"', "\\", "\\'", "%", "_", "x\x00y", "\n", "é", "e\u0301",
     "🦊",
     "null", "true", "1", "' OR 1=1 --", "`", "$1", "{x}", "\u2028", "\ufffd", "\uffff"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)  # fmt: skip
TOKENS = st.sampled_from(["w", "W", "ERR-4032", "é", "it's", '"', "\\", "🦊", "x" * 300])
INTEGERS = st.sampled_from(
    [0, 1, -1, 2, 5, 2**53, 2**53 + 1, 2**63 - 1, -(2**63) + 1]
) | st.integers(-3, 3)
FLOATS = st.sampled_from([0.0, -0.0, 0.1, 1.0, -1.5, 5e-324, 1.7e308, -1e300, 2.0**53]) | st.floats(
    allow_nan=False, allow_infinity=False
)
NUMBERS = INTEGERS | FLOATS | st.sampled_from([2**63, -(2**63), 2**64, 10**30, -(10**400), 0.5])
SCALARS = TEXTS | NUMBERS.filter(lambda n: abs(n) < 10**300) | st.booleans()
METADATA = st.dictionaries(
    st.sampled_from(["size", "it's", "a", 'q"', "é"]),
    SCALARS | st.none() | st.lists(SCALARS, max_size=3) | st.fixed_dictionaries({"b": SCALARS}),
    max_size=3,
)
ROWS = st.fixed_dictionaries(
    {
        "board": st.none() | TEXTS,
        "labels": st.none() | st.lists(TEXTS, max_size=3),
        "at": st.none() | INTEGERS,
        "weight": st.none() | FLOATS,
        "open": st.none() | st.booleans(),
        "metadata": st.none() | METADATA,
        "words": st.none() | st.lists(TOKENS, max_size=4).map(" ".join),
    }
)
NOTHING = dict.fromkeys(["board", "labels", "at", "weight", "open", "metadata", "words"])
PATHS = st.sampled_from(["size", "it's", "a", "a.b", 'q"', "é", "nothing", "é.b"])
VALUES = {
    "board": TEXTS,
    "labels": TEXTS,
    "at": NUMBERS,
    "weight": NUMBERS,
    "open": st.booleans(),
    "words": TOKENS,
}


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from([*VALUES, "metadata"]))
    values = VALUES.get(name, SCALARS)
    if name == "metadata":
        name = f"metadata.{draw(PATHS)}"
    kind = draw(st.sampled_from(["equals", "any", "between"]))
    made: Condition
    if kind == "between" and name not in ("labels", "open", "words"):
        if name.startswith("metadata"):
            values = draw(st.sampled_from([TEXTS, NUMBERS]))
        bounds = draw(st.dictionaries(st.sampled_from(["least", "most", "above", "below"]), values))
        made = Between(name, **bounds)
    elif kind == "any":
        made = AnyOf(name, draw(st.lists(values, max_size=3)))
    else:
        made = Equals(name, draw(st.none() | values))
    return Not(made) if draw(st.booleans()) else made


def is_plain(item: Row, condition: Condition) -> bool:
    """Whether the condition is not about the order of a list's values."""
    inner = condition.condition if isinstance(condition, Not) else condition
    if not isinstance(inner, Between) or not inner.field.startswith("metadata."):
        return True
    value: Any = item.get("metadata")
    for key in inner.field.split(".")[1:]:
        value = value.get(key) if isinstance(value, dict) else value
    return not isinstance(value, list)


@given(
    items=st.lists(ROWS, min_size=1, max_size=8),
    filters=st.lists(st.lists(conditions(), min_size=1, max_size=3), min_size=1, max_size=8),
    optimized=st.booleans(),
)
@OPEN
async def test_filters_are_those_of_plain_python(
    backend: Backend,
    items: list[dict[str, Any]],
    filters: list[list[Condition]],
    optimized: bool,
):
    store = backend.open("acme")
    if backend.is_done():
        return
    if "items" in await store.names():
        await store.drop("items")
    await store.ensure("items", SCHEMA)
    rows = [row(f"i{i}", [1, i, 0, 0], **item) for i, item in enumerate(items)]
    await store.upsert("items", rows)
    await store.retire("items", {"gone": "1"})
    if optimized:
        await store.optimize("items")
    for filter in filters:
        plain = [r for r in rows if all(is_plain(r, c) for c in filter)]
        expected = {r["id"] for r in plain if all(passes(r, c) for c in filter)}
        among = AnyOf("id", [r["id"] for r in plain])
        everything = [*filter, among]
        page = await store.rows("items", limit=100, filter=everything)
        assert {r["id"] for r in page.rows} == expected, filter
        assert await store.count("items", filter=everything) == len(expected)
        hits = await store.nearest("items", [1, 0, 0, 0], limit=100, filter=everything)
        assert {h.id for h in hits} == expected
        found = await store.matching("items", "words", ["w", "é"], limit=100, filter=everything)
        assert {h.id for h in found} == {
            r["id"]
            for r in plain
            if r["id"] in expected and {"w", "é"} & set((r["words"] or "").split(" "))
        }


@pytest.mark.parametrize(
    "condition",
    [
        Equals("nothing", 1),
        Equals("title", "x"),
        Equals("metadata", "x"),
        Equals("metadata.", "x"),
        Equals("board.x", "x"),
        Equals("board", 1),
        Equals("labels", 1),
        Equals("at", "1"),
        Equals("at", True),
        Equals("weight", math.nan),
        Equals("open", 1),
        Equals("_retired", True),
        Equals("vectors", 1),
        AnyOf("board", ["x", 1]),
        AnyOf("board", ["x"] * 16_385),
        Between("open", least=1),
        Between("labels", least="x"),
        Between("words", least="x"),
        Between("board", least=1),
        Between("at", least="1"),
        Between("at", least=1, most="x"),
        Between("metadata.size", least=1, most="x"),
        Between("weight", above=math.inf),
        Not(Equals("nothing", 1)),
        Equals("board` OR true --", "x"),
    ],
)
async def test_invalid_conditions_are_refused(vectors: Vectors, condition: Condition):
    for call in (
        vectors.count("items", filter=[condition]),
        vectors.rows("items", limit=1, filter=[condition]),
        vectors.nearest("items", [1, 0, 0, 0], limit=1, filter=[condition]),
        vectors.matching("items", "words", ["w"], limit=1, filter=[condition]),
        vectors.facet("items", "board", limit=1, filter=[condition]),
    ):
        with pytest.raises(Invalid):
            await call


# Searches


def clustered(seed: int, count: int, most: int) -> list[dict[str, Any]]:
    """Rows with 0 to `most` vectors, some of them equal."""
    random = np.random.default_rng(seed)
    pool = random.normal(size=(max(2, count // 3), 4)).astype(np.float32)
    sizes = random.integers(0, most + 1, count)
    return [
        row(f"i{i}", *pool[random.integers(0, len(pool), size)], board=f"b{i % 7}", at=i)
        for i, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(("count", "most"), [(40, 3), (1_500, 2), (1_500, 40)])
@pytest.mark.parametrize("optimized", [False, True])
async def test_nearest_rows_are_those_of_brute_force(
    backend: Backend,
    vectors: Vectors,
    count: int,
    most: int,
    optimized: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    count = count if most < 40 else min(count, 100 * backend.examples)
    monkeypatch.setattr("shoal.stores.lance_upkeep.LEAST_ROWS", 500)
    rows = clustered(count + most, count, most)
    await vectors.upsert("items", rows[: count // 2])
    if optimized:
        await vectors.optimize("items")
    await vectors.upsert("items", rows[count // 2 :])
    if optimized:
        await vectors.optimize("items")
    await vectors.delete("items", [r["id"] for r in rows[::10]])
    there = [r for i, r in enumerate(rows) if i % 10]
    random = np.random.default_rng(1)
    for filter in ([], [Equals("board", "b3")], [AnyOf("board", ["b1", "b2"]), Between("at", 9)]):
        for limit in (1, 7, 50):
            query = random.normal(size=4).tolist()
            scored = [
                (score, r["id"])
                for r in there
                if all(passes(r, c) for c in filter) and (score := cosine(r, query)) is not None
            ]
            expected = sorted(scored, key=lambda s: (-round(s[0], 9), s[1]))[:limit]
            hits = await vectors.nearest("items", query, limit=limit, filter=filter, fields=["at"])
            assert [h.id for h in hits] == [key for _, key in expected]
            assert [h.score for h in hits] == pytest.approx([s for s, _ in expected], abs=1e-6)
            assert all(h.fields["at"] == int(h.id[1:]) for h in hits)


async def test_equally_similar_rows_come_by_id_for_every_limit(vectors: Vectors):
    for start in range(0, 400, 100):
        rows = [row(f"i{i:03}", [0.3, 0.1, 0.7, 0.2]) for i in range(start, start + 100)]
        await vectors.upsert("items", rows[::-1])
        if start == 100:
            await vectors.optimize("items")
    for limit in (1, 5, 20, 200, 400, 1_000):
        hits = await vectors.nearest("items", [0.3, 0.2, 0.6, 0.1], limit=limit)
        assert [h.id for h in hits] == [f"i{i:03}" for i in range(min(limit, 400))]


@pytest.mark.parametrize("query", [[], [1], [0, 0, 0, 0], [math.nan, 0, 0, 1], ["a"] * 4])
async def test_invalid_query_vectors_are_refused(vectors: Vectors, query: list[Any]):
    with pytest.raises(Invalid):
        await vectors.nearest("items", query, limit=1)


@given(
    texts=st.lists(st.lists(TOKENS, max_size=6), min_size=1, max_size=8),
    sought=st.lists(TOKENS, min_size=1, max_size=3),
    other=TOKENS,
    optimized=st.booleans(),
)
@OPEN
async def test_matching_rows_are_those_with_the_tokens(
    backend: Backend, texts: list[list[str]], sought: list[str], other: str, optimized: bool
):
    store = backend.open("acme")
    if backend.is_done():
        return
    if "items" in await store.names():
        await store.drop("items")
    await store.ensure("items", SCHEMA)
    rows = [row(f"i{i}", words=" ".join(tokens)) for i, tokens in enumerate(texts)]
    await store.upsert("items", rows[::2])
    if optimized:
        await store.optimize("items")
    await store.upsert("items", rows[1::2])

    async def found(*tokens: str | tuple[str, ...]) -> set[str]:
        hits = await store.matching("items", "words", tokens, limit=100)
        assert all(h.score >= 0 for h in hits)
        assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
        return {h.id for h in hits}

    by_id = {f"i{i}": tokens for i, tokens in enumerate(texts)}
    assert await found(*sought) == {k for k, t in by_id.items() if set(sought) & set(t)}
    assert await found(tuple(sought)) == {k for k, t in by_id.items() if set(sought) <= set(t)}
    assert await found(tuple(sought), other, (other, sought[0])) == {
        k for k, t in by_id.items() if set(sought) <= set(t) or other in t
    }


async def test_tokens_that_no_row_can_have_match_nothing(vectors: Vectors):
    await vectors.upsert("items", [row("a", words="one two")])
    assert await vectors.matching("items", "words", [], limit=5) == []
    assert await vectors.matching("items", "words", ["", "one two"], limit=5) == []
    assert await vectors.matching("items", "words", [("one", "\ud800"), ()], limit=5) == []
    assert [h.id for h in await vectors.matching("items", "words", ["one", "\ud800"], limit=5)] == [
        "a"
    ]
    with pytest.raises(Invalid):
        await vectors.matching("items", "board", ["one"], limit=5)


# Facets and listings


@example(  # True is not 1
    items=[{**NOTHING, "metadata": {"size": value}} for value in (True, 1)],
    optimized=False,
    limit=2,
)
@given(items=st.lists(ROWS, max_size=12), optimized=st.booleans(), limit=st.integers(0, 5))
@OPEN
async def test_facets_and_listings_are_those_of_plain_python(
    backend: Backend, items: list[dict[str, Any]], optimized: bool, limit: int
):
    store = backend.open("acme")
    if backend.is_done():
        return
    if "items" in await store.names():
        await store.drop("items")
    await store.ensure("items", SCHEMA)
    rows = [row(f"i{i}", **item) for i, item in enumerate(items)]
    await store.upsert("items", rows)
    await store.retire("items", {"gone": "1"})
    if optimized:
        await store.optimize("items")
    for name in ("board", "labels", "at", "weight", "open", "metadata.size"):
        counts = Counter(
            value for r in rows for value in {comparable(v) for v in values_of(r, name)}
        )
        ranked = sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:limit]
        found = await store.facet("items", name, limit=limit)
        if name == "metadata.size":  # values of several types: their order is the backend's
            found.sort(key=lambda f: (-f[1], comparable(f[0])))
            assert [n for _, n in found] == [n for _, n in ranked]
        else:
            assert [(comparable(v), n) for v, n in found] == ranked
    for sort in ("id", "board", "at", "weight", "open"):
        for descending in (False, True):
            valued = [r for r in rows if r.get(sort) is not None]
            valued.sort(key=lambda r: r["id"])
            valued.sort(key=lambda r: comparable(r[sort]), reverse=descending)
            without = sorted((r for r in rows if r.get(sort) is None), key=lambda r: r["id"])
            seen, after = [], None
            while True:
                page = await store.rows(
                    "items",
                    limit=max(limit, 1),
                    after=after,
                    sort=sort,
                    descending=descending,
                    fields=["at", "metadata"],
                )
                seen += page.rows
                if (after := page.next) is None:
                    break
            expected = [*valued, *without]
            assert [r["id"] for r in seen] == [r["id"] for r in expected]
            assert [r["metadata"] for r in seen] == [r.get("metadata") for r in expected]


async def test_listings_refuse_what_is_not_theirs(vectors: Vectors):
    await vectors.upsert("items", [row("a", at=1), row("b", at=2)])
    page = await vectors.rows("items", limit=1, sort="at")
    assert page.next
    for bad in (
        {"after": "x"},
        {"after": ""},
        {"after": page.next},
        {"after": page.next, "sort": "at", "descending": True},
        {"sort": "labels"},
        {"sort": "metadata.size"},
        {"sort": "vectors"},
        {"fields": ["nothing"]},
        {"limit": MAX_LIMIT + 1},
    ):
        with pytest.raises(Invalid):
            await vectors.rows("items", **{"limit": 1, **bad})


# Several at once


async def test_writers_at_once_keep_the_greatest_version(backend: Backend):
    stores = [backend.open("acme") for _ in range(4)]
    await asyncio.gather(*(store.ensure("items", SCHEMA) for store in stores))

    async def write(store: Vectors, seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(12):
            keys = random.choice(20, 3, replace=False)
            versions = {f"i{k}": f"{random.integers(100):02}" for k in keys}
            if random.random() < 0.3:
                await store.retire("items", versions)
            else:
                rows = [row(k, [1, 0, 0, 0], version=v) for k, v in versions.items()]
                await store.upsert("items", rows)
            for key, version in versions.items():
                greatest[key] = max(greatest.get(key, ""), version)

    greatest: dict[str, str] = {}
    await asyncio.gather(*(write(store, seed) for seed, store in enumerate(stores)))
    found = await stores[0].versions("items", list(greatest))
    assert {k: v for k, (v, _) in found.items()} == greatest
    live = [k for k, (_, retired) in found.items() if not retired]
    assert await stores[0].count("items") == len(live)
