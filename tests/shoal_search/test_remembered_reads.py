"""What a process remembers of its reads changes no answer."""

import secrets
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.stores import lance_counts, lance_rows
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal_search import candidates, word_statistics
from shoal_search.embedder import Embedder

from .conftest import Services, service
from .test_hidden_boards import Answers, queries, rows

pytestmark = pytest.mark.anyio


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(writes=st.lists(st.tuples(rows, st.booleans()), min_size=2, max_size=3), q=queries)
async def test_answers_are_those_without_what_is_remembered(
    config: StoreConfig,
    embedder: Embedder,
    monkeypatch: pytest.MonkeyPatch,
    writes: list[tuple[list[dict[str, Any]], bool]],
    q: str,
) -> None:
    monkeypatch.setattr(candidates, "MAX_MATCHING", 6)
    monkeypatch.setattr(candidates, "MAX_NEWEST", 3)
    # Counts of frequent words are those of a minute ago, on purpose.
    monkeypatch.setattr(word_statistics, "REMEMBERED_SECONDS", -1.0)
    ctx = service(config, f"acme-{secrets.token_hex(4)}", Services(embedder))
    try:
        answers = Answers(ctx)
        for version, (items, is_optimized) in enumerate(writes):
            later = [{**item, "updated_at": f"{2090 + version}-06-01T00:00:00Z"} for item in items]
            await answers.write("open", later)
            if is_optimized:
                await answers.optimize()
            remembered = [await answers.read(q) for _ in range(2)]
            lance_counts._counts.clear()
            lance_rows._kept.clear()
            assert [await answers.read(q)] * 2 == remembered
    finally:
        await close_connections()
