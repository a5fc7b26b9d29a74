"""The definitions of each tenant: its own, stored in Redis, or else the shared ones."""

import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shoal import Conflict, TenantContext

from . import keys
from .errors import RegistryError
from .online import ReadPlan, reset_lifetimes
from .registry import Registry

MAX_AGE = 1.0
"""Seconds that a replica uses the definitions it read last."""

MAX_PLANS = 1_000
SHARED_DEFINITIONS = Path(__file__).with_name("workspace.json")

REPLACE_SCRIPT = """
-- Replace the registry unless it has changed. Returns 1 when it was replaced, else 0.
-- KEYS: 1 the registry
-- ARGV: 1 the registry as it was read (or ''), 2 the new one
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class Catalog:
    """A cache of the registries of tenants, and of the read plans made from them.

    Args:
        shared: The registry, as JSON, of tenants that have none of their own.
    """

    def __init__(self, shared: Path = SHARED_DEFINITIONS) -> None:
        self._shared = Registry.from_dict(json.loads(shared.read_text()))
        self._known: dict[str, tuple[float, bytes | None, Registry]] = {}
        self._plans: OrderedDict[tuple[int, str, str], tuple[Registry, ReadPlan]] = OrderedDict()

    async def registry(self, tenant: str, online: Any) -> Registry:
        """The tenant's registry, at most `MAX_AGE` seconds old.

        Raises:
            Unavailable: When Redis is unavailable.
        """
        known = self._known.get(tenant)
        now = time.monotonic()
        if known and now - known[0] < MAX_AGE:
            return known[2]
        raw = await online.get(keys.REGISTRY)
        registry = known[2] if known and known[1] == raw else self._parse(raw)
        self._known[tenant] = (now, raw, registry)
        return registry

    async def replace(
        self,
        tenant: str,
        online: Any,
        registry: Registry,
        *,
        prune: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Register new definitions in place of a tenant's old ones.

        Args:
            tenant: The tenant.
            online: The tenant's online store.
            registry: The new definitions.
            prune: Whether features and services of the tenant's own that the new
                definitions lack are removed. The shared ones always are.
            dry_run: Whether to only say what would change.

        Returns:
            What changes: see `Registry.changes`.

        Raises:
            Conflict: Something would be removed without `prune`, or others were
                registered at the same time.
            RegistryError: When the new definitions cannot replace the old ones, which
                stay.
        """
        raw = await online.get(keys.REGISTRY)
        old = self._parse(raw)
        errors = registry.replacement_errors(old)
        if errors:
            raise RegistryError(errors)
        changes = registry.changes(old)
        if dry_run:
            return changes
        if raw and changes["removed"] and not prune:
            raise Conflict(
                f"these would be removed: {', '.join(changes['removed'][:50])}. Define them too,"
                " or confirm with --prune (over HTTP: prune=true)"
            )
        body = json.dumps(registry.to_dict(), sort_keys=True)
        if not await online.eval(REPLACE_SCRIPT, [keys.REGISTRY], [raw or b"", body]):
            raise Conflict("the definitions were changed at the same time: apply them again")
        self._known.pop(tenant, None)
        before = old.lifetimes
        changed = {e: t for e, t in registry.lifetimes.items() if before.get(e, 0) != t}
        await reset_lifetimes(online, changed)
        return changes

    def read_plan(self, registry: Registry, entity: str, names: str) -> ReadPlan:
        """The plan for reading comma-separated features of an entity type.

        Raises:
            UnknownEntity: When no view has the entity type.
            UnknownFeature: When names are unknown.
        """
        key = (id(registry), entity, names)
        known = self._plans.get(key)
        if known:
            return known[1]
        plan = ReadPlan(entity, registry.resolve(entity, split_names(names)))
        self._plans[key] = (registry, plan)  # keeping the registry keeps its id unique
        if len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)
        return plan

    def _parse(self, raw: bytes | None) -> Registry:
        return Registry.from_dict(json.loads(raw)) if raw else self._shared


catalog = Catalog()
"""The catalog of this process: a replica's routes and a stream worker use it."""


async def load_registry(ctx: TenantContext) -> Registry:
    """The registry of the caller's tenant, from this process's catalog."""
    return await catalog.registry(ctx.tenant, ctx.stores.online)


def split_names(names: str) -> Sequence[str]:
    """The names in a comma-separated list, without blanks."""
    return [n for n in (n.strip() for n in names.split(",")) if n]
