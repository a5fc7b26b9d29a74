"""Creating and erasing a tenant, as plugins see it."""

import sys
import types
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from fastapi import APIRouter

from shoal import Capability, Conflict, NotFound, TenantContext, hookimpl
from shoal.api.capability import platform_capability
from shoal.router.settings import RouterSettings
from shoal.runtime import plugins
from shoal.runtime.configuration import Config
from shoal.runtime.context import PlatformContext
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.erasure import note_erased

pytestmark = pytest.mark.anyio


def capability(name: str) -> Capability:
    return Capability(name, "", routes=lambda services: APIRouter())


class Recorder:
    """Plugins that record which of their hooks were called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        self._monkeypatch = monkeypatch

    def entry(self, name: str, capabilities: list[Capability] | None = None) -> EntryPoint:
        """An entry point on a plugin with the tenant hooks, and these capabilities."""
        module = types.ModuleType(f"recorded_{name}")
        if capabilities is not None:

            @hookimpl
            def shoal_capabilities() -> list[Capability]:
                return capabilities

            module.__dict__["shoal_capabilities"] = shoal_capabilities

        @hookimpl
        async def shoal_tenant_added() -> None:  # pluggy lets a hook leave arguments out
            self.calls.append((name, "added"))

        @hookimpl
        async def shoal_tenant_removed(ctx: TenantContext) -> Mapping[str, int]:
            await ctx.stores.online.set("late", "x")
            self.calls.append((name, f"{ctx.tenant} removed"))
            return {"rows": 3}

        module.__dict__["shoal_tenant_added"] = shoal_tenant_added
        module.__dict__["shoal_tenant_removed"] = shoal_tenant_removed
        self._monkeypatch.setitem(sys.modules, module.__name__, module)
        return EntryPoint(name, module.__name__, "shoal")


async def test_each_plugin_is_told_once_of_its_tenants(
    config: StoreConfig, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    found = plugins.load(
        [
            recorder.entry("archive"),
            recorder.entry("pair", [capability("left"), capability("right")]),
            recorder.entry("sleeper", [capability("off")]),
        ],
        disabled=["off", "left"],
    )
    assert not found.problems
    settings: dict[str, Any] = {"internal_secret": "0123456789abcdef0123456789abcdef"}
    platform = PlatformContext(
        Config.load(stores=config, router=RouterSettings(**settings)), found, platform_capability
    )
    await platform.create_tenant(tenant)
    with pytest.raises(Conflict):
        await platform.create_tenant(tenant)
    assert recorder.calls == [("archive", "added"), ("pair", "added"), ("sleeper", "added")]
    recorder.calls.clear()
    # What a request in progress erased itself, having seen that its tenant goes.
    await note_erased(platform.directory.redis, tenant, {"online": 2, "lake": 1})
    erased = (await platform.erase_tenant(tenant)).erased
    assert [plugin for plugin, _ in recorder.calls] == ["archive", "pair", "sleeper"]
    assert {what for _, what in recorder.calls} == {f"{tenant} removed"}
    assert (erased["archive.rows"], erased["left.rows"], erased["off.rows"]) == (3, 3, 3)
    assert (erased["stores.online"], erased["stores.lake"]) == (3 + 2, 1)  # each wrote one late
    with pytest.raises(NotFound):
        await platform.erase_tenant(tenant)
    await close_connections()
