"""Feast's offline store on Shoal.

In `feature_store.yaml`: `offline_store: {type:
shoal_features.feast_offline.ShoalOfflineStore, url: …, key: …}`.
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
from .feast_files import has_file, load_file
from .feast_http import (
    PARQUET,
    ShoalConfig,
    ShoalError,
    call,
    chunked,
    query_of_tenants,
    tenant_query,
)
from .feast_online import push_rows, rfc3339

TIME = pa.timestamp("us", "UTC")
ROWS_PER_REQUEST = 50_000
ROWS_PER_WRITE = 5_000


class ShoalOfflineStoreConfig(ShoalConfig):
    type: Literal["shoal_features.feast_offline.ShoalOfflineStore"] = (
        "shoal_features.feast_offline.ShoalOfflineStore"
    )


class ShoalRetrievalJob(RetrievalJob):
    """A request that is sent when its result is needed."""

    def __init__(
        self,
        fetch: Callable[[], pa.Table],
        full_feature_names: bool = False,
        on_demand: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._fetch, self._full = fetch, full_feature_names
        self._on_demand, self._metadata = on_demand or [], metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._fetch()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._fetch().to_pandas()

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
            "saved data sets are not supported: write the result of `to_arrow()` or `to_df()`"
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
                "entity rows must be a DataFrame; SQL and time ranges are not supported"
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

        def fetch() -> pa.Table:
            return _join(
                config.offline_store,
                feature_views,
                feature_refs,
                entity_df,
                times,
                full_feature_names,
                known,
            )

        return ShoalRetrievalJob(fetch, full_feature_names, on_demand, metadata)

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
        for some in chunked(table.to_pylist(), ROWS_PER_WRITE):
            rows = []
            for row in some:
                mine = {names.get(n, n): v for n, v in row.items()}
                rows.append({n: v for n, v in mine.items() if n != TENANT_KEY})
            push_rows(config.offline_store, feature_view.name, rows, "offline", tenant_query(some))
            if progress:
                progress(len(rows))

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        pass  # there is no file: the platform has the data

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
    time_column: str,
    full_names: bool,
    with_cutoff: bool,
) -> pa.Table:
    """The entity rows with the features.

    One request per entity column and `ROWS_PER_REQUEST` rows. A row without an id has
    null features.
    """
    result = pa.Table.from_pandas(frame, preserve_index=False)
    times = pa.array(pd.to_datetime(frame[time_column], utc=True).dt.floor("us"), TIME)
    for column, wanted in _by_entity_column(views, refs).items():
        if column not in frame.columns:
            raise ValueError(f"the entity rows have no column {column!r}")
        ids = pa.array([_as_id(v) for v in frame[column]], pa.string())
        rows = pa.table({wanted[0].join_key: ids, "event_timestamp": times})
        if with_cutoff:
            rows = rows.append_column("known_by", times)
        query = {"features": ",".join(f"{w.view}:{w.feature}" for w in wanted)}
        if TENANT_KEY in frame.columns:
            query |= query_of_tenants(set(frame[TENANT_KEY].astype(str)))
        table = _fetch_history(config, rows.filter(ids.is_valid()), query)
        present = ids.is_valid().to_numpy(zero_copy_only=False)
        positions = np.cumsum(present) - 1  # of each row's features in the table
        table = table.take(pa.array(positions, mask=~present))
        for w in wanted:
            name = f"{w.output}__{w.feature}" if full_names else w.feature
            result = result.append_column(name, table[w.feature])
    order = [f"{v}__{f}" if full_names else f for v, f in (r.split(":", 1) for r in refs)]
    known = [n for n in dict.fromkeys(order) if n in result.column_names]
    return result.select([*frame.columns, *known])


def _fetch_history(config: ShoalConfig, rows: pa.Table, query: dict[str, str]) -> pa.Table:
    """Features of entity rows, in their order."""
    headers = {"content-type": PARQUET, "accept": PARQUET}
    found = []
    for start in range(0, max(rows.num_rows, 1), ROWS_PER_REQUEST):
        sink = io.BytesIO()
        pq.write_table(rows.slice(start, ROWS_PER_REQUEST), sink)
        body = sink.getvalue()
        path = "/features/historical"
        response = call(config, "POST", path, params=query, content=body, headers=headers)
        found.append(pq.read_table(io.BytesIO(response.content)))
    return pa.concat_tables(found)


def _as_id(value: Any) -> str | None:
    """An id of a DataFrame, where a column with missing integers has floats."""
    if pd.isna(value):
        return None
    if isinstance(value, float | np.floating) and value.is_integer():
        return str(int(value))
    return str(value)


@dataclass(frozen=True)
class _RequestedFeature:
    """One feature of a request.

    Attributes:
        view: The view's own name.
        feature: The feature's name.
        join_key: The view's join key.
        output: The name that the request calls the view by.
    """

    view: str
    feature: str
    join_key: str
    output: str


def _by_entity_column(
    views: list[FeatureView], refs: list[str]
) -> dict[str, list[_RequestedFeature]]:
    """Column of the entity rows → the features to join by it."""
    wanted: dict[str, list[_RequestedFeature]] = {}
    for ref in refs:
        name, feature = ref.split(":", 1)
        for view in views:
            if str(view.projection.name_to_use()) == name:  # type: ignore[no-untyped-call]
                key = _join_key(view)
                column = view.projection.join_key_map.get(key, key)
                requested = _RequestedFeature(view.name, feature, key, name)
                wanted.setdefault(column, []).append(requested)
    return wanted


def _join_key(view: FeatureView) -> str:
    return next(c.name for c in view.entity_columns if c.name != TENANT_KEY)


def _view_of(config: RepoConfig, source: DataSource, features: Iterable[str]) -> FeatureView:
    """The view of the project that reads a source, since Feast identifies by source."""
    # A relative path of the registry begins at the repository.
    path = str(config.repo_path) if config.repo_path else None
    registry = FeatureStore(repo_path=path, config=config).registry
    for view in registry.list_all_feature_views(config.project):
        own = getattr(view, "batch_source", None)
        if (
            isinstance(view, FeatureView)
            and own is not None
            and own.name == source.name
            and {f.name for f in view.features}.issuperset(features)
        ):
            return view
    raise ValueError(f"no feature view of the project reads the source {source.name!r}")


def _pull_rows(
    config: RepoConfig,
    source: DataSource,
    join_keys: list[str],
    features: list[str],
    time_column: str,
    created_column: str | None,
    start: datetime | None,
    end: datetime | None,
    latest: bool,
) -> RetrievalJob:
    """The offline rows of the view that reads a source."""
    mapped = source.field_mapping or {}  # Feast asks for the names that a file has
    view = _view_of(config, source, [mapped.get(f, f) for f in features])
    if getattr(view, "aggregations", None):
        raise ShoalError(
            f"{view.name} is computed by Shoal from events: set"
            " `batch_engine: {type: shoal_features.feast_engine.ShoalComputeEngine}`"
        )

    def fetch() -> pa.Table:
        if has_file(source):
            load_offline(config, view, start, end)
        query = {"latest": str(latest).lower()}
        for name, bound in (("start", start), ("end", end)):
            if bound is not None:
                query[name] = rfc3339(bound)
        path = f"/features/views/{view.name}/rows"
        response = call(config.offline_store, "GET", path, params=query)
        table = pq.read_table(io.BytesIO(response.content))
        columns = {key: _key_column(config, view, table, key) for key in join_keys}
        columns |= {f: table[mapped.get(f, f)] for f in features}
        columns[time_column] = table["event_timestamp"]
        if created_column:
            columns[created_column] = table["created"]
        return pa.table(columns)

    return ShoalRetrievalJob(fetch)


def load_offline(
    config: RepoConfig, view: FeatureView, start: datetime | None, end: datetime | None
) -> None:
    """Load a view's file into its offline table: see `feast_files.load_file`."""

    def write(rows: pa.Table) -> None:
        ShoalOfflineStore.offline_write_batch(config, view, rows, None)

    load_file(config, view, start, end, write)


def _key_column(config: RepoConfig, view: FeatureView, table: pa.Table, key: str) -> Any:
    """A column of join keys, of the type that the view declares."""
    if key == TENANT_KEY:
        tenant = call(config.offline_store, "GET", "/features/views").json()["tenant"]
        return pa.array([tenant] * table.num_rows, pa.string())
    dtype = next(c.dtype for c in view.entity_columns if c.name == key)
    if dtype.to_value_type().name.startswith("INT"):
        return pc.cast(table[key], pa.int64())
    return table[key]
