"""Real Redis, Milvus and model, started once; every test has a tenant of its own."""

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from shoal import Role, ShoalError, TenantContext
from shoal.contract.rights import SERVICE_RIGHTS
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores
from shoal_search.analyzer import Analyzer
from shoal_search.embedder import Embedder, EmbedRequest
from shoal_search.index import Index
from shoal_search.onnx_encoder import OnnxModel
from shoal_search.parameters import SearchSettings
from shoal_search.routes import routes


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
    """The services of a replica, with the backend in this process."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def settings(self, model: type[Any]) -> Any:
        return model()

    def backend(self, name: str) -> Any:
        assert name == "embedder"
        return self

    async def embed(self, call: EmbedRequest) -> np.ndarray:
        return self._embedder.embed([call])[0]

    async def onnx_model(self) -> OnnxModel | None:
        return self._embedder.onnx_model()


@pytest.fixture
async def ctx(config: StoreConfig, embedder: Embedder) -> AsyncIterator[TenantContext]:
    """The service itself of a tenant that no other test has."""
    tenant = f"acme-{secrets.token_hex(4)}"
    yield TenantContext(
        tenant=tenant,
        role=Role.editor,
        rights=SERVICE_RIGHTS[Role.editor],
        user=None,
        boards=None,
        request_id="r",
        stores=open_stores(config, tenant),
        services=Services(embedder),
        resolve=lambda model: model(),
        operations=lambda name, ctx: None,
    )
    await close_connections()


@pytest.fixture
def index(ctx: TenantContext) -> Index:
    embedder = ctx.services.backend("embedder")
    return Index(ctx.services.settings(SearchSettings), embedder.embed, embedder.onnx_model)


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
