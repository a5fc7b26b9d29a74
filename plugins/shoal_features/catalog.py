"""Which definitions a tenant has: kept in its Redis, the shared ones where it has none
of its own.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .online import Reading
from .registry import Registry, RegistryError

KEY = ("features", "registry")
FRESH = 1.0
"""Seconds for which a replica goes on with the definitions that it knows."""

SHARED = Path(__file__).with_name("workspace.json")

REPLACE = """
-- KEYS: the registry.  ARGV: what it was (or ''), what it shall be
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class Catalog:
    """The registries of the tenants that a replica serves, and the readings prepared
    from them.
    """

    def __init__(self, shared: Path = SHARED) -> None:
        self._shared = Registry.from_dict(json.loads(shared.read_text()))
        self._known: dict[str, tuple[float, bytes | None, Registry]] = {}
        self._readings: OrderedDict[tuple[int, str, str], tuple[Registry, Reading]] = OrderedDict()

    async def registry(self, tenant: str, door: Any) -> Registry:
        """The tenant's registry, at most a second old. Raises Unavailable while Redis
        is away.
        """
        known = self._known.get(tenant)
        now = time.monotonic()
        if known and now - known[0] < FRESH:
            return known[2]
        raw = await door.get(KEY)
        if known and known[1] == raw:
            registry = known[2]
        else:
            registry = Registry.from_dict(json.loads(raw)) if raw else self._shared
        self._known[tenant] = (now, raw, registry)
        return registry

    async def replace(self, tenant: str, door: Any, registry: Registry) -> list[str]:
        """Register new definitions; the names of the features that are new. Raises
        RegistryError when a feature changes its type, and the old definitions stay;
        also when someone else registered others meanwhile.
        """
        raw = await door.get(KEY)
        old = Registry.from_dict(json.loads(raw)) if raw else self._shared
        faults = registry.changed_types(old)
        if faults:
            raise RegistryError(faults)
        body = json.dumps(registry.to_dict(), sort_keys=True)
        if not await door.eval(REPLACE, [KEY], [raw or b"", body]):
            raise RegistryError(
                [{"location": "definitions", "message": "they were changed meanwhile: apply again"}]
            )
        self._known.pop(tenant, None)
        names = {f"{v.name}:{f.name}" for v in old.views for f in v.features}
        return [
            n
            for v in registry.views
            for f in v.features
            if (n := f"{v.name}:{f.name}") not in names
        ]

    def reading(self, registry: Registry, entity: str, names: str) -> Reading:
        """The prepared reading of comma-separated features. Raises KeyError and
        UnknownFeature as `Registry.resolve` does.
        """
        key = (id(registry), entity, names)
        known = self._readings.get(key)
        if known:
            return known[1]
        reading = Reading(entity, registry.resolve(entity, split(names)))
        self._readings[key] = (
            registry,
            reading,
        )  # the registry is kept, so that its id stays its own
        if len(self._readings) > 1000:
            self._readings.popitem(last=False)
        return reading


def split(names: str) -> Sequence[str]:
    return [n for n in (n.strip() for n in names.split(",")) if n]
