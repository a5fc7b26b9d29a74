"""Discovery, and how it bears what is broken."""

import sys
import types
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

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


BAD: dict[str, tuple[str, str]] = {
    "a_cron": ("CRON", "job nightly: cron '61 25 * * *' cannot be read"),
    "b_zone": ("ZONE", "job nightly: unknown time zone 'Mars/Olympus'"),
    "c_exit": ("EXIT", "SystemExit: 3"),
    "d_default": ("DEFAULT", "parameter size has no default"),
    "e_hookless": ("HOOKLESS", "is `@hookimpl` missing?"),
    "f_taken": ("TAKEN", "is already a_good's"),
    "g_version": ("VERSION", "needs shoal <0.0.1, and this is"),
}
"""Entry point → what its plugin does wrong, and the cause that is reported."""


def write_plugin(folder: Path, name: str, kind: str) -> None:
    """An installed package with a plugin."""
    offers = {
        "GOOD": "[Capability('good', '', routes=lambda services: APIRouter())]",
        "TAKEN": "[Capability('good', '', routes=lambda services: APIRouter())]",
        "CRON": "[Capability('a1', '', routes=None, jobs=[Job('nightly', print, "
        "cron='61 25 * * *')])]",
        "ZONE": "[Capability('b1', '', routes=None, jobs=[Job('nightly', print, cron='0 3 * * *', "
        "timezone='Mars/Olympus')])]",
        "DEFAULT": "[Capability('d1', '', routes=None, parameters=P)]",
    }.get(kind, "[Capability('x1', '', routes=None)]")
    (folder / f"bad_{name}.py").write_text(
        "import sys\nfrom fastapi import APIRouter\n"
        "from shoal import Capability, Job, Parameters, hookimpl\n"
        "class P(Parameters):\n    size: int\n"
        + ("sys.exit(3)\n" if kind == "EXIT" else "")
        + ("" if kind == "HOOKLESS" else "@hookimpl\n")
        + f"def shoal_capabilities():\n    return {offers}\n"
    )
    info = folder / f"bad_{name}-1.0.dist-info"
    info.mkdir()
    requires = "shoal<0.0.1" if kind == "VERSION" else "shoal"
    (info / "METADATA").write_text(f"Name: bad_{name}\nVersion: 1.0\nRequires-Dist: {requires}\n")
    (info / "entry_points.txt").write_text(f"[shoal-test]\n{name} = bad_{name}\n")


def test_bad_plugins_are_refused_by_reason_and_the_good_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, kind in {"a_good": "GOOD", **{n: kind for n, (kind, _) in BAD.items()}}.items():
        write_plugin(tmp_path, name, kind)
    found = load(entry_points(group="shoal-test"))
    assert list(found.capabilities) == ["good"]
    causes = {problem.plugin: problem.cause for problem in found.problems}
    assert causes.keys() == BAD.keys()
    for name, (_, cause) in BAD.items():
        assert cause in causes[name], causes[name]
