"""The registry: what features there are, as plain data. Compiled once from Feast's
objects, so that serving needs no Feast.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise
from typing import Any, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

INTEGERS = frozenset({"int32", "int64"})
FLOATS = frozenset({"float32", "float64"})
SCALARS = INTEGERS | FLOATS | {"string", "bool", "unix_timestamp", "bytes"}
FUNCTIONS = ("count", "sum", "mean", "min", "max", "last", "count_distinct")
MINUTE, YEAR = 60, 366 * 86_400
OURS = frozenset(
    {"entity", "at", "event_timestamp", "created", "known_by", "row", "date", "known", "tenant_id"}
)
"""Columns that the offline tables, entity rows and answers have beside the features.
DuckDB does not tell upper case from lower.
"""
ASKED_BY = frozenset({"features", "tenant", "metadata"})
"""What `GET /features` takes beside an entity type; under `features` lies also what the
store keeps of its own online.
"""


class RegistryError(ValueError):
    """Definitions that cannot be registered. `errors` locates each fault as
    `{"location": "views.x.y", "message": …}`.
    """

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        super().__init__("; ".join(f"{e['location']}: {e['message']}" for e in errors))
        self.errors = [dict(e) for e in errors]


class UnknownFeature(LookupError):
    """Names that no view of the entity has. `nearest` maps each to the most similar
    known ones, best first.
    """

    def __init__(self, nearest: Mapping[str, Sequence[str]]) -> None:
        self.nearest = {name: list(known) for name, known in nearest.items()}
        super().__init__(
            "; ".join(
                f"unknown feature {name!r}"
                + (f" (did you mean {', '.join(near)}?)" if near else "")
                for name, near in self.nearest.items()
            )
        )


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature. With a `function` it aggregates `column` of the view's events over
    the last `window` seconds (None: everything, for `last` only); without, its values
    are pushed or materialized.
    """

    name: str
    dtype: str
    function: str | None = None
    column: str = ""
    window: int | None = None
    description: str = ""

    @property
    def scalar(self) -> str:
        """The type of the value, or of each element of a list (`int64[]`)."""
        return self.dtype.removesuffix("[]")


@dataclass(frozen=True, slots=True)
class View:
    """Features of one entity type that are computed together.

    `kind`: `batch` (aggregated by the nightly job), `stream` (sliding windows, always
    current), `plain` (values are pushed or materialized). `ttl`: seconds after its
    event time that a value holds; None, or 0 as Feast has it, for ever. `types`: the
    event types it reads (`item.*` is a prefix). `fields`: where the entity's id is
    looked for in an event, in order.
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

    def feature(self, name: str) -> Feature:
        return next(f for f in self.features if f.name == name)

    @property
    def retention(self) -> int:
        """Seconds of events that the windows need. In batch, a feature without one
        looks back a year; in a stream its value is kept, not its events.
        """
        return max(
            (f.window or (YEAR if self.kind == "batch" else 0) for f in self.features), default=0
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the events that the aggregations read, each once."""
        return tuple(dict.fromkeys(f.column for f in self.features if f.column))


@dataclass(frozen=True)
class Registry:
    """All the views and services of one tenant. Feature names are unique per entity
    type, since they are the fields of one hash. Raises RegistryError with every fault
    found.
    """

    views: tuple[View, ...] = ()
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = [
            *_repeated(self.views),
            *(e for view in self.views for e in _faults(view)),
            *self._dangling(),
        ]
        if faults:
            raise RegistryError(faults)

    @cached_property
    def _by_entity(self) -> dict[str, dict[str, tuple[View, Feature]]]:
        tree: dict[str, dict[str, tuple[View, Feature]]] = {}
        for view in self.views:
            tree.setdefault(view.entity, {}).update({f.name: (view, f) for f in view.features})
        return tree

    @property
    def entities(self) -> list[str]:
        return sorted(self._by_entity)

    def view(self, name: str) -> View:
        """The view of that name; KeyError when there is none."""
        for view in self.views:
            if view.name == name:
                return view
        raise KeyError(name)

    def resolve(self, entity: str, names: Iterable[str]) -> list[tuple[View, Feature]]:
        """The features of an entity type by name (`feature` or `view:feature`; a
        service's name stands for all its features). Raises KeyError for an unknown
        entity type and UnknownFeature for unknown names.
        """
        known, found, unknown = self._by_entity[entity], [], {}
        for name in names:
            for one in self.services.get(name, (name,)) if name not in known else (name,):
                view, _, feature = one.rpartition(":")
                hit = known.get(feature)
                if hit and view in ("", hit[0].name):
                    found.append(hit)
                elif name not in self.services:
                    unknown[name] = get_close_matches(feature, known, 3, 0.5) or sorted(known)[:3]
        if unknown:
            raise UnknownFeature(unknown)
        return list(dict.fromkeys(found)) if len(found) > 1 else found

    def changed_types(self, old: "Registry") -> list[dict[str, str]]:
        """The faults of replacing `old` by this: a feature may come or go, but not
        change its type or its view's entity. What has a name or a TTL that cannot work
        is refused here and not before: a registry from when it was not refused must
        still be read.
        """
        faults = [e for view in self.views for e in _unfit(view)]
        for view in self.views:
            before = next((v for v in old.views if v.name == view.name), None)
            if before and before.entity != view.entity:
                faults.append(
                    _fault(
                        f"views.{view.name}",
                        f"its entity was {before.entity!r} and cannot become {view.entity!r}",
                    )
                )
            for feature in view.features:
                known = old._by_entity.get(view.entity, {}).get(feature.name)
                if known and known[1].dtype != feature.dtype:
                    message = f"its type was {known[1].dtype} and cannot become {feature.dtype}; give it another name"
                    faults.append(_fault(f"views.{view.name}.{feature.name}", message))
        return faults

    def to_dict(self) -> dict[str, Any]:
        return {
            "views": [asdict(v) for v in self.views],
            "services": {k: list(v) for k, v in self.services.items()},
        }

    @classmethod
    def from_dict(cls, body: Any) -> "Registry":
        """The registry that `to_dict` came from. Raises RegistryError for anything
        else.
        """
        try:
            parts = _ADAPTER.validate_python(body)
        except ValidationError as error:
            faults = [
                _fault(".".join(map(str, e["loc"])) or "body", e["msg"]) for e in error.errors()
            ]
            raise RegistryError(faults) from error
        return cls(tuple(parts["views"]), parts.get("services", {}))

    def _dangling(self) -> list[dict[str, str]]:
        known = {f"{v.name}:{f.name}" for v in self.views for f in v.features}
        return [
            _fault(f"services.{service}", f"{reference!r} is not a feature of any view")
            for service, references in self.services.items()
            for reference in references
            if reference not in known
        ]


class _Body(TypedDict):
    views: list[View]
    services: NotRequired[dict[str, tuple[str, ...]]]


_ADAPTER = TypeAdapter(_Body)


def _fault(location: str, message: str) -> dict[str, str]:
    return {"location": location, "message": message}


def _repeated(views: Sequence[View]) -> list[dict[str, str]]:
    faults = [
        _fault(f"views.{a}", "two views have this name")
        for a, b in pairwise(sorted(v.name for v in views))
        if a == b
    ]
    owners: dict[tuple[str, str], str] = {}
    for view in views:
        for feature in view.features:
            other = owners.setdefault((view.entity, feature.name), view.name)
            if other != view.name or sum(f.name == feature.name for f in view.features) > 1:
                message = f"{view.entity} already has a feature of this name" + (
                    f" in {other}" if other != view.name else ""
                )
                faults.append(_fault(f"views.{view.name}.{feature.name}", message))
    return [dict(t) for t in dict.fromkeys(tuple(f.items()) for f in faults)]


def _faults(view: View) -> list[dict[str, str]]:
    at = f"views.{view.name}"
    faults = []
    for what, name in (
        ("view", view.name),
        ("entity", view.entity),
        *(("feature", f.name) for f in view.features),
    ):
        if not _is_name(name):
            faults.append(
                _fault(at, f"{name!r} cannot name a {what}: letters, digits, _ and -, at most 128")
            )
    if view.kind not in ("batch", "stream", "plain"):
        faults.append(_fault(at, f"kind {view.kind!r} is not one of batch, stream, plain"))
    if not view.features:
        faults.append(_fault(at, "it has no features"))
    if view.kind != "plain" and not view.types:
        faults.append(_fault(at, "its source names no event type"))
    for feature in view.features:
        faults += _feature_faults(view, feature)
    return faults


def _unfit(view: View) -> list[dict[str, str]]:
    """Names that mean something else already, and TTLs that no time can be reckoned
    with.
    """
    at, wrong = f"views.{view.name}", []
    if re.match("(joined|asked)[_-]", view.name.lower()):
        wrong.append(
            _fault(
                at, "names of views do not begin with joined_ or asked_: the tables of data sets do"
            )
        )
    if view.entity in ASKED_BY:
        wrong.append(
            _fault(
                at,
                f"{view.entity!r} cannot name an entity type: it is a parameter of `GET /features`",
            )
        )
    if view.ttl is not None and not 1 <= view.ttl <= 100 * YEAR:
        wrong.append(
            _fault(
                at,
                f"its TTL of {view.ttl} s is not between a second and a hundred years; 0 or none is for ever",
            )
        )
    known: dict[str, str] = {}
    for feature in view.features:
        lower = feature.name.lower()
        if lower in OURS or lower == view.join_key.lower():
            wrong.append(
                _fault(
                    f"{at}.{feature.name}",
                    f"{feature.name!r} cannot name a feature: rows have a column of this name already",
                )
            )
        other = known.setdefault(lower, feature.name)
        if other != feature.name:
            wrong.append(
                _fault(
                    f"{at}.{feature.name}",
                    f"its name differs from {other!r} only by upper and lower case; give it another",
                )
            )
    return wrong


def _feature_faults(view: View, feature: Feature) -> list[dict[str, str]]:
    at, wrong = f"views.{view.name}.{feature.name}", []
    if feature.scalar not in SCALARS:
        wrong.append(
            f"type {feature.dtype} is not supported; use one of {', '.join(sorted(SCALARS))}, or a list of one"
        )
    if view.kind == "plain":
        return [_fault(at, message) for message in wrong]
    if feature.function not in FUNCTIONS:
        wrong.append(f"aggregation {feature.function!r} is not one of {', '.join(FUNCTIONS)}")
    elif feature.function != "count" and not feature.column:
        wrong.append(f"{feature.function} needs a column")
    if feature.window is None and feature.function != "last":
        wrong.append("it needs a time window; only `last` may look back for ever")
    if feature.window is not None and not MINUTE <= feature.window <= YEAR:
        wrong.append(f"its window of {feature.window} s is not between a minute and a year")
    numbers = INTEGERS | FLOATS
    needs = {
        "count": INTEGERS,
        "count_distinct": INTEGERS,
        "mean": FLOATS,
        "sum": numbers,
        "min": numbers,
        "max": numbers,
    }
    needed = needs.get(feature.function or "", SCALARS - {"bytes"})
    if feature.dtype not in needed:
        wrong.append(
            f"{feature.function} gives one of {', '.join(sorted(needed))}, not {feature.dtype}"
        )
    return [_fault(at, message) for message in wrong]


def _is_name(name: str) -> bool:
    return (
        0 < len(name) <= 128 and name.replace("_", "").replace("-", "").isalnum() and name.isascii()
    )
