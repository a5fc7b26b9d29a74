"""The console in a process of its own (NiceGUI is global), in front of real routes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def served(shoal_console: Callable[[Path], Any]) -> Any:
    return shoal_console(Path(__file__).with_name("serve.py"))
