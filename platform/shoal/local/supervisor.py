"""`shoal up`: everything on this machine, started in order, watched, and stopped
without a trace.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr

from shoal.contract.errors import NotFound, Unavailable
from shoal.runtime import cluster
from shoal.runtime.configuration import Config
from shoal.runtime.environment import cluster_environment
from shoal.runtime.ray_head import RayHead, end_processes

from .embedded_servers import EmbeddedServers, began

Progress = Callable[[str], None]
READY = 180.0
"""Seconds to wait for the applications."""


class Supervisor:
    """Owns the data folder while it runs. `state.json` there says who runs, for `shoal
    down` and `status`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.data = config.data.resolve()
        self.servers: EmbeddedServers | None = None
        self.head: RayHead | None = None
        self._stopping = threading.Event()

    @property
    def address(self) -> str:
        return f"http://{self.config.host}:{self.config.port}"

    def start(self, progress: Progress) -> dict[str, str]:
        """Start everything; the applications that did not come up, with the cause.
        Unavailable when the ground is missing.
        """
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.data.chmod(0o700)
        sweep(self.data)
        write(
            self.data / "state.json",
            {"pid": os.getpid(), "began": began(os.getpid()), "ready": False},
        )
        stores = self.config.stores
        if stores is None:
            self.servers = EmbeddedServers(self.data)
            stores = self.servers.start(progress)
        router = self.config.router
        if router.internal_secret is None:
            router = router.model_copy(
                update={"internal_secret": SecretStr(_secret(self.data / "secret"))}
            )
        self.config = self.config.model_copy(
            update={"data": self.data, "stores": stores, "router": router}
        )
        runtime = self.data / "runtime.json"
        write(runtime, dump(self.config))
        env = cluster_environment(self.config, runtime)
        os.environ.update(env)
        divert_output(self.data / "driver.log")
        if self.config.address is None:
            self.head = RayHead(self.config, env, self.data / "ray.log")
            address = self.head.start(progress)
            self._note(ray=self.head.process.pid if self.head.process else None)
        else:
            address = self.config.address
        progress("connecting to Ray")
        cluster.connect(address)
        progress("starting Ray Serve")
        cluster.start_serve(self.config)
        failed = deploy(self.config, None, progress)
        self._note(ready=True, failed=failed)
        return failed

    def _note(self, **facts: Any) -> None:
        path = self.data / "state.json"
        write(path, {**json.loads(path.read_text()), **facts})

    def watch(self) -> None:
        """Keep the embedded servers and Ray up until `request_stop`. Raises Unavailable
        when Ray has died.
        """
        while not self._stopping.wait(1.0):
            if self.servers is not None:
                self.servers.supervise_once()
            if self.head is not None and not self.head.alive:
                raise Unavailable(f"Ray has ended: see {self.data / 'ray.log'}")

    def request_stop(self, *_: object) -> None:
        self._stopping.set()

    def stop(self, progress: Progress = lambda _: None) -> None:
        """Stop everything that `start` started, the applications first."""
        on_signals(signal.SIG_IGN)
        try:
            import ray

            if ray.is_initialized():
                from shoal.runtime.context import PlatformContext
                from shoal.runtime.stream_worker import stop_workers

                progress("stopping the applications")
                _within(15, lambda: asyncio.run(stop_workers(PlatformContext.current())))
                _within(30, cluster.stop_serve)
                _within(10, ray.shutdown)
        finally:
            if self.head is not None:
                progress("stopping Ray")
                self.head.stop()
            if self.servers is not None:
                progress("stopping the embedded servers")
                self.servers.stop()
            sweep(self.data)
            (self.data / "state.json").unlink(missing_ok=True)


def on_signals(handler: Any) -> None:
    """What Ctrl-C, SIGTERM and the end of the terminal do from now on (under `nohup`,
    the latter goes on doing nothing).
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def divert_output(log: Path) -> None:
    """Ray prints what it thinks of its workers into this process's output. People read
    ours, which the command line writes to streams that it took before.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(descriptor, "w", buffering=1)


def _within(seconds: float, act: Callable[[], None]) -> None:
    """Run `act`, but go on without it when it hangs (a cluster that has died answers
    nothing).
    """
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)


def deploy(config: Config, names: list[str] | None, progress: Progress) -> dict[str, str]:
    """Deploy the named applications (all when None) to the cluster this process is
    connected to, and wait for them. The ones that failed, with the cause. An
    application that is not named is not touched.
    """
    from ray import serve

    from shoal.runtime.application import build_application
    from shoal.runtime.context import PlatformContext
    from shoal.runtime.serve_config import LOGGING, serve_applications
    from shoal.runtime.status import applications_now
    from shoal.runtime.stream_worker import stop_workers

    process = PlatformContext.current()
    every = {spec.name: spec for spec in serve_applications(process.plugins.capabilities)}
    unknown = sorted(set(names or ()) - set(every))
    if unknown:
        raise NotFound(f"no capability {', '.join(unknown)}; there are {', '.join(every)}")
    wanted = names or list(every)
    targets = [
        serve.RunTarget(
            target=build_application(every[name]),
            name=name,
            route_prefix=every[name].route_prefix,
            logging_config=LOGGING,
        )
        for name in wanted
    ]
    serve.run_many(
        targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
    )
    deadline = time.monotonic() + READY
    shown = -1
    while time.monotonic() < deadline:
        states = applications_now()
        running = [n for n in wanted if states.get(n, {}).get("status") == "RUNNING"]
        failed = {
            n: states[n]["message"]
            for n in wanted
            if states.get(n, {}).get("status") == "DEPLOY_FAILED"
        }
        if len(running) != shown:
            shown = len(running)
            waiting = [n for n in wanted if n not in running]
            progress(
                f"{shown} of {len(wanted)} applications run"
                + (f", waiting for {', '.join(waiting)}" if waiting else "")
            )
        if len(running) + len(failed) == len(wanted):
            asyncio.run(
                stop_workers(process)
            )  # the platform's ingress starts new ones, with the new code
            return failed
        time.sleep(0.3)
    return {
        n: f"not ready after {READY:.0f} s: {states.get(n, {}).get('message', '')}"
        for n in wanted
        if n not in running
    }


def _secret(path: Path) -> str:
    """The secret that signs the platform's own tokens: made once, readable by the owner
    only.
    """
    if not path.exists():
        write(path, secrets.token_urlsafe(48))
    return str(json.loads(path.read_text()))


def dump(config: Config) -> dict[str, Any]:
    """The configuration as JSON, its secrets included: for a file that only the owner
    can read.
    """

    def open_secrets(value: Any) -> Any:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        if isinstance(value, dict):
            return {k: open_secrets(v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [open_secrets(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return open_secrets(config.model_dump())


def write(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old or the new file, and only the owner
    either.
    """
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, indent=1)
    temporary.replace(path)


def running(data: Path) -> dict[str, Any] | None:
    """What `state.json` says, where the supervisor that it names lives; else None."""
    try:
        state = json.loads((data / "state.json").read_text())
    except (OSError, ValueError):
        return None
    return dict(state) if began(state.get("pid", 0)) == state.get("began", -1) else None


def sweep(data: Path) -> None:
    """End what a supervisor that was killed left behind: its Ray head's session, and
    HAProxy run through our wrapper. Refuses (Unavailable) when that supervisor still
    lives.
    """
    state = running(data)
    if state is not None and state["pid"] != os.getpid():
        raise Unavailable(
            f"Shoal already runs on {data} (process {state['pid']}); `shoal down` stops it"
        )
    runtime = str(
        data.resolve() / "runtime.json"
    )  # in the environment of every process of the cluster
    mine = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("SHOAL_RUNTIME") == runtime:
                mine.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    end_processes(mine)


def stop_running(data: Path, progress: Progress, timeout: float = 90.0) -> bool:
    """Stop the supervisor of this data folder and wait until it is gone; False when
    none ran (leftovers are swept).
    """
    state = running(data)
    if state is not None:
        progress("stopping")
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(state["pid"])
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout)
            except psutil.TimeoutExpired:
                raise Unavailable(
                    f"process {state['pid']} did not stop within {timeout:.0f} s"
                ) from None
    if data.is_dir():
        sweep(data)  # a supervisor that was killed has left what it started
        EmbeddedServers(data).stop()
        (data / "state.json").unlink(missing_ok=True)
    return state is not None
