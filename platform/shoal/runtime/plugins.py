"""Finding capabilities: the entry points of the group `shoal`, each loaded so that a
broken one harms no other.
"""

import importlib.metadata
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pluggy

from shoal.contract import hookspecs
from shoal.contract.capability import Capability

GROUP = "shoal"
RESERVED = {"platform", "console", "docs", "healthz", "-"}
log = logging.getLogger("shoal.plugins")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a plugin is not there, for `shoal status` and `GET /platform/capabilities`."""

    plugin: str
    cause: str


@dataclass(frozen=True)
class Plugins:
    """What is installed: capabilities by name, who brought each, and what went wrong."""

    manager: pluggy.PluginManager
    capabilities: dict[str, Capability] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def hook(self, capability: str, name: str) -> Any:
        """The implementation of a hook by the plugin that brought a capability; None
        where it has none.
        """
        return getattr(self.manager.get_plugin(self.origins.get(capability, "")), name, None)


def load(
    entry_points: Iterable[importlib.metadata.EntryPoint], disabled: Iterable[str] = ()
) -> Plugins:
    """Load these entry points. Whatever one of them raises becomes a `Problem`; of two
    capabilities with one name the first (by the entry point's name) stays.
    """
    manager = pluggy.PluginManager("shoal")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    skip = set(disabled)
    for entry in sorted(entry_points, key=lambda e: e.name):
        try:
            plugin = entry.load()
            manager.register(plugin, entry.name)
            manager.check_pending()
            caller = manager.subset_hook_caller(
                "shoal_capabilities", [p for p in manager.get_plugins() if p is not plugin]
            )
            found = [c for group in caller() for c in group]
        except Exception as error:  # whatever a stranger's import may raise
            if manager.has_plugin(entry.name):
                manager.unregister(name=entry.name)
            plugins.problems.append(Problem(entry.name, describe(error)))
            log.warning("plugin %s is left out: %s", entry.name, describe(error))
            continue
        for capability in found:
            if not isinstance(capability, Capability):
                plugins.problems.append(
                    Problem(
                        entry.name,
                        f"shoal_capabilities gave a {type(capability).__name__}, not a Capability",
                    )
                )
            elif capability.name in RESERVED:
                plugins.problems.append(
                    Problem(entry.name, f"the name {capability.name!r} is the platform's own")
                )
            elif capability.name in plugins.capabilities:
                first = plugins.origins[capability.name]
                plugins.problems.append(
                    Problem(entry.name, f"the capability {capability.name!r} is already {first}'s")
                )
            elif capability.name not in skip:
                plugins.capabilities[capability.name] = capability
                plugins.origins[capability.name] = entry.name
    return plugins


def describe(error: BaseException) -> str:
    """An error in one line, with its kind, so that a missing optional dependency reads
    as what it is.
    """
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
