"""A replica that blocks its event loop, or whose memory grows, says so."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import APIRouter, Depends
from hypothesis import given
from hypothesis import strategies as st

from shoal import Capability, Client, TenantContext, requires
from shoal.router import replica_watch
from shoal.router.credentials import mint_internal
from shoal.router.replica_watch import likely_causes
from shoal.tenants.records import PLATFORM
from shoal.testing import wait_until
from shoal.testing.app import SECRET, CapabilityApp

kept: list[bytes] = []


def routes(_: Any) -> APIRouter:
    router = APIRouter()

    @router.get("/block/{id}")
    async def block(id: str, ctx: TenantContext = Depends(requires("read:own"))) -> None:
        time.sleep(0.3)

    @router.get("/begin-block")
    async def begin_block(ctx: TenantContext = Depends(requires("read:own"))) -> None:
        time.sleep(1.0)
        await asyncio.sleep(0.5)

    @router.get("/wait")
    async def wait(ctx: TenantContext = Depends(requires("read:own"))) -> None:
        await asyncio.sleep(0.3)

    @router.get("/leak")
    async def leak(ctx: TenantContext = Depends(requires("read:own"))) -> None:
        kept.append(b"x" * 2**26)

    return router


SLOW = Capability("slow", "Blocks and leaks.", routes=routes)


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., CapabilityApp]) -> CapabilityApp:
    return shoal_app(capabilities=[SLOW])


def warnings(app: CapabilityApp) -> list[str]:
    """What the operator is told of the capability."""
    app.run(app.platform.apps["slow"].watch.send_report())
    operator = Client(app.address, mint_internal(SECRET, PLATFORM, "admin"))
    listed = operator.platform.list_capabilities()["capabilities"]
    [found] = [capability["warnings"] for capability in listed if capability["name"] == "slow"]
    return list(found)


def logged_blocks(caplog: pytest.LogCaptureFixture) -> str:
    """What the capability's own watch logged; the tick may come after the answer."""
    logged = [r.getMessage() for r in caplog.records if r.name == replica_watch.__name__]
    return "\n".join(message for message in logged if message.startswith("slow: "))


@pytest.mark.parametrize(
    ("operation", "arguments", "route"),
    [
        ("block", {"id": "secret"}, "GET /slow/block/{id}"),
        ("begin_block", {}, "GET /slow/begin-block"),
    ],
)
def test_the_route_that_blocks_is_named(
    app: CapabilityApp,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    arguments: dict[str, str],
    route: str,
) -> None:
    client = app.client("acme")
    client.slow.wait()
    getattr(client.slow, operation)(**arguments)
    wait_until(lambda: route in logged_blocks(caplog))
    [warning] = warnings(app)  # the longest block; a loaded machine may have a longer one
    assert "the event loop was blocked for" in warning


def test_a_block_is_named_wherever_its_tick_began(
    app: CapabilityApp, caplog: pytest.LogCaptureFixture
) -> None:
    client = app.client("acme")
    client.slow.block(id="first")
    for turn in range(10):
        caplog.clear()
        time.sleep(turn * replica_watch.TICK_SECONDS / 10)
        client.slow.block(id="next")
        wait_until(lambda: "GET /slow/block/{id}" in logged_blocks(caplog))


@given(
    st.dictionaries(st.text("abc", min_size=1), st.floats(0, 0.2), max_size=20),
    st.floats(0.5, 10),
    st.floats(0.001, 1),
)
def test_the_longest_is_a_cause_and_bystanders_none(
    bystanders: dict[str, float], took: float, waited: float
) -> None:
    causes = likely_causes({**bystanders, "GET /cause": took, "GET /waited": took * waited})
    assert "GET /cause" in causes
    assert set(causes) <= {"GET /cause", "GET /waited"}
    assert ("GET /waited" in causes) is (took * waited >= took / 2)


def test_memory_that_grows_is_named(app: CapabilityApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_watch, "GROWN_BYTES", 2**25)
    app.run(app.platform.apps["slow"].start())
    app.client("acme").slow.leak()
    assert any("the memory has grown by" in warning for warning in warnings(app))
    kept.clear()


def test_tenants_do_not_see_the_warnings(app: CapabilityApp) -> None:
    listed = app.client("acme", "admin").platform.list_capabilities()["capabilities"]
    assert not any("warnings" in capability for capability in listed)
