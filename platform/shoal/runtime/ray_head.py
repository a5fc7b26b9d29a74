"""The Ray head that `shoal up` starts, and ending processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import shoal_ray_preload
from shoal.contract.errors import Unavailable

from .configuration import Config
from .haproxy import STATISTICS_PORT

START_SECONDS = 60.0
STOP_SECONDS = 3.0
OBJECT_STORE_BYTES = 512 * 2**20


class RayHead:
    """`ray start --head --block` as a child process.

    Args:
        config: The interface and ports.
        env: What is added to the environment: see `environment.cluster_environment`.
        log: The file for Ray's output.
    """

    def __init__(self, config: Config, env: dict[str, str], log: Path) -> None:
        self.config, self.env, self.log = config, env, log
        self.process: subprocess.Popen[bytes] | None = None
        self.address = f"{config.host}:{config.ray_port}"

    def start(self, progress: Callable[[str], None] = lambda _: None) -> str:
        """Start the head and wait until it answers.

        Returns:
            The cluster's address.

        Raises:
            Unavailable: A port is taken, or Ray did not start; with the end of its log.
        """
        self._require_free_ports()
        progress("starting Ray")
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                self._command(),
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while self.alive and time.monotonic() < deadline:
            if is_port_taken(self.config.host, self.config.ray_port):
                return self.address
            time.sleep(0.2)
        self.stop()
        end_of_log = self.log.read_text(errors="replace")[-1500:].strip()
        raise Unavailable(f"Ray did not start: {end_of_log}")

    def _require_free_ports(self) -> None:
        config = self.config
        for user, port in (
            ("Ray", config.ray_port),
            ("Ray's client", config.ray_client_port),
            ("the dashboard", config.dashboard_port),
            ("HTTP", config.port),
            ("HAProxy's statistics", STATISTICS_PORT),
        ):
            if is_port_taken(config.host, port):
                raise Unavailable(f"port {port}, for {user}, is in use by another process")

    def _command(self) -> list[str]:
        config = self.config
        return [
            *(sys.executable, "-P", shoal_ray_preload.__file__),
            *("start", "--head", "--block", "--disable-usage-stats"),
            f"--node-ip-address={config.host}",
            f"--port={config.ray_port}",
            f"--ray-client-server-port={config.ray_client_port}",
            "--include-dashboard=true",
            f"--dashboard-host={config.host}",
            f"--dashboard-port={config.dashboard_port}",
            f"--num-cpus={max(2, os.cpu_count() or 2)}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
        ]

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """End the head and the processes that it started.

        They are killed after 3 seconds: none has work of Shoal's any more, and a raylet
        takes 10 seconds to drain.
        """
        if self.process is None:
            return
        started = _session_processes(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        end_processes(started, grace=STOP_SECONDS)
        self.process.wait(5)
        self.process = None


def is_port_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _session_processes(pid: int) -> list[psutil.Process]:
    """A process, its descendants, and all processes of the session that it leads."""
    found: dict[int, psutil.Process] = {}
    try:
        root = psutil.Process(pid)
        found = {p.pid: p for p in [root, *root.children(recursive=True)]}
    except psutil.NoSuchProcess:
        pass
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid:
                found[process.pid] = process
        except (ProcessLookupError, PermissionError):
            continue
    return list(found.values())


def end_processes(processes: list[psutil.Process], grace: float = 5.0) -> None:
    """Terminate processes, and kill those that are left after `grace` seconds."""
    for process in processes:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, left = psutil.wait_procs(processes, timeout=grace)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=5)
