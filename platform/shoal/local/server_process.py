"""One embedded server: its process, its port, and whether it is ready."""

import os
import random
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import psutil

from shoal.contract.errors import Unavailable

from .private_files import open_private
from .processes import end_process, start_time

STARTUP_TIMEOUT = 60.0
"""Seconds until a server must be ready; it reads its data first."""

Progress = Callable[[str], None]


@dataclass(slots=True)
class Endpoint:
    """Where a server listens, and which process it is.

    `started` is the process's start time: an id alone may belong to another process by
    now.
    """

    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    pid: int = 0
    started: int | None = None

    def process(self) -> psutil.Process | None:
        """The server's process, if it is running."""
        if self.pid and self.started is not None and start_time(self.pid) == self.started:
            with suppress(psutil.Error):
                return psutil.Process(self.pid)
        return None


class ServerProcess:
    """A server in a folder of its own; subclasses define command and ping."""

    name: ClassVar[str] = ""
    executable: ClassVar[str] = ""
    """A part of the process's command line, which identifies leftovers."""
    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.log = folder / f"{self.name}.log"
        self.child: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self.next_try = 0.0

    def command(self) -> list[str]:
        """The command line; writes the files that it names."""
        raise NotImplementedError

    def ping(self) -> None:
        """Raise the cause if the server is not ready."""
        raise NotImplementedError

    def store_settings(self) -> dict[str, str]:
        """The fields of a StoreConfig that this server provides."""
        raise NotImplementedError

    @property
    def is_alive(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def launch(self, port_may_change: bool = True) -> None:
        """Start the process.

        Raises:
            Unavailable: The port is in use by another program and may not change.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.endpoint.port or not _is_free(self.endpoint.port):
            if not port_may_change:
                raise Unavailable(
                    f"{self.name}: port {self.endpoint.port} is in use by another program"
                )
            self.endpoint.port = _free_port()
        command = self.command()
        with open_private(self.log, "ab") as log:
            # A session of its own: Ctrl-C in a terminal goes to `shoal up`, which stops
            # the servers last.
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
        self.endpoint.started = start_time(self.child.pid)

    def leftovers(self) -> list[psutil.Process]:
        """Servers that a killed run left on this folder; two would corrupt it."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                words = [process.name(), *process.cmdline()]
                if process.cwd() == str(self.folder) and self.executable in " ".join(words):
                    found.append(process)
        return found

    def wait_until_ready(self, progress: Progress) -> None:
        """Return when the server answers a ping.

        Raises:
            Unavailable: It ended or took too long; the message ends with its log.
        """
        start, reported = time.monotonic(), 0.0
        while True:
            try:
                self.ping()
                return
            except Exception as error:
                waited = time.monotonic() - start
                if not self.is_alive or waited > STARTUP_TIMEOUT:
                    state = (
                        f"is not ready after {STARTUP_TIMEOUT:.0f} s" if self.is_alive else "ended"
                    )
                    raise Unavailable(
                        f"{self.name} {state}: {error}\n{self._end_of_log()}"
                    ) from error
                if waited - reported > 5:
                    reported = waited
                    progress(f"{self.name}: {error}")
                time.sleep(0.05)

    def _end_of_log(self, lines: int = 10) -> str:
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def stop(self) -> None:
        """Stop the process; it saves its data first."""
        process = self.endpoint.process()
        if process is not None:
            end_process(process)
        if self.child is not None:
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(5)
        self.child, self.endpoint.pid, self.endpoint.started = None, 0, None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    """A free port below those of replicas (from 30000) and outgoing connections."""
    for port in random.sample(range(20_000, 30_000), 100):
        if _is_free(port):
            return port
    raise Unavailable("No free port between 20000 and 30000")
