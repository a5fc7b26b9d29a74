"""Operations that Prometheus and OpenTelemetry send their metrics to."""

from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from shoal import Invalid, TenantContext, UnsupportedMediaType, off_loop, requires

from . import otlp, prometheus
from .intake import MAX_POINTS, append_points, named_faults

PROTOBUF, JSON = "application/x-protobuf", "application/json"
MESSAGE = {"type": "string", "format": "binary", "maxLength": prometheus.MAX_BYTES}
EXPORT = {
    "type": "object",
    "maxProperties": 1,
    "properties": {
        "resourceMetrics": {
            "type": "array",
            "maxItems": MAX_POINTS,
            "items": {"type": "object", "maxProperties": 10},
        }
    },
}
EXPORTED = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "partialSuccess": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "rejectedDataPoints": {"type": "string"},
                "errorMessage": {"type": "string"},
            },
        }
    },
}
ContentType = Annotated[str, Header(include_in_schema=False)]

router = APIRouter()


@router.post(
    "/api/v1/write",
    status_code=204,
    openapi_extra={"requestBody": {"required": True, "content": {PROTOBUF: {"schema": MESSAGE}}}},
)
async def write_prometheus(
    request: Request,
    content_type: ContentType = "",
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> None:
    """Prometheus' `remote_write`, version 1.

    Valid samples are written. With invalid ones it answers 422, after which Prometheus
    does not send them again.
    """
    if "io.prometheus.write.v2" in content_type:
        raise UnsupportedMediaType("remote write 2.0 is not taken: send version 1.0")
    batch = await off_loop(prometheus.read_samples, await request.body(), MAX_POINTS)
    await append_points(ctx, list(batch.accepted.values()))
    if batch.rejected:
        faults = named_faults(batch, "sample", 0)
        raise Invalid(f"{len(batch.rejected)} samples were not written", errors=faults)


@router.post(
    "/v1/metrics",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {PROTOBUF: {"schema": MESSAGE}, JSON: {"schema": EXPORT}},
        }
    },
    response_class=Response,
    responses={
        200: {
            "content": {PROTOBUF: {"schema": MESSAGE}, JSON: {"schema": EXPORTED}},
        }
    },
)
async def export_metrics(
    request: Request,
    content_type: ContentType = PROTOBUF,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> Response:
    """OpenTelemetry's metrics by OTLP/HTTP: protobuf or JSON.

    Valid data points are written; the answer counts the others (`partial_success`).
    """
    is_json = content_type.partition(";")[0].strip().lower() == JSON
    body = await request.body()
    batch = await off_loop(otlp.read_metrics, body, MAX_POINTS, is_json=is_json)
    await append_points(ctx, list(chain.from_iterable(batch.accepted.values())))
    answer = otlp.response_body(batch, is_json=is_json)
    return Response(answer, media_type=JSON if is_json else PROTOBUF)
