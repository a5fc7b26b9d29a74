"""The vectors of queries: where they are computed, and what is remembered."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from shoal import Unavailable
from shoal_search.embedder import Embedder, EmbedRequest
from shoal_search.onnx_encoder import OnnxModel
from shoal_search.query_encoder import QueryEncoder

pytestmark = pytest.mark.anyio


class Asked:
    """Stands where the embedder is, and keeps what it was asked."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def __call__(self, call: EmbedRequest) -> np.ndarray:
        self.texts += call[1]
        return np.zeros((len(call[1]), 3), np.float32)


async def vectors(queries: QueryEncoder, texts: Sequence[str]) -> list[np.ndarray]:
    return [await queries("acme", text) for text in texts]


async def test_repeated_queries_are_cached_and_the_oldest_dropped() -> None:
    asked = Asked()
    assert {v.shape for v in await vectors(QueryEncoder(asked, size=2), "abacab")} == {(3,)}
    assert asked.texts == ["a", "b", "c", "b"]


async def test_what_one_tenant_asked_is_not_remembered_for_another() -> None:
    asked = Asked()
    queries = QueryEncoder(asked)
    for tenant in ("acme", "globex", "acme"):
        await queries(tenant, "a")
    assert asked.texts == ["a", "a"]


async def test_the_text_of_a_query_is_not_kept() -> None:
    queries = QueryEncoder(Asked())
    await queries("acme", "salaries of the board")
    assert not any(b"salaries" in key for key in queries._cache)


async def test_once_exported_the_model_runs_without_the_embedder(embedder: Embedder) -> None:
    asked, exported = Asked(), embedder.onnx_model()

    async def given() -> OnnxModel | None:
        return exported

    queries = QueryEncoder(asked, given)
    await queries("acme", "the first one")
    assert queries._loading is not None
    await queries._loading
    vector = await queries("acme", "sign-in is slow on mobile")
    assert asked.texts == ["the first one"]
    assert float(vector @ embedder.encode(["sign-in is slow on mobile"], "query")[0]) > 0.98


async def test_without_an_exported_model_every_query_goes_to_the_embedder() -> None:
    async def given() -> OnnxModel | None:
        return None

    asked = Asked()
    queries = QueryEncoder(asked, given)
    for text in "abc":
        await queries("acme", text)
        await asyncio.sleep(0)
    assert asked.texts == ["a", "b", "c"]


async def test_an_unavailable_embedder_is_asked_for_its_model_again() -> None:
    times = 0

    async def given() -> OnnxModel | None:
        nonlocal times
        times += 1
        if times == 1:
            raise Unavailable("away", retry_after=1)
        return None

    queries = QueryEncoder(Asked(), given)
    for text in "abc":
        await queries("acme", text)
        await asyncio.sleep(0.01)
    assert times == 2


async def test_a_model_that_fails_here_leaves_queries_to_the_embedder() -> None:
    async def given() -> OnnxModel | None:
        return OnnxModel(b"none", "{}")

    asked = Asked()
    queries = QueryEncoder(asked, given)
    await queries("acme", "a")
    assert queries._loading is not None
    await queries._loading
    await queries("acme", "b")
    assert asked.texts == ["a", "b"]
