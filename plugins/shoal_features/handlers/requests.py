"""What the handlers share: looking definitions up, checking input, Parquet bodies."""

import sys
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import Any, TypeVar

import anyio

from shoal import Invalid, NotFound

from ..errors import UnknownEntity, UnknownFeature, error_entry, invalid
from ..registry import Registry
from ..views import View

JSON = "application/json"
PARQUET = "application/vnd.apache.parquet"

T = TypeVar("T")

_OFFLINE_MODULES = ("historical_query", "historical_request", "rows", "datasets", "erasure")


async def import_offline_modules() -> None:
    """Import the modules that need Arrow, DuckDB and Polars, in a thread, on first use.

    Replicas that only serve online features stay small. Handlers import from these
    modules after calling this.
    """
    package = __package__.rpartition(".")[0]
    for name in (f"{package}.{module}" for module in _OFFLINE_MODULES):
        if name not in sys.modules:
            await anyio.to_thread.run_sync(import_module, name)


def find_view(registry: Registry, name: str) -> View:
    """The view of that name.

    Raises:
        NotFound: When there is none.
    """
    try:
        return registry.view(name)
    except KeyError:
        known = ", ".join(v.name for v in registry.views) or "-"
        raise NotFound(f"no view {name!r}; known views: {known}") from None


def resolve(find: Callable[[], T], location: str, entity_location: str) -> T:
    """Call `find` and turn an unknown entity type or feature into a 422.

    Args:
        find: Looks features up.
        location: Where the request names the features.
        entity_location: Where it names the entity type.

    Raises:
        Invalid: For an unknown entity type, or with all unknown features and the
            nearest known ones.
    """
    try:
        return find()
    except UnknownEntity as error:
        raise invalid(entity_location, str(error)) from error
    except UnknownFeature as error:
        entries: list[dict[str, Any]] = [
            error_entry(location, f"unknown feature {name!r}") | {"feature": name, "nearest": near}
            for name, near in error.nearest.items()
        ]
        raise Invalid(str(error), errors=entries) from error


def check_time(parse: Callable[[str], datetime], text: str, location: str) -> datetime:
    """Parse a time of the request.

    Raises:
        Invalid: When it is not a time.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise invalid(location, str(error)) from error


def encode_parquet(table: Any) -> bytes:
    """An Arrow table as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def decode_parquet(body: bytes) -> Any:
    """The Arrow table in a Parquet file.

    Raises:
        pyarrow.ArrowException, OSError: When the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(body))
