"""One platform for all cluster tests, started by `shoal up --detach`.

`SHOAL_TEST_DATA=DIR` uses one that is running, with the example plugin on its
PYTHONPATH.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from shoal import Client, Conflict, Role
from shoal.router.credentials import mint_internal
from shoal.tenants.records import PLATFORM

from ..leaks import leaks_of_files

HERE = Path(__file__).parent
PLUGIN = HERE.parent / "greeting_plugin"


@dataclass
class Platform:
    """A running Shoal. `shoal(…)` runs its command line."""

    data: Path
    env: dict[str, str]
    address: str = ""
    ray: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    def shoal(self, *words: str, check: bool = True, timeout: float = 240) -> Any:
        """Run a command with --json; what it printed, decoded. With check=False, (exit
        status, output).
        """
        done = subprocess.run(
            [sys.executable, "-m", "shoal.cli.main", *words, "--json"],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"shoal {' '.join(words)}: {done.stdout}\n{done.stderr}"
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        value = json.loads(lines[-1]) if lines and lines[-1][0] in "{[" else done.stdout
        return value if check else (done.returncode, value)

    def create_tenant(self, name: str) -> None:
        with suppress(Conflict), self.operator() as operator:
            operator.platform.create_tenant(id=name)

    def key(self, tenant: str, role: str = "editor", user: str | None = None) -> str:
        """A key of a tenant, created once."""
        name = f"{tenant}/{role}/{user}"
        if name not in self.keys:
            with self.operator() as operator:
                made = operator.platform.create_key(id=tenant, role=role, user=user)
            self.keys[name] = made["key"]
        return self.keys[name]

    def operator(self) -> Client:
        """A client with the rights of the platform's operator."""
        secret = self.runtime["router"]["internal_secret"]
        token = mint_internal(secret, tenant=PLATFORM, role=Role.admin, user=None, ttl=3600)
        return Client(self.address, token)

    @property
    def runtime(self) -> dict[str, Any]:
        """The configuration that it was started with."""
        configuration: dict[str, Any] = json.loads((self.data / "runtime.json").read_text())
        return configuration

    def client(
        self, tenant: str, role: str = "editor", user: str | None = None, **options: Any
    ) -> Client:
        return Client(self.address, self.key(tenant, role, user), **options)


def installed_plugin(folder: Path) -> Path:
    """The example plugin, built and installed by pip into a folder of its own."""
    source, target = folder / "source", folder / "site"
    shutil.copytree(PLUGIN, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", target, source], check=True, capture_output=True, text=True)
    return target


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    existing = os.environ.get("SHOAL_TEST_DATA")
    if existing:
        env["SHOAL_DATA"] = existing
        running = Platform(Path(existing), env)
    else:
        folder = tmp_path_factory.mktemp("shoal")
        paths = [str(installed_plugin(folder)), os.environ.get("PYTHONPATH", "")]
        env |= {"SHOAL_DATA": str(folder / "data"), "PYTHONPATH": os.pathsep.join(paths)}
        running = Platform(folder / "data", env)
        status, answer = running.shoal("up", "--detach", check=False)
        # The example plugin has one capability that cannot start, on purpose.
        assert status == 1 and "failing is not ready" in str(answer), (
            running.data / "up.log"
        ).read_text()
    # For `ray://` clients in this process.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(running.data / "ray_token")}
    running.address = f"http://127.0.0.1:{running.runtime['port']}"
    running.ray = f"ray://127.0.0.1:{running.runtime['ray_client_port']}"
    try:
        yield running
    finally:
        if not existing:
            logs = Path("/tmp/ray/session_latest/logs").resolve()
            running.shoal("down")
            found = list(leaks_of_files(logs))
            assert not found, "\n".join(found[:20])


@pytest.fixture
def tenants(platform: Platform) -> Iterator[Callable[[], str]]:
    """Creates tenants for one test. They are erased only where the platform stays."""
    made: list[str] = []

    def make() -> str:
        made.append(f"t-{uuid4().hex[:8]}")
        platform.create_tenant(made[-1])
        return made[-1]

    yield make
    if os.environ.get("SHOAL_TEST_DATA"):
        for name in made:
            platform.shoal("tenants", "delete", name, "--yes", check=False)


@pytest.fixture(scope="session")
def acme(platform: Platform) -> str:
    """A tenant for tests that only read, or write under names of their own."""
    platform.create_tenant("acme")
    return "acme"


@pytest.fixture(scope="session")
def globex(platform: Platform) -> str:
    """Another tenant."""
    platform.create_tenant("globex")
    return "globex"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The lifecycle's tests come last: they stop the platform of the others."""
    items.sort(key=lambda item: item.path.name == "test_lifecycle.py")
