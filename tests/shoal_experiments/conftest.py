"""A platform with experiments in a process of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal import Client

from .lab import WARMTH, Lab


@pytest.fixture(scope="session")
def served(shoal_console: Callable[[Path], Any]) -> Any:
    return shoal_console(Path(__file__).with_name("serve.py"))


@pytest.fixture
def acme(served: Any) -> Iterator[Client]:
    with Client(served.address, served.keys["acme"]["editor"]) as client:
        yield client


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., Any]) -> Any:
    return shoal_app("experiments", capabilities=[WARMTH])


@pytest.fixture
def lab(app: Any, request: pytest.FixtureRequest) -> Lab:
    return Lab(app, f"lab-{abs(hash(request.node.name)) % 10**8}")
