"""Loading plugins: the entry points of the group `shoal`.

Each is loaded by itself, so that a broken one does not affect the others.
"""

import importlib.metadata
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pluggy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shoal.contract import hookspecs
from shoal.contract.capability import Capability

from .schedules import check_schedule

GROUP = "shoal"
SHOAL = importlib.metadata.version("shoal")
RESERVED = {"platform", "console", "docs", "healthz", "-"}
PLATFORM = importlib.metadata.EntryPoint(
    "platform", "shoal.api.capability:platform_capability", GROUP
)
"""The platform's own capability. By name, since `api` builds on `runtime`."""
log = logging.getLogger("shoal.plugins")


@dataclass(frozen=True, slots=True)
class Problem:
    """A plugin that failed to load, and why."""

    plugin: str
    cause: str


@dataclass(frozen=True)
class Plugins:
    """The installed plugins.

    Attributes:
        manager: Holds the plugins by the names of their entry points.
        capabilities: Those that are not disabled, by name.
        origins: The plugin of each capability, disabled ones included.
        problems: What failed to load.
    """

    manager: pluggy.PluginManager
    capabilities: dict[str, Capability] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def hook_callers(self, hook: str) -> list[tuple[str, pluggy.HookCaller]]:
        """The callers of one hook, one per plugin that implements it.

        Returns:
            Pairs of the plugin's name and a caller that reaches that plugin alone. The
            name is the plugin's first capability, disabled or not; without any, its
            entry point.
        """
        first = {plugin: capability for capability, plugin in reversed(self.origins.items())}
        registered = dict(self.manager.list_name_plugin())
        found = []
        for entry, plugin in registered.items():
            others = [other for other in registered.values() if other is not plugin]
            caller = self.manager.subset_hook_caller(hook, others)
            if caller.get_hookimpls():
                found.append((first.get(entry, entry), caller))
        return found

    def add(self, plugin: str, found: Any, disabled: set[str]) -> None:
        """Add what a plugin offers, unless it is disabled; else report the problem."""
        if not isinstance(found, Capability):
            cause = f"shoal_capabilities returned a {type(found).__name__}, not a Capability"
        elif found.name in RESERVED:
            cause = f"the name {found.name!r} is reserved for the platform"
        elif found.name in self.origins:
            cause = f"the capability {found.name!r} is already {self.origins[found.name]}'s"
        elif fault := fault_of(found):
            cause = f"the capability {found.name!r}: {fault}"
        else:
            self.origins[found.name] = plugin
            if found.name not in disabled:
                self.capabilities[found.name] = found
            return
        self.problems.append(Problem(plugin, cause))


def load(
    entry_points: Iterable[importlib.metadata.EntryPoint], disabled: Iterable[str] = ()
) -> Plugins:
    """Load plugins.

    Args:
        entry_points: Whatever one of them raises becomes a `Problem`. Of two
            capabilities with one name the first is kept, in the order of the entry
            points' names.
        disabled: The names of capabilities to leave out.
    """
    manager = pluggy.PluginManager("shoal")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    for entry in sorted(entry_points, key=lambda e: e.name):
        try:
            found = _register(manager, entry)
        except (Exception, SystemExit) as error:  # importing a plugin may raise anything
            if manager.has_plugin(entry.name):
                manager.unregister(name=entry.name)
            cause = describe(error)
            plugins.problems.append(Problem(entry.name, cause))
            log.warning("plugin %s failed to load: %s", entry.name, cause)
            continue
        for capability in found:
            plugins.add(entry.name, capability, set(disabled))
    return plugins


def _register(
    manager: pluggy.PluginManager, entry: importlib.metadata.EntryPoint
) -> list[Capability]:
    """Register one plugin; the capabilities that it offers."""
    check_shoal_version(entry)
    plugin = entry.load()
    manager.register(plugin, entry.name)
    manager.check_pending()
    if not (manager.get_hookcallers(plugin) or ()):
        raise ValueError("it implements no hook: is `@hookimpl` missing?")
    others = [p for p in manager.get_plugins() if p is not plugin]
    call = manager.subset_hook_caller("shoal_capabilities", others)
    return [capability for offered in call() for capability in offered]


def check_shoal_version(entry: importlib.metadata.EntryPoint) -> None:
    """Refuse a plugin whose package does not support this version of Shoal.

    Raises:
        ValueError: One of the package's requirements of `shoal` is not met.
    """
    for text in (entry.dist.requires if entry.dist else None) or ():
        needed = Requirement(text)
        met = not needed.marker or needed.marker.evaluate({"extra": ""})
        if canonicalize_name(needed.name) == "shoal" and met and SHOAL not in needed.specifier:
            raise ValueError(f"needs shoal {needed.specifier}, and this is {SHOAL}")


def fault_of(capability: Capability) -> str | None:
    """What keeps a capability from being used, or None."""
    for job in capability.jobs:
        try:
            check_schedule(job.cron)
        except ValueError as error:
            return f"job {job.name}: {error}"
        if job.timezone is not None:
            try:
                ZoneInfo(job.timezone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                return f"job {job.name}: unknown time zone {job.timezone!r}"
    model = capability.parameters
    for name, parameter in (model.model_fields if model else {}).items():
        if parameter.is_required():
            return f"parameter {name} has no default, which applies where nobody sets it"
    return None


def describe(error: BaseException) -> str:
    """An error in one line; a missing optional dependency is named as such."""
    if isinstance(error, ModuleNotFoundError):
        return f"needs the package {error.name!r}, which is not installed"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@cache
def _installed(disabled: tuple[str, ...]) -> Plugins:
    return load(importlib.metadata.entry_points(group=GROUP), disabled)


def installed(disabled: Iterable[str] = ()) -> Plugins:
    """The plugins of this environment, loaded once per process."""
    return _installed(tuple(sorted(disabled)))


def platform_capability() -> Capability:
    """The platform's own capability."""
    capability: Capability = PLATFORM.load()
    return capability
