"""A platform with experiments in a process of its own, and a browser. No test of this folder is judged by its time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from shoal import Client

CHROMIUM = "/usr/bin/chromium"

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def served() -> Iterator[Any]:
    """`address`, and `keys[company][role]`."""
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server on the PATH")
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("serve.py"))], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        line = process.stdout.readline()
        assert line, "the platform did not start"
        yield SimpleNamespace(**json.loads(line))
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def acme(served: Any) -> Iterator[Client]:
    with Client(served.address, served.keys["acme"]["editor"]) as client:
        yield client


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
