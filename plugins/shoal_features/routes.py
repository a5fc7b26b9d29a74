"""The HTTP operations of the feature store.

The handlers are functions of `handlers`; their names are the names of the operations.
"""

from fastapi import APIRouter

from shoal import Services

from .handlers import datasets, definitions, historical, rows, serving


def routes(services: Services) -> APIRouter:
    """The router of the capability `features`."""
    router = APIRouter()
    add = router.add_api_route
    add("", serving.get, methods=["GET"], openapi_extra=serving.GET_SCHEMA)
    add("/batch", serving.batch, methods=["POST"], openapi_extra={"x-shoal-safe": True})
    add(
        "/historical",
        historical.historical,
        methods=["POST"],
        openapi_extra=historical.HISTORICAL_SCHEMA,
    )
    add("/views", definitions.views, methods=["GET"])
    add("/definitions", definitions.apply, methods=["PUT"])
    add("/freshness", definitions.freshness, methods=["GET"])
    add("/views/{view}/rows", rows.push, methods=["POST"], openapi_extra=rows.PUSH_SCHEMA)
    add("/views/{view}/rows", rows.rows, methods=["GET"])
    add("/datasets/{name}", datasets.upload, methods=["POST"], openapi_extra=datasets.UPLOAD_SCHEMA)
    add("/datasets/{name}", datasets.download, methods=["GET"])
    add("/datasets/{name}", datasets.forget, methods=["DELETE"])
    return router
