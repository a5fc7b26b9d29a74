"""What every test may use."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHARED = Path(os.environ.get("SHOAL_REFERENCE", Path(__file__).parents[2] / "shared" / "data"))
CHROMIUM = "/usr/bin/chromium"

settings.register_profile(
    "shoal", deadline=None, max_examples=40
)  # machines are shared: nothing is judged by its time
settings.load_profile("shoal")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that use what takes seconds to start are integration tests: `-m "not
    integration"` leaves them out.
    """
    slow = {"shoal_servers", "serving", "browser", "cluster", "embedder", "nursery"}
    for item in items:
        if slow & set(getattr(item, "fixturenames", ())):
            item.add_marker("integration")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository, or a skip that says so."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data at {SHARED} (set SHOAL_REFERENCE)")
    return SHARED


@pytest.fixture(
    scope="module"
)  # not longer: while Playwright is open, asyncio starts no loop in this thread
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )


@pytest.fixture(scope="session")
def serving() -> Iterator[Callable[[Path], Any]]:
    """Runs a script that serves a platform in a process of its own; gives its
    `address`, and `keys[company][role]`.
    """
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(_serving(script))


@contextmanager
def _serving(script: Path) -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(script)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        line = process.stdout.readline()
        assert line, f"{script} did not start"
        yield SimpleNamespace(**json.loads(line))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # says where each thread stands, and ends it
            raise
