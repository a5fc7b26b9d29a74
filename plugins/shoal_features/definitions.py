"""Feast's own objects, compiled to the registry."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import ErrorEntry, RegistryError, error_entry
from .registry import Registry
from .unsupported import EVENTS, option_errors, service_errors, source_errors
from .views import USER, Feature, View

TENANT_KEY = "tenant_id"
"""The join key of the tenant in a Feast project that tenants share. The platform knows
the tenant from the credential.
"""

EVENT_TIME = ("event_timestamp", "time")
"""The names of an event's time as the `timestamp_field` of a source of events."""

_TYPES = {
    "Int32": "int32",
    "Int64": "int64",
    "Float32": "float32",
    "Float64": "float64",
    "String": "string",
    "Bool": "bool",
    "UnixTimestamp": "unix_timestamp",
    "Bytes": "bytes",
}
WITHOUT_ENTITY = "__dummy"
"""The entity that Feast gives a view which has none."""

_SYNONYMS = {"avg": "mean", "nunique": "count_distinct", "approx_count_distinct": "count_distinct"}


def load_definitions(path: str | Path) -> Registry:
    """Run a Python file of Feast definitions and compile what it defines.

    Raises:
        RegistryError: With every fault found; for a file that fails, with the line.
    """
    path = Path(path)
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        code = compile(path.read_text(), str(path), "exec")
        exec(code, module.__dict__)
    except OSError as error:
        raise _invalid(str(path), f"cannot be read: {error.strerror}") from error
    except Exception as error:
        location = f"{path.name}:{_failing_line(error, path)}"
        raise _invalid(location, f"{type(error).__name__}: {error}") from error
    return compile_objects(vars(module).values())


def compile_objects(objects: Iterable[Any]) -> Registry:
    """Compile Feast's entities, feature views and feature services.

    Args:
        objects: Any objects; those that define nothing in Feast are ignored.

    Raises:
        RegistryError: With every fault found.
    """
    from feast import Entity, FeatureService, FeatureView
    from feast.base_feature_view import BaseFeatureView

    distinct = list({id(o): o for o in objects}.values())
    entities = [o for o in distinct if isinstance(o, Entity)]
    by_name = {e.name: e for e in entities}
    views, errors = [], _repeated_entities(entities)
    errors += [e for entity in entities for e in option_errors(f"entities.{entity.name}", entity)]
    for view in (o for o in distinct if isinstance(o, BaseFeatureView)):
        if not isinstance(view, FeatureView):
            message = f"a {type(view).__name__} is not computed here; `feast apply` registers it"
            errors.append(error_entry(f"views.{view.name}", message))
            continue
        try:
            views.append(_compile_view(view, by_name))
        except RegistryError as error:
            errors += error.errors
    services: dict[str, tuple[str, ...]] = {}
    for service in (o for o in distinct if isinstance(o, FeatureService)):
        if service.name in services:
            errors.append(error_entry(f"services.{service.name}", "two services have this name"))
        errors += service_errors(service)
        services[service.name] = tuple(
            f"{p.name}:{f.name}" for p in service.feature_view_projections for f in p.features
        )
    if errors:
        try:  # also report the faults that only the whole registry shows
            Registry(tuple(views))
        except RegistryError as error:
            errors += error.errors
        raise RegistryError(errors)
    return Registry(tuple(views), services)


def _compile_view(view: Any, entities: dict[str, Any]) -> View:
    _check_supported(view)
    entity, join_key = _find_entity(view, entities)
    types, source = _find_source(view)
    _check_times(view, source)
    if getattr(view, "aggregations", None):
        if not types:
            message = f"its source must be a FileSource whose path begins with {EVENTS}"
            raise _invalid(f"views.{view.name}", message)
        kind, features = _find_kind(view), _compile_aggregations(view, source)
    else:
        kind, features = "plain", tuple(_compile_field(f) for f in view.features)
    fields = [*_mapped_fields(source, join_key), f"data.{join_key}", f"data.{entity}"]
    if entity == USER:  # of another type, the subject may be anything
        fields.append("subject")
    return View(
        name=view.name,
        entity=entity,
        join_key=join_key,
        kind=kind,
        features=features,
        ttl=_whole_seconds(view.ttl, f"views.{view.name}", "its TTL"),
        types=types,
        fields=tuple(dict.fromkeys(fields)),
        description=view.description,
        owner=view.owner,
        tags=dict(view.tags),
    )


def _check_supported(view: Any) -> None:
    at = f"views.{view.name}"
    _check_cycles(view, ())
    sources = (getattr(view, "stream_source", None), view.batch_source)
    errors = [*option_errors(at, view), *(e for s in sources for e in source_errors(at, s))]
    for field in view.features:
        errors += option_errors(f"{at}.{field.name}", field)
    for aggregation in getattr(view, "aggregations", None) or ():
        errors += _aggregation_errors(at, aggregation)
    if not view.online:
        message = "every view is served: write online=True (a BatchFeatureView has False otherwise)"
        errors.append(error_entry(at, message))
    if errors:
        raise RegistryError([dict(e) for e in dict.fromkeys(tuple(e.items()) for e in errors)])
    if getattr(view, "source_views", None):
        raise _invalid(at, "a view over other views is not supported; read the events themselves")
    if getattr(view, "udf", None) or getattr(view, "feature_transformation", None):
        raise _invalid(at, "a transformation in Python is not supported; use aggregations")


def _check_times(view: Any, source: Any) -> None:
    """Refuse a time other than the event's own, for a view of events."""
    for owner in (source, view):
        field = getattr(owner, "timestamp_field", None)
        if source is not None and field not in (None, "", *EVENT_TIME):
            message = (
                f"timestamp_field {field!r}: the time of an event is its own `time`; append the"
                f" events with that time, and write {EVENT_TIME[0]}"
            )
            raise _invalid(f"views.{view.name}", message)


def _check_cycles(view: Any, above: tuple[Any, ...]) -> None:
    if any(view is v for v in above):
        start = [v is view for v in above].index(True)
        loop = " → ".join(v.name for v in (*above[start:], view))
        raise _invalid(f"views.{above[0].name}", f"it is made from itself: {loop}")
    for source in getattr(view, "source_views", None) or ():
        _check_cycles(source, (*above, view))


def _find_entity(view: Any, entities: dict[str, Any]) -> tuple[str, str]:
    """The view's entity type and its join key."""
    keys = {n: entities[n].join_key if n in entities else n for n in view.entities}
    keys = {n: k for n, k in keys.items() if k != TENANT_KEY and n != WITHOUT_ENTITY}
    if len(keys) != 1:
        found = ", ".join(keys) or "none"
        message = f"a view has one entity besides the tenant; this one has {found}"
        raise _invalid(f"views.{view.name}", message)
    return next(iter(keys.items()))


def _find_source(view: Any) -> tuple[tuple[str, ...], Any]:
    """The event types that a view reads, and the source that names them."""
    for source in (view.batch_source, getattr(view, "stream_source", None)):
        for candidate in (source, getattr(source, "batch_source", None)):
            path = getattr(candidate, "path", None)
            if isinstance(path, str) and path.startswith(EVENTS):
                types = (t.strip() for t in path.removeprefix(EVENTS).split(","))
                return tuple(t for t in types if t), candidate
    return (), None


def _find_kind(view: Any) -> str:
    from feast import BatchFeatureView, StreamFeatureView

    if isinstance(view, StreamFeatureView):
        return "stream"
    return "batch" if isinstance(view, BatchFeatureView) else "plain"


def _mapped_fields(source: Any, name: str) -> list[str]:
    """The fields of an event that the source's `field_mapping` maps to a name."""
    return [k for k, v in (getattr(source, "field_mapping", None) or {}).items() if v == name]


def _aggregation_errors(at: str, aggregation: Any) -> list[ErrorEntry]:
    name = aggregation.resolved_name(aggregation.time_window)
    errors = option_errors(f"{at}.{name}", aggregation)
    if aggregation.slide_interval != aggregation.time_window:
        message = "windows slide with every event and every read: leave slide_interval out"
        errors.append(error_entry(f"{at}.{name}", message))
    return errors


def _compile_aggregations(view: Any, source: Any) -> tuple[Feature, ...]:
    schema = {f.name: f for f in view.features}
    features, errors = [], []
    for aggregation in view.aggregations:
        name = aggregation.resolved_name(aggregation.time_window)
        mapped = _mapped_fields(source, aggregation.column)
        if len(mapped) > 1:
            message = f"field_mapping has several fields for {aggregation.column}: a column is one"
            errors.append(error_entry(f"views.{view.name}.{name}", message))
        if name in schema:
            column = mapped[0] if mapped else aggregation.column
            features.append(_compile_aggregation(view, aggregation, column, schema.pop(name)))
        else:
            message = "the aggregation has no Field of its name in the schema"
            errors.append(error_entry(f"views.{view.name}.{name}", message))
    errors += [
        error_entry(f"views.{view.name}.{name}", "the Field has no Aggregation of its name")
        for name in schema
    ]
    if errors:
        raise RegistryError(errors)
    return tuple(features)


def _whole_seconds(time: timedelta | None, location: str, what: str) -> int | None:
    if time and time % timedelta(seconds=1):
        raise _invalid(location, f"{what} of {time.total_seconds()} s is not whole seconds")
    return round(time.total_seconds()) or None if time else None


def _compile_aggregation(view: Any, aggregation: Any, column: str, field: Any) -> Feature:
    return Feature(
        name=field.name,
        dtype=_compile_type(field),
        function=_SYNONYMS.get(aggregation.function, aggregation.function),
        column="" if column == "*" else column,
        window=_whole_seconds(
            aggregation.time_window, f"views.{view.name}.{field.name}", "its window"
        ),
        description=field.description,
    )


def _compile_field(field: Any) -> Feature:
    return Feature(field.name, _compile_type(field), description=field.description)


def _compile_type(field: Any) -> str:
    from feast.types import Array

    if isinstance(field.dtype, Array):
        return f"{_TYPES.get(str(field.dtype.base_type), str(field.dtype.base_type))}[]"
    return _TYPES.get(str(field.dtype), str(field.dtype))


def _repeated_entities(entities: list[Any]) -> list[ErrorEntry]:
    names = [e.name for e in entities]
    return [
        error_entry(f"entities.{n}", "two entities have this name")
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


def _invalid(location: str, message: str) -> RegistryError:
    return RegistryError([error_entry(location, message)])
