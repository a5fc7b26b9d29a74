"""`shoal new`: the package of a capability, to begin with."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from shoal.contract.errors import Conflict, Invalid
from shoal.runtime import plugins

from .output import show

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
TEMPLATE = files("shoal.cli") / "template"
FILES = ("pyproject.toml", "shoal_greeting.py", "test_greeting.py")
"""Of a capability named greeting; the name stands for the new one's."""


def new(
    name: Annotated[str, typer.Argument(help="The capability's name, such as greeting.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where to write it (default: shoal-NAME).")
    ] = None,
) -> None:
    """Write the package of a new capability, with tests that pass."""
    check_name(name)
    folder = folder or Path(f"shoal-{name}")
    if folder.exists():
        raise Conflict(f"{folder} exists already: name another folder with --folder")
    folder.mkdir(parents=True)
    for file in FILES:
        text = (TEMPLATE / file).read_text("utf-8")
        (folder / rename(file, name)).write_text(rename(text, name), "utf-8")
    show(
        {"folder": str(folder), "files": [rename(file, name) for file in FILES]},
        f"[green]✓[/] {folder}\n"
        f"  cd {folder}\n"
        "  pytest                     # its tests\n"
        "  shoal dev                  # serves it, and again after each change\n"
        f"  pip install . && shoal deploy {name}",
    )


def check_name(name: str) -> None:
    """Refuse a name that a capability, or its module, cannot have.

    Raises:
        Invalid: It is no name, or one that Python or the platform uses.
        Conflict: An installed plugin's capability has it.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise Invalid(
            f"{name!r} cannot name a capability: use 1 to 32 of a-z, 0-9 and _, beginning with"
            " a letter, and no word of Python"
        )
    if name in plugins.RESERVED:
        raise Invalid(f"the name {name!r} is reserved for the platform")
    if owner := plugins.installed().origins.get(name):
        raise Conflict(f"the installed plugin {owner} has a capability {name!r} already")


def rename(text: str, name: str) -> str:
    """The template's text for a capability of another name."""
    title = "".join(word.capitalize() for word in name.split("_"))
    return text.replace("Greeting", title).replace("greeting", name)
