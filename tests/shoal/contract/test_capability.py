"""What a capability may say of itself."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fastapi import APIRouter

from shoal import Backend, Capability, Event, Job, Stream, TenantContext


@pytest.mark.parametrize("name", ["", "Search", "1x", "a b", "a/b", "x" * 33, "a:b"])
def test_a_name_that_cannot_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="capability: invalid name"):
        Capability(name, "", routes=lambda services: APIRouter())


async def handle(ctx: TenantContext, events: Sequence[Event]) -> None: ...


MEMBERS: dict[str, Callable[[str], Any]] = {
    "backends": lambda name: Backend(name, lambda services: None),
    "jobs": lambda name: Job(name, lambda job: None),
    "streams": lambda name: Stream(name, ("*",), handle),
}


@pytest.mark.parametrize("kind", MEMBERS)
def test_members_have_names_of_their_own(kind: str) -> None:
    members: Any = {kind: [MEMBERS[kind]("a"), MEMBERS[kind]("b")]}
    Capability("x", "", routes=lambda services: APIRouter(), **members)
    members = {kind: [MEMBERS[kind]("a"), MEMBERS[kind]("a")]}
    with pytest.raises(ValueError, match=f"two {kind} have the same name"):
        Capability("x", "", routes=lambda services: APIRouter(), **members)


@pytest.mark.parametrize("kind", MEMBERS)
@pytest.mark.parametrize("name", ["", "A", "a.b", "0", "a:b", "x" * 33])
def test_an_invalid_member_name_is_refused(kind: str, name: str) -> None:
    members: Any = {kind: [MEMBERS[kind](name)]}
    with pytest.raises(ValueError, match=f"x: {kind}: invalid name"):
        Capability("x", "", routes=lambda services: APIRouter(), **members)
