"""A pytest plugin for authors of capabilities.

It runs a capability behind the real Router, on real embedded servers, without Ray:

    def test_it_greets(shoal_app):
        app = shoal_app("greeting")
        assert app.client("acme").greeting.greet(name="Ana")["text"] == "Hello Ana"

`shoal.testing.conformance` checks any capability against the contract.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from shoal.stores.configuration import StoreConfig

    from .app import CapabilityApp

__all__ = ["CapabilityApp", "shoal_app", "shoal_console", "shoal_servers", "wait_until"]
T = TypeVar("T")


def __getattr__(name: str) -> Any:
    if name == "CapabilityApp":
        from .app import CapabilityApp

        return CapabilityApp
    raise AttributeError(name)


def pytest_configure(config: pytest.Config) -> None:
    """Find the plugins of the folder that is tested, unless they are installed."""
    from shoal.contract.errors import Invalid, NotFound
    from shoal.runtime.projects import Project, use_project

    with suppress(Invalid, NotFound):
        project = Project(config.rootpath)
        if not project.is_installed:
            use_project(project)


def wait_until(condition: Callable[[], T], seconds: float = 60) -> T:
    """Wait until a condition is true, for what happens some time after an answer.

    Args:
        condition: Called ten times a second.
        seconds: How long to wait.

    Returns:
        The condition's value, when it is true.

    Raises:
        AssertionError: It was not true in time; with its last value.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {seconds:g} seconds"
        time.sleep(0.1)
    return value


@pytest.fixture(scope="session")
def shoal_servers(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[StoreConfig]":
    """Redis, and folders, for this test session, as `shoal up` starts them."""
    from shoal.local.embedded_servers import EmbeddedServers

    servers = EmbeddedServers(tmp_path_factory.mktemp("shoal"))
    try:
        yield servers.start()
    finally:
        servers.stop()


@pytest.fixture(scope="module")
def shoal_app(shoal_servers: "StoreConfig") -> "Iterator[Callable[..., CapabilityApp]]":
    """Serves installed capabilities for one test module, with the platform's own.

    `shoal_app("search", settings={"search": {…}})` gives a `CapabilityApp`; without
    options, the same one each time. Every tenant that is created through it is erased
    after the module.
    """
    from .app import CapabilityApp

    made: list[CapabilityApp] = []
    plain: dict[tuple[str, ...], CapabilityApp] = {}

    def serve(*names: str, **options: Any) -> CapabilityApp:
        if names in plain and not options:
            return plain[names]
        made.append(CapabilityApp(shoal_servers, names, **options))
        if not options:
            plain[names] = made[-1]
        return made[-1]

    yield serve
    for app in made:
        app.close()


@pytest.fixture(scope="session")
def shoal_console() -> Iterator[Callable[..., Any]]:
    """Runs a script that calls `shoal.testing.console.serve_console`.

    `shoal_console(path, *arguments)` gives its `address`, and `keys[tenant][role]`. It
    runs in a process of its own, since NiceGUI's state is global.
    """
    with ExitStack() as stack:
        yield lambda script, *arguments: stack.enter_context(_serving(script, *arguments))


@contextmanager
def _serving(script: Path, *arguments: str) -> Iterator[Any]:
    command = [sys.executable, "-X", "faulthandler", str(script), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        line = process.stdout.readline()
        assert line, f"{script} did not start"
        yield SimpleNamespace(**json.loads(line))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # ends it with the traceback of each thread
            raise
