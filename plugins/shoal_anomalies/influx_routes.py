"""InfluxDB's own operations, for Telegraf and InfluxDB's clients, 1.x and 2.x."""

import re
from itertools import chain
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request, Response

from shoal import Malformed, ShoalError, TenantContext, off_loop, requires

from . import bodies
from .intake import MAX_POINTS, append_points, named_faults, read_points
from .line_protocol import Precision

VERSION = "1.8.10"
"""What clients are told: the last 1.x, which takes the requests of both."""
VERSION_HEADERS = {"x-influxdb-version": VERSION, "x-influxdb-build": "Shoal"}
DATABASE = "shoal"
MAX_QUERY = 10_000  # characters

LINES_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/plain": {
                "schema": {
                    "type": "string",
                    "maxLength": MAX_POINTS * 2**16,
                    "description": "InfluxDB line protocol",
                }
            }
        },
    }
}
QUERY_BODY = {
    "requestBody": {
        "required": False,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        name: {"type": "string", "maxLength": MAX_QUERY}
                        for name in ("q", "db", "epoch")
                    },
                }
            }
        },
    }
}
TimestampUnit = Annotated[Precision, Query(description="unit of line protocol's timestamps")]
Ignored = Annotated[str | None, Query(max_length=200, description="Has no effect.")]
Statement = Annotated[str, Query(max_length=MAX_QUERY, description="a statement of InfluxQL")]

router = APIRouter()


class PartialWrite(ShoalError):
    """Some lines were not written; the others were.

    Its problem also has the fields by which InfluxDB's clients tell that: they drop the
    batch instead of sending it again.
    """

    status, title, location = 400, "Partial write", "body"

    def problem(self) -> dict[str, Any]:
        return {
            **super().problem(),
            "error": self.detail,
            "code": "invalid",
            "message": self.detail,
        }


@router.get("/ping", status_code=204)
async def ping(
    response: Response,
    verbose: Ignored = None,
    wait_for_leader: Ignored = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> None:
    """Whether the service answers, as InfluxDB says it."""
    response.headers.update(VERSION_HEADERS)


@router.get("/query", responses={200: {"model": bodies.InfluxResults}})
async def query(
    q: Statement,
    db: Ignored = None,
    epoch: Ignored = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """Answer `SHOW DATABASES` and `CREATE DATABASE`, as clients send at their start.

    There is one database, which is always there. Points are read by `GET /series`.
    """
    return _answer(q)


@router.post("/query", openapi_extra=QUERY_BODY, responses={200: {"model": bodies.InfluxResults}})
async def post_query(
    request: Request,
    q: Annotated[str | None, Query(max_length=MAX_QUERY, description="the statement")] = None,
    db: Ignored = None,
    epoch: Ignored = None,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> dict[str, Any]:
    """`GET /query`, with the statement in the query or in a form."""
    if q is None:
        body = await request.body()
        if len(body) > 3 * MAX_QUERY:
            raise Malformed(f"a form with a statement has at most {3 * MAX_QUERY} bytes")
        q = parse_qs(body.decode(errors="replace"), max_num_fields=10).get("q", [""])[0]
    return _answer(q)


def _answer(statement: str) -> dict[str, Any]:
    words = re.split(r"[\s;]+", statement.strip(), maxsplit=2)
    match [word.upper() for word in words[:2]]:
        case ["CREATE", "DATABASE"]:
            return {"results": [{"statement_id": 0}]}
        case ["SHOW", "DATABASES"]:
            table = {"name": "databases", "columns": ["name"], "values": [[DATABASE]]}
            return {"results": [{"statement_id": 0, "series": [table]}]}
    raise PartialWrite(
        "only SHOW DATABASES and CREATE DATABASE are answered; read points by GET /anomalies/series"
    )


@router.post("/write", status_code=204, openapi_extra=LINES_BODY)
async def write(
    request: Request,
    response: Response,
    precision: TimestampUnit = "ns",
    db: Ignored = None,
    rp: Ignored = None,
    consistency: Ignored = None,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> None:
    """InfluxDB's own write operation, for Telegraf: line protocol.

    Valid lines are written. With invalid ones it answers 400, as InfluxDB does: a
    partial write, which is not to be sent again. `db`, `rp` and `consistency`, which
    InfluxDB takes, have no effect.
    """
    await _write(request, precision, ctx)
    response.headers.update(VERSION_HEADERS)


@router.post("/api/v2/write", status_code=204, openapi_extra=LINES_BODY)
async def write_v2(
    request: Request,
    response: Response,
    precision: TimestampUnit = "ns",
    org: Ignored = None,
    org_id: Annotated[str | None, Query(alias="orgID", max_length=200)] = None,
    bucket: Ignored = None,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> None:
    """`POST /write` as InfluxDB 2 has it; `org` and `bucket` have no effect."""
    await _write(request, precision, ctx)
    response.headers.update(VERSION_HEADERS)


async def _write(request: Request, precision: Precision, ctx: TenantContext) -> None:
    batch = await off_loop(read_points, await request.body(), "text/plain", precision)
    await append_points(ctx, list(chain.from_iterable(batch.accepted.values())))
    if batch.rejected:
        faults = named_faults(batch, "line", 1)
        first = f"{faults[0]['location']}: {faults[0]['message']}"
        dropped = len(batch.rejected)
        raise PartialWrite(f"partial write: {first} dropped={dropped}", errors=faults)
