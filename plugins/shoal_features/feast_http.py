"""How Feast's stores reach Shoal: over HTTP, with a tenant's key."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import httpx
from feast.repo_config import FeastConfigBaseModel
from pydantic import SecretStr

PARQUET = "application/vnd.apache.parquet"
RETRIES = 4
MAX_WAIT = 10.0
"""Seconds before a retry, at most."""


class ShoalConfig(FeastConfigBaseModel):
    """Where Shoal is, and a key of the tenant.

    `feature_store.yaml` takes `${SHOAL_KEY}` from the environment.
    """

    url: str = "http://127.0.0.1:8000"
    key: SecretStr
    timeout: float = 60.0


class ShoalError(RuntimeError):
    """A request that Shoal refused, with its reason."""


@lru_cache(maxsize=8)
def _client(url: str, key: str, timeout: float) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=timeout)


def call(config: ShoalConfig, method: str, path: str, **request: Any) -> httpx.Response:
    """Send a request; wait and retry while Shoal is busy or unavailable.

    Args:
        config: Where, and with which key.
        method: Such as `GET`.
        path: Such as `/features/views`.
        request: Arguments of `httpx.Client.request`.

    Raises:
        ShoalError: When the request is refused.
    """
    client = _client(config.url.rstrip("/"), config.key.get_secret_value(), config.timeout)
    for attempt in range(RETRIES + 1):
        response = client.request(method, path, **request)
        if response.status_code not in (429, 503) or attempt == RETRIES:
            break
        time.sleep(min(float(response.headers.get("retry-after", 1)), MAX_WAIT))
    if response.status_code >= 400:
        try:
            problem = response.json()
            reason = problem.get("detail") or problem.get("title")
        except ValueError:
            reason = response.text[:200]
        raise ShoalError(f"{method} {path}: {response.status_code}: {reason}")
    return response


def chunked(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """The items in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def tenant_query(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The query that makes Shoal check the tenant of rows that have `tenant_id`.

    Raises:
        ShoalError: When the rows are of several tenants.
    """
    return query_of_tenants({str(r["tenant_id"]) for r in rows if r.get("tenant_id") is not None})


def query_of_tenants(tenants: set[str]) -> dict[str, str]:
    """As `tenant_query`, for the tenants of some rows."""
    if len(tenants) > 1:
        raise ShoalError(f"rows of {len(tenants)} tenants in one call; a key is of one tenant")
    return {"tenant": next(iter(tenants))} if tenants else {}
