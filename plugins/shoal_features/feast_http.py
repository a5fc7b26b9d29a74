"""A tenant's key to Shoal, as Feast's stores use it: in a notebook nothing is reached
but HTTP.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import httpx
from feast.repo_config import FeastConfigBaseModel
from pydantic import SecretStr

PARQUET = "application/vnd.apache.parquet"
RETRIES = 4


class ShoalConfig(FeastConfigBaseModel):
    """Where Shoal is, and the key to it (`feature_store.yaml` takes `${SHOAL_KEY}` from
    the environment).
    """

    url: str = "http://127.0.0.1:8000"
    key: SecretStr
    timeout: float = 60.0


class ShoalError(RuntimeError):
    """What Shoal refused, in its own words."""


@lru_cache(maxsize=8)
def _client(url: str, key: str, timeout: float) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=timeout)


def call(config: ShoalConfig, method: str, path: str, **request: Any) -> httpx.Response:
    """One request. Waits and asks again while Shoal is busy or away; raises ShoalError
    for a refusal.
    """
    client = _client(config.url.rstrip("/"), config.key.get_secret_value(), config.timeout)
    for attempt in range(RETRIES + 1):
        answer = client.request(method, path, **request)
        if answer.status_code not in (429, 503) or attempt == RETRIES:
            break
        time.sleep(min(float(answer.headers.get("retry-after", 1)), 10.0))
    if answer.status_code >= 400:
        try:
            problem = answer.json()
            said = problem.get("detail") or problem.get("title")
        except ValueError:
            said = answer.text[:200]
        raise ShoalError(f"{method} {path}: {answer.status_code}: {said}")
    return answer


def chunked(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def tenant_query(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The query that makes Shoal check that these rows are of the key's own tenant:
    `tenant_id` where they have it.
    """
    tenants = {str(r["tenant_id"]) for r in rows if r.get("tenant_id") is not None}
    if len(tenants) > 1:
        raise ShoalError(f"rows of {len(tenants)} tenants in one call; a key is of one tenant")
    return {"tenant": tenants.pop()} if tenants else {}
