"""Real stores and model, started once; every test has a tenant of its own."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from shoal import Role, ShoalError, TenantContext, VectorCondition
from shoal.contract.rights import SERVICE_RIGHTS
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores
from shoal_search.analyzer import Analyzer
from shoal_search.embedder import Embedder, EmbedRequest
from shoal_search.items import Item
from shoal_search.onnx_encoder import OnnxModel
from shoal_search.parameters import SearchParameters, SearchSettings
from shoal_search.query_encoder import QueryEncoder
from shoal_search.query_text import read_query
from shoal_search.routes import routes
from shoal_search.scopes import Scope, narrow
from shoal_search.searcher import Found, Searcher
from shoal_search.states import State, Version
from shoal_search.writer import Writer


@pytest.fixture(scope="session")
def analyzer() -> Analyzer:
    return Analyzer()


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder(export=True)


@pytest.fixture(scope="session")
def config(shoal_servers: StoreConfig) -> StoreConfig:
    return shoal_servers


class Services:
    """The services of a replica, with the backend in this process.

    Attributes:
        embedded: The texts that were embedded.
        trouble: Is awaited before anything is embedded.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.embedded: list[str] = []
        self.trouble: Callable[[], Awaitable[None]] | None = None

    def settings(self, model: type[Any]) -> Any:
        return model()

    def backend(self, name: str) -> Any:
        assert name == "embedder"
        return self

    async def embed(self, call: EmbedRequest) -> Any:
        if self.trouble is not None:
            await self.trouble()
        self.embedded += [text if isinstance(text, str) else text[1] for text in call[1]]
        return self._embedder.embed([call])[0]

    async def onnx_model(self) -> OnnxModel | None:
        return self._embedder.onnx_model()


def service(config: StoreConfig, tenant: str, services: Any) -> TenantContext:
    """The service itself of a tenant."""
    return TenantContext(
        tenant=tenant,
        role=Role.editor,
        rights=SERVICE_RIGHTS[Role.editor],
        user=None,
        boards=None,
        request_id="r",
        stores=open_stores(config, tenant, "search"),
        services=services,
        resolve=lambda model: model(),
        operations=lambda name, ctx: None,
    )


@pytest.fixture
async def ctx(config: StoreConfig, embedder: Embedder) -> AsyncIterator[TenantContext]:
    """The service itself of a tenant that no other test has."""
    yield service(config, f"acme-{secrets.token_hex(4)}", Services(embedder))
    await close_connections()


NOW = 1_795_392_000_000
"""2026-11-23, in milliseconds since 1970."""


class Index:
    """Writes items one after the other, as if each came with a later event."""

    def __init__(self, services: Services) -> None:
        settings = services.settings(SearchSettings)
        self.writer = Writer(settings, services.embed)
        self.collection, self.analyzer = self.writer.collection, self.writer.analyzer
        self.searcher = Searcher(self.analyzer, QueryEncoder(services.embed, services.onnx_model))
        self._places = count(1)

    async def write(self, ctx: TenantContext, *rows: dict[str, Any]) -> None:
        items = [Item.model_validate(row) for row in rows]
        versions = [Version.of(item.updated_at, f"{next(self._places)}-0") for item in items]
        await self.writer.write(ctx, map(State, [item.id for item in items], versions, items))

    async def rank(
        self, ctx: TenantContext, text: str, *filter: VectorCondition, **parameters: Any
    ) -> list[Found]:
        """What is found, best first, as of `NOW`."""
        scope = Scope(ctx.stores, ctx.tenant, self.collection, filter)
        query = read_query(text, self.analyzer)
        ranking = await self.searcher.rank(
            await narrow(scope, query, self.analyzer), query, SearchParameters(**parameters), NOW
        )
        return ranking.found

    async def delete(self, ctx: TenantContext, *ids: str) -> None:
        version = Version.of(datetime.now(UTC), f"{next(self._places)}-0")
        await self.writer.write(ctx, [State(id, version, is_deletion=True) for id in ids])


@pytest.fixture
def index(ctx: TenantContext) -> Index:
    return Index(ctx.services)


Opener = Callable[..., httpx.AsyncClient]


@pytest.fixture
def api(ctx: TenantContext) -> Opener:
    """Opens a client as some caller: `api(boards=frozenset({"b1"}), user="ana")`."""
    app = FastAPI()
    app.include_router(routes(ctx.services), prefix="/search")

    @app.exception_handler(ShoalError)
    async def problem(request: Request, error: ShoalError) -> JSONResponse:
        return JSONResponse(error.problem(), error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": str(error.errors())}, 422)

    def open_client(**caller: Any) -> httpx.AsyncClient:
        context = replace(ctx, **caller)

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            scope["shoal.context"] = context
            await app(scope, receive, send)

        return httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://shoal")

    return open_client


@pytest.fixture
def item() -> Callable[..., dict[str, Any]]:
    """Makes an item as it stands in a request."""

    def make(
        id: str = "1", text: str = "The sign-in form takes ten seconds.", **fields: Any
    ) -> dict[str, Any]:
        return {
            "id": id,
            "board_id": "b1",
            "type": "item",
            "title": "",
            "text": text,
            "updated_at": "2026-11-20T10:00:00Z",
            **fields,
        }

    return make
