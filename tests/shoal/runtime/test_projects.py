"""A plugin's source folder is found like an installed one."""

from pathlib import Path

import pytest

from shoal.contract.errors import Invalid, NotFound
from shoal.runtime.plugins import GROUP, load
from shoal.runtime.projects import Project

DECLARED = """
[project]
name = "Some.Plugin"
version = "1.2.3"
dependencies = ["{needed}", "shoal-other>=9000", "shoal>=9000; python_version < '3'"]
[project.entry-points.shoal]
one = "json"
[project.entry-points.others]
two = "json"
"""


def project(folder: Path, text: str) -> Project:
    (folder / "pyproject.toml").write_text(text)
    return Project(folder)


def test_it_says_what_an_installation_would(tmp_path: Path) -> None:
    made = project(tmp_path, DECLARED.format(needed="shoal>=0.1"))
    assert (made.metadata["Name"], made.version) == ("Some.Plugin", "1.2.3")
    assert made.requires is not None and made.requires[0] == "shoal>=0.1"
    assert {(e.group, e.name) for e in made.entry_points} == {("shoal", "one"), ("others", "two")}
    assert made.plugins == ("one",)
    assert made.is_named("some-plugin") and not made.is_named("shoal")


@pytest.mark.parametrize("needed", ["shoal>=9000", "shoal<0.1", "Shoal[search]==0.0.1"])
def test_another_version_of_shoal_refuses_it_by_reason(needed: str, tmp_path: Path) -> None:
    made = project(tmp_path, DECLARED.format(needed=needed))
    (problem,) = load(made.entry_points.select(group=GROUP)).problems
    assert problem.plugin == "one" and "needs shoal" in problem.cause


@pytest.mark.parametrize("text", ["[", "", "[project]\nname = 'a'", "[tool.x]\na = 1"])
def test_a_folder_without_a_plugin_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"pyproject\.toml"):
        project(tmp_path, text)
    with pytest.raises(NotFound, match=r"pyproject\.toml"):
        Project(tmp_path / "nowhere")
