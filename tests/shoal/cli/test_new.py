"""`shoal new`: the package that it writes is whole, and nothing is overwritten."""

import subprocess
import sys
from pathlib import Path

import pytest

from shoal.cli.new import FILES, TEMPLATE, check_name, new
from shoal.contract.errors import ShoalError
from shoal.runtime.plugins import check_shoal_version
from shoal.runtime.projects import Project


@pytest.mark.integration
def test_a_new_package_passes_its_tests_uninstalled(tmp_path: Path) -> None:
    new("met_people", tmp_path / "made")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "made",
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout and "skipped" not in done.stdout


def test_the_template_supports_this_version_of_shoal() -> None:
    for entry in Project(Path(str(TEMPLATE))).entry_points:
        check_shoal_version(entry)


def test_the_name_stands_wherever_the_templates_did(tmp_path: Path) -> None:
    new("people", tmp_path / "made")
    made = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert made.keys() == {name.replace("greeting", "people") for name in FILES}
    assert [name for name, text in made.items() if "greeting" in text.lower()] == []


@pytest.mark.parametrize(
    "name",
    ["", "Search", "1a", "a-b", "a.b", "../a", "a b", "class", "a" * 33, "é", "platform", "search"],
)
def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ShoalError, match=r"name|capability"):
        check_name(name)
    with pytest.raises(ShoalError):
        new(name, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shoal_people.py").write_text("mine")
    with pytest.raises(ShoalError, match="exists already"):
        new("people", tmp_path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]
