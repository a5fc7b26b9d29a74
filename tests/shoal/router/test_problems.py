"""Error responses, and JSON responses."""

from typing import Any

import numpy as np
import orjson
import pytest
from fastapi import FastAPI, HTTPException
from httpx import ASGITransport, AsyncClient

from shoal import LimitExceeded, NotFound, ShoalError
from shoal.router.problems import JSON, install_problem_handlers, respond

pytestmark = pytest.mark.anyio


async def ask(app: FastAPI, path: str = "/", method: str = "GET") -> Any:
    install_problem_handlers(app)
    async with AsyncClient(
        transport=ASGITransport(app=app, raise_app_exceptions=False), base_url="http://shoal"
    ) as client:
        return await client.request(method, path)


def test_an_error_survives_the_round_trip_as_a_problem() -> None:
    error = LimitExceeded("too much", retry_after=0.2, errors=[{"location": "x", "message": "y"}])
    status, headers, body = respond(error, "r1")
    assert (status, dict(headers)[b"retry-after"], error.request_id) == (429, b"1", None)
    again = ShoalError.from_problem(status, orjson.loads(body))
    assert (type(again), again.detail, again.errors, again.retry_after, again.request_id) == (
        LimitExceeded,
        "too much",
        error.errors,
        0.2,
        "r1",
    )


async def test_http_exceptions_keep_their_status_and_headers() -> None:
    app = FastAPI()

    @app.get("/")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout", headers={"x-kind": "teapot"})

    response = await ask(app)
    assert (response.status_code, response.headers["x-kind"]) == (418, "teapot")
    assert (response.json()["status"], response.json()["detail"]) == (418, "short and stout")


async def test_a_404_names_the_path() -> None:
    response = await ask(FastAPI(), "/no/such")
    assert response.json()["detail"] == "GET /no/such: not found"
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_unexpected_error_is_a_500_without_details() -> None:
    app = FastAPI()

    @app.get("/")
    async def defect() -> None:
        raise KeyError("the password")

    response = await ask(app)
    assert (response.status_code, "password" in response.text) == (500, False)
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_errors_values_outside_json_are_replaced() -> None:
    app = FastAPI()

    @app.get("/")
    async def odd() -> None:
        raise NotFound("no", errors=[{"location": "x", "message": float("nan"), "value": object}])

    response = await ask(app)
    assert response.status_code == 404
    assert response.json()["errors"][0]["message"] is None


def test_responses_may_contain_nan_and_numpy() -> None:
    body = JSON({"a": [float("nan"), float("inf"), np.float32(0.5), np.arange(2)], 1: "x"}).body
    assert bytes(body) == b'{"a":[null,null,0.5,[0,1]],"1":"x"}'
