"""Real servers of Milvus for tests, unmodified, each a process of its own."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import psutil

from shoal.testing.servers import free_port

START_SECONDS = 180.0
BINARIES = Path(tempfile.gettempdir()) / "shoal-milvus-2.3-binaries"
"""Unpacked once: that takes longer than anything else."""


class MilvusServer:
    """A server on loopback that keeps its data in a folder, and may be killed.

    Args:
        folder: Of its data.
        package: `milvus` (2.3, without Docker) or `milvus_lite`.
    """

    def __init__(self, folder: Path, package: str) -> None:
        self.folder, self.package, self.port = folder, package, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: psutil.Popen | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command, port = Path(sys.executable).parent, str(self.port)
        if self.package == "milvus" and BINARIES.is_dir() and not (self.folder / "bin").is_dir():
            shutil.copytree(BINARIES, self.folder / "bin", copy_function=os.link)
        if self.package == "milvus":
            arguments = ["milvus-server", "--data", str(self.folder), "--proxy-port", port]
        else:
            arguments = ["milvus-lite", "server", "--data-dir", str(self.folder), "--port", port]
            # Its threads share an engine that is made for one.
            arguments += ["--host", "127.0.0.1", "--max-workers", "1"]
        self._process = psutil.Popen(
            [str(command / arguments[0]), *arguments[1:]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, f"{self.package} did not start"
            time.sleep(0.1)
        if self.package == "milvus" and not BINARIES.is_dir():
            shutil.copytree(self.folder / "bin", BINARIES)

    def kill(self) -> None:
        """Kill it, as a crash does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            ask = channel.unary_unary("/milvus.proto.milvus.MilvusService/CheckHealth")
            version = channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
            try:
                if self.package == "milvus":  # a `CheckHealthResponse` with `isHealthy`
                    return b"\x10\x01" in ask(b"", timeout=3)
                version(b"", timeout=3)
            except grpc.RpcError:
                return False
        return True


def missing(package: str) -> str | None:
    """Why there is no such server here; None where there is."""
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed: it is for Linux on x86-64 (`pip install -e .[dev]`)"
    return None
