"""Servers for tests: a Redis that may be paused, and free ports."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError

from shoal.local.redis_process import redis_binary

START_SECONDS = 10.0


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class RedisServer:
    """A redis-server on loopback that keeps nothing on disk.

    Args:
        folder: Its working directory.
        options: More of its command-line options.
        port: By default a free one.
        binary: By default the one that `shoal up` would start.
        access: What a client needs besides the address, such as a password.

    Attributes:
        url: Of its first database.
        client: A blocking client of that.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        port: int | None = None,
        binary: str | None = None,
        access: Mapping[str, Any] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = Redis(host="127.0.0.1", port=self.port, **(access or {}))
        self._command = [
            *(binary or redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--dir", str(folder), *options),
        ]
        self.start()

    def start(self) -> None:
        """Start it, again after `kill`."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except ConnectionError:
            return False

    def pause(self) -> None:
        """Stop answering, while connections stay open."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.resume()
            self.process.terminate()
            self.process.wait()
