"""Feast's online store on Shoal.

In `feature_store.yaml`: `online_store: {type:
shoal_features.feast_online.ShoalOnlineStore, url: …, key: …}`.
"""

import asyncio
import base64
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import httpx
from feast import Entity, FeatureView, RepoConfig
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from pydantic import SecretStr

from .definitions import TENANT_KEY, compile_objects
from .feast_http import ShoalConfig, ShoalError, call, chunked, tenant_query
from .registry import Registry

IDS_PER_REQUEST = 1_000
ROWS_PER_REQUEST = 5_000
Read = list[tuple[datetime | None, dict[str, Value] | None]]


class ShoalOnlineStoreConfig(ShoalConfig):
    type: Literal["shoal_features.feast_online.ShoalOnlineStore"] = (
        "shoal_features.feast_online.ShoalOnlineStore"
    )


class ShoalOnlineStore(OnlineStore):
    """Reads and writes the features of the key's tenant.

    `apply` registers the views with Shoal; `teardown` removes nothing, since other
    projects may use the same views.
    """

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        return SupportedAsyncMethods(read=True, write=True)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> Read:
        names = requested_features or [f.name for f in table.features]
        types = {f.name: f.dtype.to_value_type() for f in table.features}
        body = {
            "entity": _entity(config.online_store, table),
            "features": [f"{table.name}:{n}" for n in names],
            "metadata": True,
        }
        out: Read = []
        keys = [_key(k) for k in entity_keys]
        for some in chunked(keys, IDS_PER_REQUEST):
            ids = [_id(k) for k in some]
            answer = call(
                config.online_store,
                "POST",
                "/features/batch",
                json={**body, "ids": ids},
                params=tenant_query(some),
            ).json()
            out += [_parse_result(result, types) for result in answer["results"]]
        return out

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> Read:
        return await asyncio.to_thread(
            self.online_read, config, table, entity_keys, requested_features
        )

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        for some in chunked(data, ROWS_PER_REQUEST):
            keys = [_key(k) for k, *_ in some]
            rows = []
            for key, (_, values, event, created) in zip(keys, some, strict=True):
                row = {
                    "event_timestamp": event,
                    **{n: feast_value_type_to_python_type(v) for n, v in values.items()},
                }
                if created is not None:
                    row["created"] = created
                rows.append({**_entity_key(key), **row})
            push_rows(config.online_store, table.name, rows, "online", tenant_query(keys))
            if progress:
                progress(len(some))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        kept = compile_objects(
            [*entities_to_keep, *(t for t in tables_to_keep if isinstance(t, FeatureView))]
        )
        known = Registry.from_dict(call(config.online_store, "GET", "/features/views").json())
        replaced = {v.name for v in kept.views} | {t.name for t in tables_to_delete}
        views = (*(v for v in known.views if v.name not in replaced), *kept.views)
        features = {f"{v.name}:{f.name}" for v in views for f in v.features}
        services = {s: refs for s, refs in known.services.items() if features.issuperset(refs)}
        if views != known.views or services != dict(known.services):
            call(
                config.online_store,
                "PUT",
                "/features/definitions",
                params={"prune": "true"},
                json=Registry(views, services).to_dict(),
            )

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]
    ) -> None:
        pass


def push_rows(
    config: ShoalConfig, view: str, rows: list[dict[str, Any]], to: str, query: dict[str, str]
) -> httpx.Response:
    """Write rows of a view, with values as Python has them.

    Raises:
        ValueError: When rows were rejected.
    """
    sent = [_to_json_row(n, row) for n, row in enumerate(rows)]
    answer = call(
        config, "POST", f"/features/views/{view}/rows", json={"rows": sent, "to": to}, params=query
    )
    rejected = answer.json()["rejected"]
    if rejected:
        first = rejected[0]
        raise ValueError(
            f"{len(rejected)} of {len(rows)} rows were rejected;"
            f" row {first['index']}: {first['error']}"
        )
    return answer


def utc_time(time: datetime) -> datetime:
    """A time with a zone. Feast's times without one are UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def rfc3339(time: datetime) -> str:
    """A time as RFC 3339."""
    return utc_time(time).isoformat()


def _entity(config: ShoalConfig, table: FeatureView) -> str:
    """The view's entity type, besides the tenant."""
    if len(table.entities) == 1:
        return table.entities[0]
    return _registered_entity(config.url, config.key.get_secret_value(), table.name)


@lru_cache(maxsize=1000)  # a view's entity type never changes
def _registered_entity(url: str, key: str, view: str) -> str:
    config = ShoalConfig(url=url, key=SecretStr(key))
    for known in call(config, "GET", "/features/views").json()["views"]:
        if known["name"] == view:
            return str(known["entity"])
    raise ShoalError(f"the view {view} is not registered; run `feast apply`")


def _key(key: EntityKey) -> dict[str, Any]:
    return {
        n: feast_value_type_to_python_type(v)
        for n, v in zip(key.join_keys, key.entity_values, strict=True)
    }


def _entity_key(key: dict[str, Any]) -> dict[str, str]:
    """The join key besides the tenant's, and the id."""
    return next({n: str(v)} for n, v in key.items() if n != TENANT_KEY)


def _id(key: dict[str, Any]) -> str:
    return next(iter(_entity_key(key).values()))


def _parse_result(
    result: dict[str, Any], types: dict[str, Any]
) -> tuple[datetime | None, dict[str, Value] | None]:
    known = [m["event_timestamp"] for m in result["metadata"].values() if m["status"] == "present"]
    if not known:
        return None, None
    values = {}
    for name, value in result["features"].items():
        dtype = result["metadata"][name]["type"]
        if value is not None and dtype.startswith(("unix_timestamp", "bytes")):
            value = _decode(dtype, value)
        if dtype in ("float32[]", "float64[]") and value is not None:
            value = [math.nan if v is None else v for v in value]
        values[name] = (
            Value() if value is None else python_values_to_proto_values([value], types[name])[0]
        )
    return datetime.fromisoformat(max(known)), values


def _decode(dtype: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(dtype, v) for v in value]
    return (
        datetime.fromisoformat(value)
        if dtype.startswith("unix_timestamp")
        else base64.b64decode(value)
    )


def _to_json_row(index: int, row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON has it: times in RFC 3339, bytes in base64, NaN as null.

    Raises:
        ValueError: For an infinite number, with the row.
    """

    def convert(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [convert(name, v) for v in value]
        if isinstance(value, datetime):
            return rfc3339(value)
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, float) and not math.isfinite(value):
            if math.isnan(value):
                return None
            raise ValueError(f"row {index}: {name}: {value} is not a finite number")
        return value

    return {name: convert(name, value) for name, value in row.items()}
