"""Feature views: what they compute, as plain data, and what makes one invalid."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, with_config

from .errors import ErrorEntry, error_entry

_STRICT = ConfigDict(extra="forbid")
"""Of definitions in JSON: a field that is not known is an error."""

INTEGERS = frozenset({"int32", "int64"})
FLOATS = frozenset({"float32", "float64"})
NUMBERS = INTEGERS | FLOATS
SCALARS = NUMBERS | {"string", "bool", "unix_timestamp", "bytes"}
RESULT_TYPES = {
    "count": INTEGERS,
    "count_distinct": INTEGERS,
    "sum": NUMBERS,
    "mean": FLOATS,
    "min": NUMBERS,
    "max": NUMBERS,
    "last": SCALARS - {"bytes"},
}
"""Aggregation functions, and the types that a feature computed by each may have."""

MINUTE, YEAR = 60, 366 * 86_400
MAX_FEATURES = 500
"""Features of a view: a script writes all those of an entity at once."""

MAX_WINDOW_COLUMNS = 32
"""Columns that the windows of a stream view read: each costs time in every script."""
RESERVED_COLUMNS = frozenset(
    {"entity", "at", "event_timestamp", "created", "known_by", "row", "date", "known", "tenant_id"}
)
"""Columns of offline tables, entity rows and results. Compared in lower case, since
DuckDB ignores case.
"""
RESERVED_PARAMETERS = frozenset({"features", "tenant", "metadata"})
"""Query parameters of `GET /features`, which takes an entity type as another one. The
store's own online keys begin with `features` as well.
"""


PUBLIC = "public_to"
"""The tag of a view whose features every user may read; its value is `users`."""
USER = "user"
"""The entity type whose ids are those of the tenant's users."""


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of a view.

    Attributes:
        name: Unique among the features of its entity type.
        dtype: One of `SCALARS`, or a list of one, such as `int64[]`.
        function: The aggregation (a key of `RESULT_TYPES`); None where values are
            pushed.
        column: The field of the event that is aggregated; empty for `count(*)`.
        window: Seconds that the aggregation looks back; None for no limit (`last`).
        description: For people.
    """

    name: str
    dtype: str
    function: str | None = None
    column: str = ""
    window: int | None = None
    description: str = ""

    @property
    def scalar(self) -> str:
        """The type of the value, or of each element of a list."""
        return self.dtype.removesuffix("[]")


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class View:
    """Features of one entity type that are computed together.

    Attributes:
        name: Unique among the tenant's views.
        entity: The entity type, such as `user`.
        join_key: The column that identifies the entity in rows, such as `user_id`.
        kind: `batch` (computed every night), `stream` (sliding windows, always
            current) or `plain` (values are pushed).
        features: At least one.
        ttl: Seconds after its event time that a value is served; None, or 0 as in
            Feast, for no limit.
        types: The event types that are read; `item.*` is a prefix.
        fields: Where an event may name the entity, in order of preference.
        description: For people.
        owner: For people.
        tags: For people.
    """

    name: str
    entity: str
    join_key: str
    kind: str
    features: tuple[Feature, ...]
    ttl: int | None = None
    types: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.ttl == 0:
            object.__setattr__(self, "ttl", None)

    @property
    def is_public(self) -> bool:
        """Whether every user of the tenant may read the view, of all entities."""
        return self.tags.get(PUBLIC) == "users"

    @property
    def retention(self) -> int:
        """Seconds of events that the windows need.

        A batch feature without a window looks back a year; a stream keeps the value of
        such a feature, not its events.
        """
        unlimited = YEAR if self.kind == "batch" else 0
        return max((f.window or unlimited for f in self.features), default=0)

    def identity(self, feature: Feature) -> bytes:
        """Four bytes that tell the feature's values from those of any other.

        A feature of this name in another view, of another type or computed otherwise
        has others; descriptions and the TTL do not matter.
        """
        parts: list[Any] = [self.name, self.kind, feature.name, feature.dtype]
        if self.kind != "plain":
            parts += [feature.function, feature.column, feature.window, self.types, self.fields]
        return hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of events that the aggregations read, each once."""
        return tuple(dict.fromkeys(f.column for f in self.features if f.column))


def view_errors(view: View) -> list[ErrorEntry]:
    """What makes a view unusable by itself."""
    at = f"views.{view.name}"
    names = [("view", view.name), ("entity", view.entity)]
    names += [("feature", f.name) for f in view.features]
    errors = [
        error_entry(at, f"invalid {what} name {name!r}: use letters, digits, _ and -, at most 128")
        for what, name in names
        if not is_name(name)
    ]
    if view.kind not in ("batch", "stream", "plain"):
        errors.append(error_entry(at, f"kind {view.kind!r} is not one of batch, stream, plain"))
    if not view.features:
        errors.append(error_entry(at, "a view needs at least one feature"))
    if view.kind != "plain" and not view.types:
        errors.append(error_entry(at, "its source names no event type"))
    for feature in view.features:
        errors += _feature_errors(view, feature)
    return errors


def registration_errors(view: View) -> list[ErrorEntry]:
    """What keeps a view from being registered: reserved names, and TTLs out of range.

    These rules came later than those of `view_errors`: a registry that was stored
    before them can still be read.
    """
    at, errors = f"views.{view.name}", []
    if re.match("(joined|asked)[_-]", view.name.lower()):
        message = "view names must not begin with joined_ or asked_, as tables of data sets do"
        errors.append(error_entry(at, message))
    errors += _name_errors(view, at)
    if view.entity in RESERVED_PARAMETERS:
        message = f"{view.entity!r} cannot name an entity type: `GET /features` has that parameter"
        errors.append(error_entry(at, message))
    if view.ttl is not None and not 1 <= view.ttl <= 100 * YEAR:
        message = f"a TTL is 1 second to 100 years, or 0 for no limit, not {view.ttl} s"
        errors.append(error_entry(at, message))
    if len(view.features) > MAX_FEATURES:
        message = f"it has {len(view.features)} features; a view has at most {MAX_FEATURES}"
        errors.append(error_entry(at, message + ": make several views of it"))
    columns = {f.column for f in view.features if f.window and f.column}
    if view.kind == "stream" and len(columns) > MAX_WINDOW_COLUMNS:
        message = (
            f"its windows read {len(columns)} columns; at most {MAX_WINDOW_COLUMNS} in a stream"
            " view: make several views of it"
        )
        errors.append(error_entry(at, message))
    if (public := view.tags.get(PUBLIC, "users")) != "users":
        message = f"the tag {PUBLIC} must be 'users', which lets all users read, not {public!r:.60}"
        errors.append(error_entry(at, message))
    known: dict[str, str] = {}
    for feature in view.features:
        location, lower = f"{at}.{feature.name}", feature.name.lower()
        if lower in RESERVED_COLUMNS | {view.join_key.lower(), view.entity.lower()}:
            message = f"{feature.name!r} cannot name a feature: the name is reserved for a column"
            errors.append(error_entry(location, message))
        other = known.setdefault(lower, feature.name)
        if other != feature.name:
            message = f"differs from {other!r} only by upper and lower case"
            errors.append(error_entry(location, message))
    return errors


def _name_errors(view: View, at: str) -> list[ErrorEntry]:
    """What is wrong with the join key, and with how a view reads events."""
    messages = []
    if not is_name(view.join_key) or view.join_key.lower() in RESERVED_COLUMNS:
        messages.append(
            f"{view.join_key!r:.60} cannot be a join key: use letters, digits, _ and -, at most"
            " 128, and no name that is reserved for a column"
        )
    if view.kind != "plain" and not view.fields:
        messages.append("a computed view needs `fields`, which say where an event names the entity")
    messages += [
        f"no event has the type {t!r:.60}: a type has no blanks and commas, and * only at its end"
        for t in view.types
        if not re.fullmatch(r"[^\s,*]*(\*|[^\s,*])", t)
    ]
    paths = [*view.fields, *(f.column for f in view.features if f.column)]
    messages += [
        f"{path!r:.60} is no field of an event: use names with dots between them, without * and \\"
        " (a `count` of all events has no column)"
        for path in paths
        if not _is_path(path)
    ]
    return [error_entry(at, message) for message in messages]


def _is_path(path: str) -> bool:
    """Whether a field of an event can be read by it: parts with dots between them."""
    parts = path.removeprefix("data.").split(".")
    return len(path) <= 512 and all(parts) and not set("*\\") & set(path)


def _feature_errors(view: View, feature: Feature) -> list[ErrorEntry]:
    messages = []
    if feature.scalar not in SCALARS:
        known = ", ".join(sorted(SCALARS))
        messages.append(f"type {feature.dtype} is not supported; use one of {known}, or a list")
    if view.kind != "plain":
        messages += _aggregation_messages(feature)
    return [error_entry(f"views.{view.name}.{feature.name}", message) for message in messages]


def _aggregation_messages(feature: Feature) -> list[str]:
    messages = []
    if feature.function not in RESULT_TYPES:
        known = ", ".join(RESULT_TYPES)
        messages.append(f"aggregation {feature.function!r} is not one of {known}")
    elif feature.function != "count" and not feature.column:
        messages.append(f"{feature.function} needs a column")
    if feature.window is None and feature.function != "last":
        messages.append("it needs a time window; only `last` may have none")
    if feature.window is not None and not MINUTE <= feature.window <= YEAR:
        messages.append(f"its window of {feature.window} s is not between a minute and a year")
    allowed = RESULT_TYPES.get(feature.function or "", RESULT_TYPES["last"])
    if feature.dtype not in allowed:
        names = ", ".join(sorted(allowed))
        messages.append(f"{feature.function} gives one of {names}, not {feature.dtype}")
    return messages


def is_name(name: str) -> bool:
    """Whether a view, an entity type, a feature or a service may have the name."""
    return len(name) <= 128 and re.fullmatch("[_-]*[A-Za-z0-9][A-Za-z0-9_-]*", name) is not None
