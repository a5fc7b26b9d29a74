"""A plugin's source folder, used as if it were installed."""

import sys
import tomllib
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from shoal.contract.errors import Invalid, NotFound

GROUP = "shoal"


class Project(Distribution):
    """What an installation would record of a folder with a `pyproject.toml`.

    Raises:
        NotFound: The folder has none.
        Invalid: It is no TOML, or declares no plugin.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        path = self.folder / "pyproject.toml"
        try:
            self._table: dict[str, Any] = tomllib.loads(path.read_text("utf-8")).get("project", {})
        except FileNotFoundError:
            raise NotFound(f"{path} does not exist: `shoal new` writes a package") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"{path}: {error}") from None
        if not self._table.get("name") or not self.plugins:
            raise Invalid(f"{path} declares no plugin: add [project.entry-points.shoal]")

    @cached_property
    def plugins(self) -> tuple[str, ...]:
        """The names of its entry points that are plugins."""
        return tuple(self._table.get("entry-points", {}).get(GROUP, {}))

    @property
    def is_installed(self) -> bool:
        try:
            Distribution.from_name(self._table["name"])
        except PackageNotFoundError:
            return False
        return True

    def is_named(self, name: str | None) -> bool:
        """Whether it is the distribution of this name; None stands for any."""
        return name is None or canonicalize_name(name) == canonicalize_name(self._table["name"])

    def read_text(self, filename: str) -> str | None:
        if filename == "METADATA":
            facts = [("Name", self._table["name"]), ("Version", self._table.get("version", "0"))]
            facts += [("Requires-Dist", needed) for needed in self._table.get("dependencies", ())]
            return "".join(f"{name}: {value}\n" for name, value in facts)
        if filename == "entry_points.txt":
            groups = self._table["entry-points"].items()
            return "".join(
                f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
                for group, entries in groups
            )
        return None

    def locate_file(self, path: Any) -> Path:
        return Path(self.folder, path)


class _ProjectFinder(DistributionFinder):
    def __init__(self, project: Project) -> None:
        self._project = project

    def find_spec(self, *_: Any) -> None:
        return None  # its modules are found on `sys.path`

    def find_distributions(
        self, context: DistributionFinder.Context = DistributionFinder.Context()
    ) -> Iterator[Distribution]:
        if self._project.is_named(context.name):
            yield self._project


def use_project(project: Project) -> None:
    """Have this process find a project before any installed version of it."""
    source = project.folder / "src"
    sys.path.insert(0, str(source if source.is_dir() else project.folder))
    sys.meta_path.insert(0, _ProjectFinder(project))
