"""Fixtures for all tests."""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from . import leaks
from .moto_server import CREDENTIALS, MotoServer
from .success_bodies import check_bodies

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHARED = Path(os.environ.get("SHOAL_REFERENCE", Path(__file__).parents[2] / "shared" / "data"))
CHROMIUM = "/usr/bin/chromium"

# No deadline: machines are shared.
settings.register_profile("shoal", deadline=None, max_examples=40)
settings.load_profile("shoal")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start servers, processes or models as integration tests."""
    slow = {"shoal_servers", "shoal_console", "browser", "cluster", "embedder", "nursery", "s3"}
    slow |= {"redis_engines", "engine"}
    for item in items:
        if slow & set(getattr(item, "fixturenames", ())):
            item.add_marker("integration")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test fails that logged or printed a secret."""
    report = yield
    if not report.failed:
        for section, text in report.sections:
            if found := list(leaks.leaks(text.encode(errors="replace"))):
                report.outcome = "failed"
                report.longrepr = f"{item.nodeid}: {section}: {', '.join(found)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    made = yield
    if fixturedef.argname == "shoal_servers":
        leaks.register_servers(made.online, made.events)
    return made


@pytest.fixture(scope="module")
def shoal_app(shoal_app: Callable[..., Any]) -> Callable[..., Any]:
    """The plugin's fixture, with every body of success held to its OpenAPI document."""

    def serve(*names: str, **options: Any) -> Any:
        app = shoal_app(*names, **options)
        app.run(check_bodies(app.platform))
        return app

    return serve


@pytest.fixture(scope="session", autouse=True)
def no_secret_in_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After all tests, no file that others may read has a secret in it."""
    yield
    found = list(leaks.leaks_of_files(tmp_path_factory.getbasetemp()))
    assert not found, "\n".join(found[:20])


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; skips where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data at {SHARED} (set SHOAL_REFERENCE)")
    return SHARED


# Of a module only: while Playwright is open, asyncio starts no loop in this thread.
@pytest.fixture(scope="module")
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
def s3() -> Iterator[MotoServer]:
    """An S3; `s3.lake()` is a new lake in it."""
    patch = pytest.MonkeyPatch()
    for name, value in CREDENTIALS.items():
        patch.setenv(name, value)
    server = MotoServer.start()
    yield server
    server.stop()
    patch.undo()
