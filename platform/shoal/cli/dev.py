"""`shoal dev`."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from shoal.contract.errors import Unavailable

NEEDED = ("pytest", "watchfiles")


def dev(
    folder: Annotated[Path, typer.Argument(help="The plugin's folder.")] = Path(),
    port: Annotated[int, typer.Option(min=1, max=65535, help="The HTTP port.")] = 8000,
) -> None:
    """Serve a folder's plugin without Ray, again after each change of its files."""
    if missing := [package for package in NEEDED if find_spec(package) is None]:
        raise Unavailable(
            f"`shoal dev` needs {' and '.join(missing)}: pip install 'shoal[testing]'"
        )
    start = "from shoal.testing.dev_server import main; main()"
    os.execv(sys.executable, [sys.executable, "-c", start, str(folder), "--port", str(port)])
