"""InfluxDB 1.x (or 2.x through its v1 API) as the long-term store of series."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import numpy as np

from shoal import Egress, Unavailable

from . import recent_points
from .archive import Row
from .line_protocol import format_line
from .recent_points import SeriesPoints

log = logging.getLogger("shoal.anomalies")

MEASUREMENT = "metrics"
BATCH = 5_000
MAX_BYTES = 1 << 31
"""Of a response, which may have all of a tenant's points of 90 days."""


class InfluxArchive:
    """A database per tenant, named `<prefix><tenant>`.

    A point is a row of the measurement `metrics`, with the tags series and metric and
    the fields value and score. The database's retention policy drops points older than
    90 days.

    Args:
        uri: `influxdb://user:password@host:8086/prefix` (`influxdbs` for TLS).
        tenant: The tenant's id.
        egress: Makes the connections.
        timeout: Seconds to wait for an answer.

    Raises:
        ValueError: The URI is not valid.
    """

    def __init__(self, uri: str, tenant: str, egress: Egress, *, timeout: float = 60.0) -> None:
        parts = urlsplit(uri)
        if parts.scheme not in ("influxdb", "influxdbs") or not parts.hostname:
            raise ValueError(
                "the URI of a series store is influxdb://user:password@host:8086/prefix"
            )
        scheme = "https" if parts.scheme == "influxdbs" else "http"
        self._database = f"{parts.path.strip('/') or 'shoal_'}{tenant}"
        auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        address = f"{scheme}://{parts.netloc.rpartition('@')[2]}{'' if parts.port else ':8086'}"
        self._egress = egress
        self._client_options: dict[str, Any] = {
            "trusted": [address],
            "base_url": address,
            "auth": auth,
            "timeout": timeout,
            "max_bytes": MAX_BYTES,
        }
        self._ready = False

    async def write(self, rows: Sequence[Row]) -> None:
        await self._prepare()
        for first in range(0, len(rows), BATCH):
            lines = [_line(row) for row in rows[first : first + BATCH]]
            await self._request(
                "POST", "/write", {"db": self._database, "precision": "ns"}, "\n".join(lines)
            )

    async def read(self, series: str, start: float, end: float) -> SeriesPoints:
        condition = f"AND \"series\" = '{_quoted(series)}'"
        return (await self._select(condition, start, end)).get(series, recent_points.NO_POINTS)

    async def read_all(
        self, start: float, end: float, only: Sequence[str] | None = None
    ) -> Mapping[str, SeriesPoints]:
        names = "|".join(map(re.escape, only or ()))
        return await self._select(
            "" if only is None else f'AND "series" =~ /^({names})$/', start, end
        )

    async def _select(self, condition: str, start: float, end: float) -> dict[str, SeriesPoints]:
        await self._prepare()
        query = (
            f"SELECT value, score FROM {MEASUREMENT} WHERE time >= {round(start * 1e9)}"
            f' AND time < {round(end * 1e9)} {condition} GROUP BY "series"'
        )
        answer = await self._request(
            "GET", "/query", {"db": self._database, "q": query, "epoch": "ns"}
        )
        found = {}
        for result in answer.get("results", []):
            for group in result.get("series", []):
                records = np.array(
                    [
                        (t / 1e9, v, math.nan if s is None else s)
                        for t, v, s in group["values"]
                        if v is not None
                    ],
                    recent_points.RECORD,
                )
                found[group["tags"]["series"]] = recent_points.merge_records(records)
        return found

    async def drop(self, before: date) -> int:
        await self._prepare()
        nanoseconds = round(
            datetime(before.year, before.month, before.day, tzinfo=UTC).timestamp() * 1e9
        )
        await self._request(
            "POST",
            "/query",
            {"db": self._database, "q": f"DELETE FROM {MEASUREMENT} WHERE time < {nanoseconds}"},
        )
        return 0

    async def erase(self) -> None:
        """Delete the tenant's database."""
        await self._request("POST", "/query", {"q": f'DROP DATABASE "{_quoted(self._database)}"'})
        self._ready = False

    async def _prepare(self) -> None:
        if not self._ready:
            query = (
                f'CREATE DATABASE "{_quoted(self._database)}" WITH DURATION 91d REPLICATION 1'
                ' SHARD DURATION 1d NAME "retention"'
            )
            await self._request("POST", "/query", {"q": query})
            self._ready = True

    async def _request(
        self, method: str, path: str, params: Mapping[str, str], body: str | None = None
    ) -> dict[str, Any]:
        try:
            async with self._egress.async_client(**self._client_options) as http:
                response = await http.request(method, path, params=dict(params), content=body)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the series store is unavailable: {type(error).__name__}", retry_after=5
            ) from error
        if response.status_code >= 300:
            raise _rejected(f"status {response.status_code}: {response.text[:300]}")
        answer: dict[str, Any] = response.json() if response.content else {}
        for result in answer.get("results", []):
            if "error" in result:
                raise _rejected(result["error"][:300])
        return answer


def _rejected(reason: str) -> Unavailable:
    log.warning("the series store rejected a request: %s", reason)
    return Unavailable("the series store rejected the request; its log says why", retry_after=5)


def _line(row: Row) -> str:
    fields = {"value": row.value}
    if not math.isnan(row.score):
        fields["score"] = row.score
    tags = {"series": row.series, "metric": row.metric}
    return format_line(MEASUREMENT, tags, fields, round(row.time * 1e9))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'").replace('"', '\\"')
