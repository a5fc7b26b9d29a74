"""The embedded servers of one data folder.

data/                0700
    endpoints.json   0600: ports, passwords, processes; a restart uses the same ports
    lock             locked by the process that runs the servers
    redis/           the online store, synced every second
    events/          the event log, synced before each answer
    vectors/         LanceDB, by tenant
    lake/            Parquet
"""

import fcntl
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, ClassVar

from shoal.contract.errors import Conflict, Unavailable
from shoal.stores.configuration import StoreConfig

from .private_files import open_private, write_json
from .processes import end_process
from .redis_process import EventsProcess, RedisProcess
from .server_process import Endpoint, Progress, ServerProcess


class EmbeddedServers:
    """The servers of one data folder, run by one process.

    Call `start`, then `supervise_once` every second or so, then `stop`.
    """

    kinds: ClassVar[tuple[type[ServerProcess], ...]] = (RedisProcess, EventsProcess)

    def __init__(self, data_dir: Path | str) -> None:
        self.folder = Path(data_dir).absolute()
        self._lock: IO[Any] | None = None
        self._servers: list[ServerProcess] = []

    def start(self, progress: Progress = lambda _: None) -> StoreConfig:
        """Start the servers and return when all are ready.

        Servers that a killed run left behind are stopped first.

        Raises:
            Conflict: Another process runs the servers of this folder.
            Unavailable: A server did not start; the message says why.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._take_lock()
        try:
            self._servers = self._load()
            for server in self._servers:
                for process in server.leftovers():
                    progress(f"{server.name}: stopping a server left by an earlier run")
                    end_process(process)
            for server in self._servers:
                progress(f"{server.name}: starting")
                server.launch()
                self._save()
            for server in self._servers:
                server.wait_until_ready(progress)
                progress(f"{server.name}: ready on port {server.endpoint.port}")
        except BaseException:
            self.stop()
            raise
        return self.config()

    def config(self) -> StoreConfig:
        """Where the stores are, as last started.

        Raises:
            Unavailable: The servers of this folder were never started.
        """
        settings: dict[str, str] = {}
        for server in self._servers or self._load():
            if not server.endpoint.port:
                raise Unavailable(f"No servers were started in {self.folder}")
            settings |= server.store_settings()
        folders = {name: str(self.folder / name) for name in ("vectors", "lake")}
        return StoreConfig.model_validate(folders | settings)

    def check(self) -> dict[str, str | None]:
        """By server: why it is not ready, or None."""
        found: dict[str, str | None] = {}
        for server in self._servers or self._load():
            try:
                server.ping()
                found[server.name] = None
            except Exception as error:
                found[server.name] = str(error) or type(error).__name__
        return found

    def supervise_once(self) -> list[str]:
        """Restart the servers that ended, on the same ports.

        A server that ends again is restarted after 1, 2, 4 … 60 seconds.

        Returns:
            A line for each server that had ended.
        """
        now = time.monotonic()
        lines = []
        for server in self._servers:
            if server.is_alive:
                if server.failures and now > server.next_try + 60:
                    server.failures = 0
                continue
            if now < server.next_try:
                continue
            code = server.child.returncode if server.child else None
            server.failures += 1
            server.next_try = now + min(2.0 ** (server.failures - 1), 60.0)
            try:
                server.launch(port_may_change=False)
            except (Unavailable, OSError) as error:
                lines.append(f"{server.name} ended (exit status {code}), restart failed: {error}")
                continue
            self._save()
            lines.append(f"{server.name} ended (exit status {code}), restarted")
        return lines

    def stop(self) -> None:
        """Stop the servers, leftovers of a killed run included.

        Raises:
            Conflict: Another process runs the servers of this folder.
        """
        if not self.folder.is_dir():
            return
        self._take_lock()
        try:
            self._servers = self._servers or self._load()
            for server in reversed(self._servers):
                server.stop()
                for process in server.leftovers():
                    end_process(process)
            self._save()
        finally:
            self._servers = []
            self._release_lock()

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = open_private(self.folder / "lock", "a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise Conflict(
                f"Another process ({owner or 'unknown'}) runs the servers of {self.folder}"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def _load(self) -> list[ServerProcess]:
        path = self.folder / "endpoints.json"
        try:
            known = json.loads(path.read_text())
        except FileNotFoundError:
            known = {}
        except ValueError as error:
            raise Unavailable(f"{path} is not valid JSON: {error}") from None
        return [
            kind(self.folder / kind.name, Endpoint(**known.get(kind.name, {})))
            for kind in self.kinds
        ]

    def _save(self) -> None:
        endpoints = {s.name: asdict(s.endpoint) for s in self._servers}
        write_json(self.folder / "endpoints.json", endpoints)
