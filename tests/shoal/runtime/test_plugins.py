"""Discovery, and how it bears what is broken."""

import sys
import types
from importlib.metadata import EntryPoint

import pytest
from fastapi import APIRouter

from shoal import Capability, hookimpl
from shoal.runtime.plugins import load


def entry(name: str, *, capabilities: object = (), raises: Exception | None = None) -> EntryPoint:
    """An entry point on a module made here."""
    module = types.ModuleType(f"made_{name}")

    @hookimpl
    def shoal_capabilities() -> object:
        if raises is not None:
            raise raises
        return capabilities

    module.shoal_capabilities = shoal_capabilities  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return EntryPoint(name, module.__name__, "shoal")


def capability(name: str) -> Capability:
    return Capability(name, "", routes=lambda services: APIRouter())


def test_capabilities_are_found_by_name() -> None:
    found = load(
        [
            entry("a", capabilities=[capability("one"), capability("two")]),
            entry("b", capabilities=[capability("three")]),
        ]
    )
    assert list(found.capabilities) == ["one", "two", "three"]
    assert found.origins == {"one": "a", "two": "a", "three": "b"} and not found.problems


def test_a_missing_dependency_affects_no_other_plugin() -> None:
    found = load(
        [
            EntryPoint("gone", "a_package_that_nobody_has", "shoal"),
            entry("b", capabilities=[capability("one")]),
        ]
    )
    assert list(found.capabilities) == ["one"]
    assert [(p.plugin, p.cause) for p in found.problems] == [
        ("gone", "needs the package 'a_package_that_nobody_has', which is not installed")
    ]


def test_a_plugin_that_raises_is_reported() -> None:
    found = load(
        [
            entry("a", raises=RuntimeError("no\nlicence")),
            entry("b", capabilities=[capability("one")]),
        ]
    )
    assert [(p.plugin, p.cause) for p in found.problems] == [("a", "RuntimeError: no licence")]
    assert list(found.capabilities) == ["one"]


def test_a_repeated_name_is_a_problem() -> None:
    found = load(
        [entry("b", capabilities=[capability("one")]), entry("a", capabilities=[capability("one")])]
    )
    assert found.origins == {"one": "a"}
    assert [(p.plugin, p.cause) for p in found.problems] == [
        ("b", "the capability 'one' is already a's")
    ]


@pytest.mark.parametrize("name", ["platform", "console"])
def test_the_platforms_own_names_are_reserved(name: str) -> None:
    found = load([entry("a", capabilities=[capability(name)])])
    assert not found.capabilities and "reserved for the platform" in found.problems[0].cause


def test_a_wrong_return_value_is_reported() -> None:
    assert "returned a str" in load([entry("a", capabilities=["search"])]).problems[0].cause


def test_an_unknown_hook_is_reported() -> None:
    bad = entry("a", capabilities=[capability("one")])

    @hookimpl
    def shoal_no_such_hook() -> None: ...

    sys.modules["made_a"].shoal_no_such_hook = shoal_no_such_hook  # type: ignore[attr-defined]
    found = load([bad])
    assert not found.capabilities and "shoal_no_such_hook" in found.problems[0].cause


def test_disabled_capabilities_are_left_out() -> None:
    found = load(
        [entry("a", capabilities=[capability("one"), capability("two")])], disabled=["one"]
    )
    assert list(found.capabilities) == ["two"] and not found.problems
