"""Which applications a deployment takes along."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fastapi import APIRouter

from shoal import Capability, Client, Job
from shoal.cli.deployment import with_listing
from shoal.router.credentials import mint_internal
from shoal.tenants.records import PLATFORM
from shoal.testing.app import SECRET

DIARY = Capability("diary", "Keeps a diary.", routes=lambda services: APIRouter(), version="1")
ALL = ["diary", "platform", "console"]


@pytest.mark.parametrize(
    ("installed", "deployed"),
    [
        (DIARY, ["diary"]),
        (replace(DIARY, version="2"), ALL),
        (replace(DIARY, jobs=[Job("nightly", lambda job: {})]), ALL),
        (replace(DIARY, name="notes"), ["notes", "platform", "console"]),
    ],
    ids=["as it is", "another version", "a new job", "new"],
)
def test_what_lists_a_changed_capability_is_deployed_too(
    shoal_app: Callable[..., Any], installed: Capability, deployed: list[str]
) -> None:
    app = shoal_app(capabilities=[DIARY])
    operator = Client(app.address, mint_internal(SECRET, PLATFORM, "admin"))
    assert with_listing([installed.name], {installed.name: installed}, operator) == deployed


def test_an_unreachable_platform_is_deployed_too() -> None:
    client = Client("http://127.0.0.1:1", "x", retries=0)
    assert with_listing(["diary"], {"diary": DIARY}, client) == ALL
    assert with_listing(["nonsense"], {"diary": DIARY}, client) == ["nonsense"]
