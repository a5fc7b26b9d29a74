"""Feast's online store on Shoal.

In `feature_store.yaml`: `online_store: {type:
shoal_features.feast_online.ShoalOnlineStore, url: …, key: …}`.
"""

import asyncio
import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
from feast import Entity, FeatureView, RepoConfig
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values

from .definitions import TENANT_KEY, compile_objects
from .feast_http import ShoalConfig, call, chunked, tenant_query
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
            "entity": _entity(table),
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
                    "event_timestamp": rfc3339(event),
                    **{n: _to_json_value(v) for n, v in values.items()},
                }
                if created is not None:
                    row["created"] = rfc3339(created)
                rows.append({_entity(table): _id(key), **row})
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
    """Write rows of a view.

    Raises:
        ValueError: When rows were rejected.
    """
    answer = call(
        config, "POST", f"/features/views/{view}/rows", json={"rows": rows, "to": to}, params=query
    )
    rejected = answer.json()["rejected"]
    if rejected:
        first = rejected[0]
        raise ValueError(
            f"{len(rejected)} of {len(rows)} rows were rejected;"
            f" row {first['index']}: {first['error']}"
        )
    return answer


def rfc3339(time: datetime) -> str:
    """A time as RFC 3339. Feast's times without a zone are UTC."""
    return (time.replace(tzinfo=UTC) if time.tzinfo is None else time).isoformat()


def _entity(table: FeatureView) -> str:
    """The view's entity type, besides the tenant."""
    return next(n for n in table.entities if n != "tenant")


def _key(key: EntityKey) -> dict[str, Any]:
    return {
        n: feast_value_type_to_python_type(v)
        for n, v in zip(key.join_keys, key.entity_values, strict=True)
    }


def _id(key: dict[str, Any]) -> str:
    return next(str(v) for n, v in key.items() if n != TENANT_KEY)


def _parse_result(
    result: dict[str, Any], types: dict[str, Any]
) -> tuple[datetime | None, dict[str, Value] | None]:
    known = [m["event_timestamp"] for m in result["metadata"].values() if m["status"] == "present"]
    if not known:
        return None, None
    values = {}
    for name, value in result["features"].items():
        if value is not None and result["metadata"][name]["type"].startswith(
            ("unix_timestamp", "bytes")
        ):
            value = _decode(result["metadata"][name]["type"], value)
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


def _to_json_value(value: Value) -> Any:
    """A value as JSON has it."""
    plain = feast_value_type_to_python_type(value)

    def one(v: Any) -> Any:
        if isinstance(v, datetime):
            return rfc3339(v)
        return base64.b64encode(v).decode() if isinstance(v, bytes) else v

    return [one(v) for v in plain] if isinstance(plain, list) else one(plain)
