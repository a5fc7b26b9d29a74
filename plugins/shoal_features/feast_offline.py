"""Feast's offline store on Shoal: `offline_store: {type:
shoal_features.feast_offline.ShoalOfflineStore, url: …, key: …}`.
"""

import io
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureStore, FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.saved_dataset import SavedDatasetStorage

from .definitions import TENANT_KEY
from .feast_http import PARQUET, ShoalConfig, ShoalError, call, chunked, tenant_query
from .feast_online import push_rows, rfc3339

TIME = pa.timestamp("us", "UTC")
ROWS = 50_000
WRITTEN = 5_000


class ShoalOfflineStoreConfig(ShoalConfig):
    type: Literal["shoal_features.feast_offline.ShoalOfflineStore"] = (
        "shoal_features.feast_offline.ShoalOfflineStore"
    )


class ShoalRetrievalJob(RetrievalJob):
    """A question that is asked when its answer is wanted."""

    def __init__(
        self,
        ask: Callable[[], pa.Table],
        full_feature_names: bool = False,
        on_demand: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._ask, self._full, self._on_demand, self._metadata = (
            ask,
            full_feature_names,
            on_demand or [],
            metadata,
        )

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._ask()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._ask().to_pandas()

    @property
    def full_feature_names(self) -> bool:
        return self._full

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        raise NotImplementedError(
            "Shoal keeps no data sets: write `to_arrow()` or `to_df()` where you want it"
        )


class ShoalOfflineStore(OfflineStore):
    """Point-in-time joins and offline rows of the key's own tenant."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **options: Any,
    ) -> RetrievalJob:
        if not isinstance(entity_df, pd.DataFrame):
            raise ValueError(
                "Shoal takes entity rows as a DataFrame; SQL and whole time ranges are not supported"
            )
        known = bool(options.get("filter_by_created_timestamp"))
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        times = infer_event_timestamp_from_entity_df(
            dict(zip(entity_df.columns, entity_df.dtypes, strict=True))
        )
        bounds = (
            (entity_df[times].min(), entity_df[times].max()) if len(entity_df) else (None, None)
        )
        metadata = RetrievalMetadata(
            list(feature_refs), [c for c in entity_df.columns if c != times], *bounds
        )

        def ask() -> pa.Table:
            return _join(
                config.offline_store,
                feature_views,
                feature_refs,
                entity_df,
                times,
                full_feature_names,
                known,
            )

        return ShoalRetrievalJob(ask, full_feature_names, on_demand, metadata)

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        columns = (
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
        )
        return _pull_rows(config, data_source, *columns, start_date, end_date, latest=True)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        columns = (
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
        )
        return _pull_rows(config, data_source, *columns, start_date, end_date, latest=False)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        source = feature_view.batch_source
        if source is None:
            raise ValueError(f"{feature_view.name} has no batch source")
        names = {
            source.timestamp_field: "event_timestamp",
            source.created_timestamp_column or "created": "created",
        }
        for some in chunked(table.to_pylist(), WRITTEN):
            rows = []
            for row in some:
                mine = {
                    names.get(n, n): rfc3339(v) if isinstance(v, datetime) else v
                    for n, v in row.items()
                }
                rows.append({n: v for n, v in mine.items() if n != TENANT_KEY})
            push_rows(config.offline_store, feature_view.name, rows, "offline", tenant_query(some))
            if progress:
                progress(len(rows))

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        pass  # there is no file to look at: the platform has the data

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        view = _view_of(config, data_source, ())
        yield from ((c.name, str(c.dtype)) for c in view.entity_columns)
        yield data_source.timestamp_field, "UnixTimestamp"
        if data_source.created_timestamp_column:
            yield data_source.created_timestamp_column, "UnixTimestamp"
        yield from ((f.name, str(f.dtype)) for f in view.features)


def _join(
    config: ShoalConfig,
    views: list[FeatureView],
    refs: list[str],
    frame: pd.DataFrame,
    times: str,
    full: bool,
    known: bool,
) -> pa.Table:
    """The entity rows with the features, one request per entity column and 50,000 rows.
    A row without an id has null ones.
    """
    answer = pa.Table.from_pandas(frame, preserve_index=False)
    asked = pa.array(pd.to_datetime(frame[times], utc=True), TIME)
    for key, wanted in _by_entity_column(views, refs).items():
        if key not in frame.columns:
            raise ValueError(f"the entity rows have no column {key!r}")
        ids = pa.array([_id(v) for v in frame[key]], pa.string())
        rows = pa.table({wanted[0][0].entity_key: ids, "event_timestamp": asked})
        if known:
            rows = rows.append_column("known_by", asked)
        there = ids.is_valid().to_numpy(zero_copy_only=False)
        rows, place = rows.filter(ids.is_valid()), np.cumsum(there) - 1  # of each row's answer
        query: dict[str, str] = {"features": ",".join(f"{w.view}:{w.feature}" for w, _ in wanted)}
        if TENANT_KEY in frame.columns and len(frame):
            tenants = set(frame[TENANT_KEY].astype(str))
            if len(tenants) > 1:
                raise ShoalError(
                    f"rows of {len(tenants)} tenants in one call; a key is of one tenant"
                )
            query["tenant"] = tenants.pop()
        found = []
        for start in range(0, max(rows.num_rows, 1), ROWS):
            sink = io.BytesIO()
            pq.write_table(rows.slice(start, ROWS), sink)
            headers = {"content-type": PARQUET, "accept": PARQUET}
            got = call(
                config,
                "POST",
                "/features/historical",
                params=query,
                content=sink.getvalue(),
                headers=headers,
            )
            found.append(pq.read_table(io.BytesIO(got.content)))
        table = pa.concat_tables(found).take(pa.array(place, mask=~there))
        for want, output in wanted:
            answer = answer.append_column(
                f"{output}__{want.feature}" if full else want.feature, table[want.feature]
            )
    order = [f"{v}__{f}" if full else f for v, f in (r.split(":", 1) for r in refs)]
    return answer.select(
        [*frame.columns, *(n for n in dict.fromkeys(order) if n in answer.column_names)]
    )


def _id(value: Any) -> str | None:
    """An id of a DataFrame, whose integers are floats once one of the column is
    missing.
    """
    if pd.isna(value):
        return None
    return (
        str(int(value))
        if isinstance(value, float | np.floating) and value.is_integer()
        else str(value)
    )


class _RequestedFeature:
    """One feature to ask for."""

    def __init__(self, view: FeatureView, feature: str) -> None:
        self.view, self.feature = view.name, feature
        self.entity_key = _join_key(view)


def _by_entity_column(
    views: list[FeatureView], refs: list[str]
) -> dict[str, list[tuple[_RequestedFeature, str]]]:
    """Column of the entity rows → what to ask with it: (feature, the name that the view
    goes by).
    """
    wanted: dict[str, list[tuple[_RequestedFeature, str]]] = {}
    for ref in refs:
        name, feature = ref.split(":", 1)
        for view in views:
            called = str(view.projection.name_to_use())  # type: ignore[no-untyped-call]
            if called == name:
                key = _join_key(view)
                wanted.setdefault(view.projection.join_key_map.get(key, key), []).append(
                    (_RequestedFeature(view, feature), called)
                )
    return wanted


def _join_key(view: FeatureView) -> str:
    return next(c.name for c in view.entity_columns if c.name != TENANT_KEY)


def _view_of(config: RepoConfig, source: DataSource, features: Iterable[str]) -> FeatureView:
    """The view of the local registry that reads a source, since Feast asks by source."""
    for view in FeatureStore(config=config).registry.list_all_feature_views(config.project):
        mine = getattr(view, "batch_source", None)
        if (
            isinstance(view, FeatureView)
            and mine is not None
            and mine.name == source.name
            and {f.name for f in view.features}.issuperset(features)
        ):
            return view
    raise ValueError(f"no feature view of the project reads the source {source.name!r}")


def _pull_rows(
    config: RepoConfig,
    source: DataSource,
    join_keys: list[str],
    features: list[str],
    timestamp: str,
    created: str | None,
    start: datetime | None,
    end: datetime | None,
    latest: bool,
) -> RetrievalJob:
    view = _view_of(config, source, features)
    if getattr(view, "aggregations", None):
        raise ShoalError(
            f"{view.name} is computed by Shoal from events: set `batch_engine: {{type: shoal_features.feast_engine.ShoalComputeEngine}}`"
        )

    def ask() -> pa.Table:
        query = {"latest": str(latest).lower()}
        for name, bound in (("start", start), ("end", end)):
            if bound is not None:
                query[name] = rfc3339(bound)
        got = call(config.offline_store, "GET", f"/features/views/{view.name}/rows", params=query)
        table = pq.read_table(io.BytesIO(got.content))
        columns: dict[str, Any] = {}
        for key in join_keys:
            if key == TENANT_KEY:
                tenant = call(config.offline_store, "GET", "/features/views").json()["tenant"]
                columns[key] = pa.array([tenant] * table.num_rows, pa.string())
                continue
            kind = next(c.dtype for c in view.entity_columns if c.name == key).to_value_type().name
            columns[key] = pc.cast(table[key], pa.int64()) if kind.startswith("INT") else table[key]
        columns |= {f: table[f] for f in features}
        columns[timestamp] = table["event_timestamp"]
        if created:
            columns[created] = table["created"]
        return pa.table(columns)

    return ShoalRetrievalJob(ask)
