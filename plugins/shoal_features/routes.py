"""The HTTP operations of the feature store.

The handlers are functions of `handlers`; their names are the names of the operations.
"""

from typing import Any

from fastapi import APIRouter, Response

from shoal import BatchResult, Services

from .bodies import (
    AcceptedRows,
    AppliedDefinitions,
    BatchFeatures,
    DatasetSize,
    EntityFeatures,
    Freshness,
    HistoricalRows,
    RegisteredDefinitions,
    RemovedFiles,
)
from .handlers import datasets, definitions, historical, rows, serving
from .handlers.requests import PARQUET


def routes(services: Services) -> APIRouter:
    """The router of the capability `features`."""
    router = APIRouter()
    parquet: dict[str, Any] = {"content": {PARQUET: datasets.FILE}}

    def add(method: str, path: str, handler: Any, answer: dict[str, Any], **options: Any) -> None:
        options["responses"] = {200: answer}
        router.add_api_route(path, handler, methods=[method], **options)

    def of(model: Any) -> dict[str, Any]:
        return {"model": model}

    safe = {"x-shoal-safe": True}
    add("GET", "", serving.get, of(EntityFeatures), openapi_extra=serving.GET_SCHEMA)
    add("POST", "/batch", serving.batch, of(BatchFeatures), openapi_extra=safe)
    add(
        "POST",
        "/historical",
        historical.historical,
        of(HistoricalRows) | parquet,
        openapi_extra=historical.HISTORICAL_SCHEMA,
    )
    add("GET", "/views", definitions.views, of(RegisteredDefinitions))
    add("PUT", "/definitions", definitions.apply, of(AppliedDefinitions))
    add("GET", "/freshness", definitions.freshness, of(Freshness))
    add("POST", "/views/{view}/rows", rows.push, of(BatchResult), openapi_extra=rows.PUSH_SCHEMA)
    add("GET", "/views/{view}/rows", rows.rows, parquet, response_class=Response)
    add(
        "POST",
        "/datasets/{name}",
        datasets.upload,
        of(AcceptedRows),
        openapi_extra=datasets.UPLOAD_SCHEMA,
    )
    add("GET", "/datasets/{name}", datasets.download, of(DatasetSize) | parquet)
    add("DELETE", "/datasets/{name}", datasets.forget, of(RemovedFiles))
    return router
