"""One Shoal for all cluster tests, started by `shoal up --detach` as a person would,
with a stranger's plugin installed beside it.

`SHOAL_TEST_DATA=DIR` uses one that runs already (it must have been started with the
greeting plugin on its PYTHONPATH).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from shoal import Client

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
            env=self.env, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"shoal {' '.join(words)}: {done.stdout}\n{done.stderr}"
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        value = json.loads(lines[-1]) if lines and lines[-1][0] in "{[" else done.stdout
        return value if check else (done.returncode, value)

    def key(self, tenant: str, role: str = "editor", user: str | None = None) -> str:
        """A key of a tenant, made once."""
        name = f"{tenant}/{role}/{user}"
        if name not in self.keys:
            words = [
                "keys",
                "create",
                "--tenant",
                tenant,
                "--role",
                role,
                *(["--user", user] if user else []),
            ]
            self.keys[name] = self.shoal(*words)["key"]
        return self.keys[name]

    def client(
        self, tenant: str, role: str = "editor", user: str | None = None, **options: Any
    ) -> Client:
        return Client(self.address, self.key(tenant, role, user), **options)


def installed_plugin(folder: Path) -> Path:
    """The stranger's plugin, built and installed by pip into a folder of its own."""
    source, target = folder / "source", folder / "site"
    shutil.copytree(PLUGIN, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target, source],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
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
        # The stranger's plugin brings one capability that cannot come up, on purpose;
        # all others must.
        assert status == 1 and "failing is not ready" in str(answer), (
            running.data / "up.log"
        ).read_text()
    runtime = json.loads((running.data / "runtime.json").read_text())
    running.address = f"http://127.0.0.1:{runtime['port']}"
    running.ray = f"ray://127.0.0.1:{runtime['ray_client_port']}"
    try:
        yield running
    finally:
        if not existing:
            running.shoal("down")


@pytest.fixture
def tenants(platform: Platform) -> Iterator[Callable[[], str]]:
    """Makes companies for one test, and erases them after it."""
    made: list[str] = []

    def make() -> str:
        name = f"t-{uuid4().hex[:8]}"
        platform.shoal("tenants", "create", name)
        made.append(name)
        return name

    yield make
    for name in made:
        platform.shoal("tenants", "delete", name, "--yes", check=False)


@pytest.fixture(scope="session")
def acme(platform: Platform) -> str:
    """A company for tests that only read or that write under names of their own."""
    return _company(platform, "acme")


@pytest.fixture(scope="session")
def globex(platform: Platform) -> str:
    """Another company."""
    return _company(platform, "globex")


def _company(platform: Platform, name: str) -> str:
    if name not in {t["id"] for t in platform.shoal("tenants", "list")}:
        platform.shoal("tenants", "create", name)
    return name
