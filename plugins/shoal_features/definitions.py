"""Definitions in Feast's own objects, compiled to the registry. The only module of the
serving side that imports Feast.
"""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import RegistryError
from .registry import Registry
from .views import Feature, View

TENANT_KEY = "tenant_id"
"""The join key that names the tenant in a Feast project shared by all; the platform
knows the tenant from the credential.
"""

EVENTS = "shoal://events/"
"""A source's path is this and the event types, separated by commas:
`shoal://events/board.created,board.opened`.
"""

_TYPES = {
    "Int32": "int32", "Int64": "int64", "Float32": "float32", "Float64": "float64", "String": "string",
    "Bool": "bool", "UnixTimestamp": "unix_timestamp", "Bytes": "bytes",
}  # fmt: skip
_SYNONYMS = {"avg": "mean", "nunique": "count_distinct", "approx_count_distinct": "count_distinct"}


def load_definitions(path: str | Path) -> Registry:
    """Run a file of Feast definitions and compile what it defines. Raises RegistryError
    with every fault found, and for a file that does not run, with the line that failed.
    """
    path = Path(path)
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        code = compile(path.read_text(), str(path), "exec")
        exec(code, module.__dict__)
    except OSError as error:
        raise RegistryError([_error(str(path), f"cannot be read: {error.strerror}")]) from error
    except Exception as error:
        raise RegistryError(
            [
                _error(
                    f"{path.name}:{_failing_line(error, path)}", f"{type(error).__name__}: {error}"
                )
            ]
        ) from error
    return compile_objects(vars(module).values())


def compile_objects(objects: Iterable[Any]) -> Registry:
    """The registry of Feast's entities, feature views and feature services. Other
    objects are left alone.
    """
    from feast import Entity, FeatureService, FeatureView

    distinct = list({id(o): o for o in objects}.values())
    entities = {o.name: o for o in distinct if isinstance(o, Entity)}
    views, faults = [], _repeated_entities([o for o in distinct if isinstance(o, Entity)])
    for view in (o for o in distinct if isinstance(o, FeatureView)):
        try:
            views.append(_compile_view(view, entities))
        except RegistryError as error:
            faults += error.errors
    services: dict[str, tuple[str, ...]] = {}
    for service in (o for o in distinct if isinstance(o, FeatureService)):
        if service.name in services:
            faults.append(_error(f"services.{service.name}", "two services have this name"))
        services[service.name] = tuple(
            f"{p.name}:{f.name}" for p in service.feature_view_projections for f in p.features
        )
    if faults:
        try:  # report the faults that only the whole registry shows together with these
            Registry(tuple(views))
        except RegistryError as error:
            faults += error.errors
        raise RegistryError(faults)
    return Registry(tuple(views), services)


def _compile_view(view: Any, entities: dict[str, Any]) -> View:
    from feast import BatchFeatureView, StreamFeatureView

    at = f"views.{view.name}"
    _check_cycles(view, ())
    if getattr(view, "source_views", None):
        raise RegistryError(
            [_error(at, "a view over other views is not supported; read the events themselves")]
        )
    if getattr(view, "udf", None) or getattr(view, "feature_transformation", None):
        raise RegistryError(
            [_error(at, "a transformation in Python is not supported; use aggregations")]
        )
    keys = {n: entities[n].join_key if n in entities else n for n in view.entities}
    keys = {n: k for n, k in keys.items() if k != TENANT_KEY}
    if len(keys) != 1:
        message = (
            f"a view has one entity besides the tenant; this one has {', '.join(keys) or 'none'}"
        )
        raise RegistryError([_error(at, message)])
    entity, join_key = next(iter(keys.items()))
    aggregations = list(getattr(view, "aggregations", None) or ())
    types, source = _source(view)
    kind = "plain"
    if aggregations:
        kind = (
            "stream"
            if isinstance(view, StreamFeatureView)
            else "batch"
            if isinstance(view, BatchFeatureView)
            else kind
        )
        if not types:
            raise RegistryError(
                [_error(at, f"its source must be a FileSource whose path begins with {EVENTS}")]
            )
    schema = {f.name: f for f in view.features}
    features, faults = [], []
    for aggregation in aggregations:
        name = aggregation.resolved_name(aggregation.time_window)
        if name not in schema:
            faults.append(
                _error(f"{at}.{name}", "the aggregation has no Field of its name in the schema")
            )
        else:
            features.append(_compile_aggregation(aggregation, schema.pop(name)))
    if aggregations and schema:
        faults += [
            _error(f"{at}.{name}", "the Field has no Aggregation of its name") for name in schema
        ]
    if faults:
        raise RegistryError(faults)
    return View(
        name=view.name,
        entity=entity,
        join_key=join_key,
        kind=kind,
        features=tuple(features)
        or tuple(Feature(f.name, _dtype(f), description=f.description) for f in schema.values()),
        ttl=round(view.ttl.total_seconds()) or None if view.ttl else None,
        types=types,
        fields=tuple(
            dict.fromkeys(
                [*_mapped_fields(source, join_key), f"data.{join_key}", f"data.{entity}", "subject"]
            )
        ),
        description=view.description,
        owner=view.owner,
        tags=dict(view.tags),
    )


def _compile_aggregation(aggregation: Any, field: Any) -> Feature:
    window: timedelta | None = aggregation.time_window
    return Feature(
        name=field.name,
        dtype=_dtype(field),
        function=_SYNONYMS.get(aggregation.function, aggregation.function),
        column="" if aggregation.column == "*" else aggregation.column,
        window=round(window.total_seconds()) if window else None,
        description=field.description,
    )


def _source(view: Any) -> tuple[tuple[str, ...], Any]:
    """The event types that a view reads, and the source that names them."""
    for source in (view.batch_source, getattr(view, "stream_source", None)):
        for one in (source, getattr(source, "batch_source", None)):
            path = getattr(one, "path", None)
            if isinstance(path, str) and path.startswith(EVENTS):
                return tuple(
                    t.strip() for t in path.removeprefix(EVENTS).split(",") if t.strip()
                ), one
    return (), None


def _mapped_fields(source: Any, join_key: str) -> list[str]:
    """The fields of an event that the source's own `field_mapping` calls by the join
    key.
    """
    return [k for k, v in (getattr(source, "field_mapping", None) or {}).items() if v == join_key]


def _dtype(field: Any) -> str:
    from feast.types import Array

    if isinstance(field.dtype, Array):
        return f"{_TYPES.get(str(field.dtype.base_type), str(field.dtype.base_type))}[]"
    return _TYPES.get(str(field.dtype), str(field.dtype))


def _check_cycles(view: Any, above: tuple[Any, ...]) -> None:
    if any(view is v for v in above):
        loop = " → ".join(v.name for v in (*above[[v is view for v in above].index(True) :], view))
        raise RegistryError([_error(f"views.{above[0].name}", f"it is made from itself: {loop}")])
    for source in getattr(view, "source_views", None) or ():
        _check_cycles(source, (*above, view))


def _repeated_entities(entities: list[Any]) -> list[dict[str, str]]:
    names = [e.name for e in entities]
    return [
        _error(f"entities.{n}", "two entities have this name")
        for n in dict.fromkeys(names)
        if names.count(n) > 1
    ]


def _failing_line(error: Exception, path: Path) -> int:
    if isinstance(error, SyntaxError):
        return error.lineno or 1
    line, trace = 1, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _error(location: str, message: str) -> dict[str, str]:
    return {"location": location, "message": message}
