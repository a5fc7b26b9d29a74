"""The registry: all views and feature services of one tenant, as plain data.

Feast's objects are compiled to it once (see `definitions`), so serving needs no Feast.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise
from typing import Any, NotRequired

import orjson
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from .errors import ErrorEntry, RegistryError, UnknownEntity, UnknownFeature, error_entry
from .views import Feature, View, is_name, registration_errors, view_errors


@dataclass(frozen=True)
class Registry:
    """All the views and services of one tenant.

    Feature names are unique per entity type, since they are the fields of one hash.

    Attributes:
        views: In the order of their definition.
        services: Name of a service → its features as `view:feature`.

    Raises:
        RegistryError: When a definition is invalid; it has every fault found.
    """

    views: tuple[View, ...] = ()
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        errors = [
            *_duplicate_errors(self.views),
            *(error for view in self.views for error in view_errors(view)),
            *self._service_errors(),
        ]
        if errors:
            raise RegistryError(errors)

    @cached_property
    def _by_entity(self) -> dict[str, dict[str, tuple[View, Feature]]]:
        tree: dict[str, dict[str, tuple[View, Feature]]] = {}
        for view in self.views:
            tree.setdefault(view.entity, {}).update({f.name: (view, f) for f in view.features})
        return tree

    @property
    def entities(self) -> list[str]:
        """The entity types, sorted."""
        return sorted(self._by_entity)

    @property
    def references(self) -> list[str]:
        """All features as `view:feature`, in the order of their definition."""
        return [f"{view.name}:{feature.name}" for view in self.views for feature in view.features]

    def view(self, name: str) -> View:
        """The view of that name.

        Raises:
            KeyError: When there is none.
        """
        for view in self.views:
            if view.name == name:
                return view
        raise KeyError(name)

    @property
    def lifetimes(self) -> dict[str, int | None]:
        """Entity type → seconds that its values are served; None for no limit."""
        found: dict[str, int | None] = {}
        for view in self.views:
            known = found.get(view.entity, 0)
            unlimited = view.ttl is None or known is None
            found[view.entity] = None if unlimited else max(known or 0, view.ttl or 0)
        return found

    def join_key(self, entity: str) -> str:
        """The join key of an entity type that has views."""
        return next(view.join_key for view in self.views if view.entity == entity)

    def resolve(self, entity: str, names: Iterable[str]) -> list[tuple[View, Feature]]:
        """Look features of an entity type up by name.

        Args:
            entity: The entity type.
            names: `feature` or `view:feature`; the name of a service stands for all its
                features.

        Returns:
            Each feature once, with its view, in the order of the names.

        Raises:
            UnknownEntity: When no view has the entity type.
            UnknownFeature: When names are unknown; it has all of them.
        """
        known = self._by_entity.get(entity)
        if known is None:
            raise UnknownEntity(entity, self.entities)
        found, unknown = [], {}
        for name in names:
            references = (name,) if name in known else self.services.get(name, (name,))
            for reference in references:
                view, _, feature = reference.rpartition(":")
                hit = known.get(feature)
                if hit and view in ("", hit[0].name):
                    found.append(hit)
                elif name not in self.services:
                    unknown[name] = get_close_matches(feature, known, 3, 0.5) or sorted(known)[:3]
        if unknown:
            raise UnknownFeature(unknown)
        return list(dict.fromkeys(found)) if len(found) > 1 else found

    def replacement_errors(self, old: "Registry") -> list[ErrorEntry]:
        """What keeps this registry from replacing another.

        Features may be added and removed, but none may change its type, and no view its
        entity type. Reserved names are refused as well (see `registration_errors`).
        """
        errors = [error for view in self.views for error in registration_errors(view)]
        errors += [
            error_entry(f"services.{service}", message)
            for service, references in self.services.items()
            for message in _service_messages(service, references)
        ]
        keys: dict[str, str] = {}
        for view in self.views:
            if keys.setdefault(view.entity, view.join_key) != view.join_key:
                message = f"the join key of {view.entity} is {keys[view.entity]!r} in another view"
                errors.append(error_entry(f"views.{view.name}", message))
        known_views = {view.name: view for view in reversed(old.views)}
        for view in self.views:
            before = known_views.get(view.name)
            if before and before.entity != view.entity:
                message = f"its entity was {before.entity!r} and cannot become {view.entity!r}"
                errors.append(error_entry(f"views.{view.name}", message))
            for feature in view.features:
                known = old._by_entity.get(view.entity, {}).get(feature.name)
                if known and known[1].dtype != feature.dtype:
                    message = (
                        f"its type was {known[1].dtype} and cannot become {feature.dtype};"
                        " use another name"
                    )
                    errors.append(error_entry(f"views.{view.name}.{feature.name}", message))
        return errors

    def changes(self, old: "Registry") -> dict[str, Any]:
        """What would change if this registry took the place of another.

        Returns:
            `new` and `removed`: features as `view:feature`, and services as
            `service NAME`. `changed`: views and features that stay, each with the
            `field` that differs, its `old` and its `new` value.
        """
        before, after = old._parts(), self._parts()
        changed = [
            {"name": name, "field": field, "old": before[name][field], "new": value}
            for name, fields in after.items()
            if name in before
            for field, value in fields.items()
            if value != before[name][field]
        ]
        return {
            "new": [name for name in after if name not in before and _is_removable(name)],
            "removed": [name for name in before if name not in after and _is_removable(name)],
            "changed": changed,
        }

    def _parts(self) -> dict[str, dict[str, Any]]:
        """Every view (`view NAME`), feature (`view:feature`) and service, as fields."""
        parts: dict[str, dict[str, Any]] = {}
        for view in self.views:
            fields = asdict(view)
            del fields["name"], fields["features"]
            parts[f"view {view.name}"] = fields
            for feature in view.features:
                parts[f"{view.name}:{feature.name}"] = asdict(feature)
        services = self.services.items()
        return parts | {f"service {name}": {"features": list(refs)} for name, refs in services}

    def to_dict(self) -> dict[str, Any]:
        """The registry as JSON-compatible data."""
        return {
            "views": [asdict(v) for v in self.views],
            "services": {k: list(v) for k, v in self.services.items()},
        }

    @classmethod
    def from_dict(cls, body: Any) -> "Registry":
        """The registry that `to_dict` gave.

        Raises:
            RegistryError: For anything else.
        """
        try:
            parts = _ADAPTER.validate_json(orjson.dumps(body), strict=True)
        except ValidationError as error:
            raise RegistryError(
                [
                    error_entry(".".join(map(str, e["loc"])) or "body", e["msg"])
                    for e in error.errors()
                ]
            ) from error
        return cls(tuple(parts["views"]), parts.get("services", {}))

    def _service_errors(self) -> list[ErrorEntry]:
        known = set(self.references)
        return [
            error_entry(f"services.{service}", f"{reference!r} is not a feature of any view")
            for service, references in self.services.items()
            for reference in references
            if reference not in known
        ]


def _service_messages(name: str, references: Sequence[str]) -> Iterable[str]:
    if not is_name(name):
        yield f"invalid name {name!r:.60}: use letters, digits, _ and -, at most 128"
    if not references:
        yield "a service needs at least one feature"


def _is_removable(name: str) -> bool:
    """Whether it is a feature's or a service's: a view comes with its features."""
    return not name.startswith("view ")


class _Body(TypedDict):
    views: list[View]
    services: NotRequired[dict[str, tuple[str, ...]]]


_ADAPTER = TypeAdapter(_Body)


def _duplicate_errors(views: Sequence[View]) -> list[ErrorEntry]:
    errors = [
        error_entry(f"views.{a}", "two views have this name")
        for a, b in pairwise(sorted(v.name for v in views))
        if a == b
    ]
    owners: dict[tuple[str, str], str] = {}
    for view in views:
        counts = Counter(f.name for f in view.features)
        for feature in view.features:
            other = owners.setdefault((view.entity, feature.name), view.name)
            if other != view.name or counts[feature.name] > 1:
                where = f" in {other}" if other != view.name else ""
                message = f"{view.entity} already has a feature of this name{where}"
                errors.append(error_entry(f"views.{view.name}.{feature.name}", message))
    return [dict(items) for items in dict.fromkeys(tuple(e.items()) for e in errors)]
