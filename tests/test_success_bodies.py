"""The check of bodies finds what a document does not say."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict

from .success_bodies import CheckedApplication

app = FastAPI()


class Greeting(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str


@app.get("/greeting/{name}", responses={200: {"model": Greeting}})
def greet(name: str, status: int = 200) -> Response:
    content = b'{"text": 3}' if name == "wrong" else b'{"text": "Hello"}'
    return Response(content, status, media_type="application/json")


async def get(path: str) -> httpx.Response:
    checked: Any = CheckedApplication(app, app.openapi())
    transport = httpx.ASGITransport(app=checked)
    async with httpx.AsyncClient(transport=transport, base_url="http://shoal") as client:
        return await client.get(path)


@pytest.mark.anyio
async def test_a_described_body_is_sent_as_it_is() -> None:
    response = await get("/greeting/ana")
    assert (response.status_code, response.json()) == (200, {"text": "Hello"})


@pytest.mark.anyio
async def test_a_body_unlike_its_document_fails_the_request() -> None:
    response = await get("/greeting/wrong")
    assert response.status_code == 500
    assert "is not of type" in response.text


@pytest.mark.anyio
async def test_a_status_without_a_model_fails_the_request() -> None:
    assert (await get("/greeting/ana?status=201")).status_code == 500
