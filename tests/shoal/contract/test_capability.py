"""What a capability may say of itself."""

import pytest
from fastapi import APIRouter

from shoal import Backend, Capability, Job


@pytest.mark.parametrize("name", ["", "Search", "1x", "a b", "a/b", "x" * 33, "a:b"])
def test_a_name_that_cannot_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a capability"):
        Capability(name, "", routes=lambda services: APIRouter())


def test_two_jobs_or_backends_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two jobs"):
        Capability("x", "", routes=lambda s: APIRouter(), jobs=[Job("a", print), Job("a", print)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two backends"):
        Capability(
            "x",
            "",
            routes=lambda s: APIRouter(),
            backends=[Backend("a", print), Backend("a", print)],
        )
