"""Rows of the Parquet file that a Feast source names, for a view's offline table."""

import io
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureView, FileSource, RepoConfig

from .definitions import TENANT_KEY
from .feast_http import call
from .feast_online import rfc3339, utc_time

TIME = pa.timestamp("us", "UTC")


def has_file(source: Any) -> bool:
    """Whether a source is a file, not events or what is pushed."""
    return isinstance(source, FileSource) and not str(source.path).startswith("shoal:")


def load_file(
    config: RepoConfig,
    view: FeatureView,
    start: datetime | None,
    end: datetime | None,
    write: Callable[[pa.Table], None],
) -> None:
    """Write those rows of a view's file that the view's offline table lacks.

    Args:
        config: Of the feature repository; a relative path begins at its folder.
        view: A view whose batch source is a file.
        start: The earliest event time, inclusive; None for all before `end`.
        end: The latest event time, inclusive.
        write: Writes rows offline.
    """
    source: Any = view.batch_source
    rows = _read(config, source)
    columns = [*(c.name for c in view.entity_columns), *(f.name for f in view.features)]
    columns += [c for c in (source.timestamp_field, source.created_timestamp_column) if c]
    if lacking := [name for name in columns if name not in rows.column_names]:
        raise ValueError(f"{source.path} has no column {', '.join(lacking)}")
    rows = rows.select(columns)
    times = _utc(rows[source.timestamp_field])
    for bound, keep in ((start, pc.greater_equal), (end, pc.less_equal)):
        if bound is not None:
            inside = keep(times, pa.scalar(utc_time(bound), TIME))
            rows, times = rows.filter(inside), times.filter(inside)
    stored = _stored_rows(config, view, start, end)
    known = set(_row_keys(view, stored, "event_timestamp", "created"))
    keys = _row_keys(view, rows, source.timestamp_field, source.created_timestamp_column)
    rows = rows.filter(pa.array([key not in known for key in keys], pa.bool_()))
    if rows.num_rows:
        write(rows)


def _read(config: RepoConfig, source: Any) -> pa.Table:
    repository = str(config.repo_path) if config.repo_path else None
    uri = FileSource.get_uri_for_file_path(repository, source.path)
    filesystem, path = FileSource.create_filesystem_and_path(
        str(uri), source.s3_endpoint_override or ""
    )
    table = pq.read_table(path, filesystem=filesystem)
    mapped = source.field_mapping or {}
    return table.rename_columns([mapped.get(name, name) for name in table.column_names])


def _utc(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times with a zone; those without one are UTC, as Feast has it."""
    if times.type.tz is None:
        times = pc.assume_timezone(times, "UTC")
    return times.cast(TIME, safe=False)


def _stored_rows(
    config: RepoConfig, view: FeatureView, start: datetime | None, end: datetime | None
) -> pa.Table:
    bounds = {"start": start, "end": end}
    query = {name: rfc3339(time) for name, time in bounds.items() if time is not None}
    response = call(config.offline_store, "GET", f"/features/views/{view.name}/rows", params=query)
    return pq.read_table(io.BytesIO(response.content))


def _row_keys(
    view: FeatureView, rows: pa.Table, time_column: str, created_column: str | None
) -> list[tuple[Any, ...]]:
    """What tells rows apart: id, event time, values, and perhaps created time."""
    source: Any = view.batch_source
    key = next(c.name for c in view.entity_columns if c.name != TENANT_KEY)
    columns = [[str(id) for id in rows[key].to_pylist()], _utc(rows[time_column]).to_pylist()]
    if source.created_timestamp_column:
        columns.append(_utc(rows[created_column]).to_pylist())
    values = rows.select([f.name for f in view.features]).to_pylist()
    return list(zip(*columns, map(str, values), strict=True))
