"""What the route guard relies on in FastAPI, one test for each."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts, request_response

from shoal.router.problems import install_problem_handlers
from shoal.router.route_guard import GuardedRoute, enforce_roles


@pytest.fixture
def router() -> APIRouter:
    inner, outer = APIRouter(), APIRouter()

    @inner.post("/items/{id}")
    async def put(id: str, request: Request) -> dict[str, Any]:
        return {"id": id}

    outer.include_router(inner, prefix="/nested")
    return outer


def test_iter_route_contexts_finds_nested_routes(router: APIRouter) -> None:
    (context,) = iter_route_contexts(router.routes)
    assert context.path_format == "/nested/items/{id}" and context.methods == {"POST"}
    assert isinstance(context.original_route, APIRoute)


def test_a_route_runs_what_get_route_handler_returns(router: APIRouter) -> None:
    enforce_roles(router)
    (context,) = iter_route_contexts(router.routes)
    assert isinstance(context.original_route, GuardedRoute)
    assert callable(request_response(context.original_route.get_route_handler()))


def test_an_included_route_is_guarded(router: APIRouter) -> None:
    enforce_roles(router)
    app = FastAPI()
    app.include_router(router, prefix="/capability")
    install_problem_handlers(app)

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shoal") as client:
            return await client.post("/capability/nested/items/1")

    response = asyncio.run(post())
    assert response.status_code == 500 and "id" not in response.json()
