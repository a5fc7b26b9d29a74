"""No answer depends, in a single bit, on boards that the asker may not see."""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal import Role, TenantContext
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal_search import candidates
from shoal_search.embedder import Embedder
from shoal_search.routes import routes

from .conftest import Services, service

pytestmark = pytest.mark.anyio
WORDS = ["layoffs", "budget", "plan", "invoice", "ERR-4032", "Zyxthal", "charge", "team"]
MISTYPED = ["layofs", "budgt", "invo", "err4032", "err-40", "chrage", "nothing"]

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "text": texts,
            "title": st.one_of(st.just(""), texts),
            # To come, so that recency is the same at every time.
            "updated_at": st.sampled_from([f"209{y}-01-01T00:00:00Z" for y in range(3)]),
            "metadata": st.sampled_from([None, {"status": "done"}, {"status": "open"}]),
        }
    ),
    min_size=1,
    max_size=25,
)
queries = st.lists(st.sampled_from([*WORDS, *MISTYPED]), min_size=1, max_size=4).map(" ".join)


class Answers:
    """Everything that somebody with one board is answered."""

    def __init__(self, ctx: TenantContext) -> None:
        app = FastAPI()
        app.include_router(routes(ctx.services), prefix="/search")
        self._app, self._ctx = app, ctx

    def client(self, **caller: Any) -> httpx.AsyncClient:
        context = replace(self._ctx, **caller)

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            scope["shoal.context"] = context
            await self._app(scope, receive, send)

        return httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://shoal")

    async def write(self, board: str, found: list[dict[str, Any]]) -> None:
        items = [
            {"id": f"{board}{i}", "board_id": board, "type": "item", **row}
            for i, row in enumerate(found)
        ]
        if items:
            async with self.client() as client:
                assert (await client.post("/search/items", json=items)).json()["rejected"] == []

    async def optimize(self) -> None:
        vectors = self._ctx.stores.vectors
        for name in await vectors.names():
            await vectors.optimize(name)

    async def read(self, q: str) -> Mapping[str, Any]:
        asked = {
            "search": ("/search", {"q": q, "limit": 5, "facets": "type,metadata.status"}),
            "explained": ("/search", {"q": q, "explain": True}),
            "phrase": ("/search", {"q": f'"{q}"'}),
            "newest": ("/search", {"q": q, "sort": "updated_at"}),
            "suggest": ("/search/suggest", {"q": q}),
            "similar": ("/search/similar/open0", {}),
        }
        answers = {}
        async with self.client(user="ana", role=Role.reader, boards=frozenset({"open"})) as client:
            for name, (path, params) in asked.items():
                answers[name] = (await client.get(path, params=params)).json()
                for of_time in ("took_ms", "cursor"):
                    answers[name].pop(of_time, None)
        return answers


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(visible=rows, hidden=rows, q=queries)
async def test_no_answer_depends_on_hidden_boards(
    config: StoreConfig,
    embedder: Embedder,
    monkeypatch: pytest.MonkeyPatch,
    visible: list[dict[str, Any]],
    hidden: list[dict[str, Any]],
    q: str,
) -> None:
    monkeypatch.setattr(candidates, "MAX_MATCHING", 6)
    monkeypatch.setattr(candidates, "MAX_NEWEST", 3)
    ctx = service(config, f"acme-{secrets.token_hex(4)}", Services(embedder))
    try:
        answers = Answers(ctx)
        await answers.write("open", visible)
        before = await answers.read(q)
        await answers.write("closed", hidden * 3)
        assert await answers.read(q) == before
    finally:
        await close_connections()
