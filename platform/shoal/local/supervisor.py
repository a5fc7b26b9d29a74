"""The supervisor of `shoal up`: starts everything on this machine, watches, stops."""

import asyncio
import json
import os
import secrets
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import SecretStr

from shoal.contract.errors import Unavailable
from shoal.runtime import cluster
from shoal.runtime.configuration import TOKEN_FILE, Config
from shoal.runtime.environment import cluster_environment
from shoal.runtime.ray_head import RayHead, end_processes
from shoal.runtime.rollout import deploy_applications

from .embedded_servers import EmbeddedServers
from .private_files import open_private, write_json
from .processes import divert_output, handle_signals
from .state import create_state, remove_state, require_stopped, running_state, update_state

Progress = Callable[[str], None]


class Supervisor:
    """Runs the platform on this machine and owns its data folder meanwhile."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.data = config.data.resolve()
        self._servers: EmbeddedServers | None = None
        self._head: RayHead | None = None
        self._stopping = threading.Event()

    @property
    def address(self) -> str:
        """The platform's HTTP address."""
        return f"http://{self.config.host}:{self.config.port}"

    def start(self, progress: Progress) -> dict[str, str]:
        """Start the servers, Ray, Serve and the applications.

        Args:
            progress: Called with each line of progress.

        Returns:
            The applications that failed, with the cause.

        Raises:
            Unavailable: A server, Ray or Serve did not start, or Shoal already runs on
                this data folder.
        """
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.data.chmod(0o700)
        stop_leftovers(self.data)
        create_state(self.data)
        self._complete_config(progress)
        runtime = self.data / "runtime.json"
        if self.config.address is None:
            write_json(runtime, self.config.dump_with_secrets())
            _write_ray_token(self.data / TOKEN_FILE)
        else:  # each machine has its environment, and the deployment brings the rest
            runtime.unlink(missing_ok=True)
        env = cluster_environment(self.config, runtime)
        os.environ.update(env)
        divert_output(self.data / "driver.log")
        address = self.config.address or self._start_ray(env, progress)
        progress("connecting to Ray")
        cluster.connect(address)
        progress("starting Ray Serve")
        cluster.start_serve(self.config)
        failed = deploy_applications(progress)
        update_state(self.data, ready=True, failed=failed)
        return failed

    def _complete_config(self, progress: Progress) -> None:
        """Fill in what the configuration leaves to `shoal up`, starting the servers.

        Raises:
            Invalid: Something is left on a cluster of other machines, which could not
                know of it.
        """
        if self.config.address is not None:
            self.config.require_complete()
        stores = self.config.stores
        if stores is None:
            self._servers = EmbeddedServers(self.data)
            stores = self._servers.start(progress)
        router = self.config.router
        if router.internal_secret is None:
            secret = SecretStr(_internal_secret(self.data / "secret"))
            router = router.model_copy(update={"internal_secret": secret})
        self.config = self.config.model_copy(
            update={"data": self.data, "stores": stores, "router": router}
        )

    def _start_ray(self, env: dict[str, str], progress: Progress) -> str:
        self._head = RayHead(self.config, env, self.data / "ray.log")
        address = self._head.start(progress)
        update_state(self.data, ray=self._head.process.pid if self._head.process else None)
        return address

    def watch(self) -> None:
        """Restart embedded servers that end, until `request_stop`.

        Raises:
            Unavailable: Ray has ended.
        """
        while not self._stopping.wait(1.0):
            if self._servers is not None:
                self._servers.supervise_once()
            if self._head is not None and not self._head.alive:
                raise Unavailable(f"Ray has ended: see {self.data / 'ray.log'}")

    def request_stop(self, *_: object) -> None:
        """End `watch`; may be called by a signal handler."""
        self._stopping.set()

    def stop(self, progress: Progress = lambda _: None) -> None:
        """Stop everything that `start` started, the applications first."""
        handle_signals(signal.SIG_IGN)
        try:
            _stop_applications(progress)
        finally:
            if self._head is not None:
                progress("stopping Ray")
                self._head.stop()
            if self._servers is not None:
                progress("stopping the embedded servers")
                self._servers.stop()
            stop_leftovers(self.data)
            remove_state(self.data)


def _stop_applications(progress: Progress) -> None:
    import ray

    if not ray.is_initialized():
        return
    from shoal.runtime.context import PlatformContext
    from shoal.runtime.stream_worker import stop_workers

    progress("stopping the applications")
    _run_within(15, lambda: asyncio.run(stop_workers(PlatformContext.current())))
    _run_within(30, cluster.stop_serve)
    _run_within(10, ray.shutdown)


def _run_within(seconds: float, action: Callable[[], None]) -> None:
    """Run an action, but continue without it when it hangs, as on a dead cluster."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)


def _internal_secret(path: Path) -> str:
    """The secret that signs the platform's own tokens, generated once."""
    if not path.exists():
        write_json(path, secrets.token_urlsafe(48))
    return str(json.loads(path.read_text()))


def _write_ray_token(path: Path) -> None:
    """Write the token that Ray's ports ask for, generated once."""
    if not path.exists():
        with open_private(path, "w") as file:
            file.write(secrets.token_hex(32))


def stop_leftovers(data: Path) -> None:
    """End the cluster processes that a killed supervisor left behind.

    They are found by their environment, which names the data folder.

    Raises:
        Unavailable: The supervisor is still running.
    """
    require_stopped(data)
    runtime = str(data.resolve() / "runtime.json")
    leftovers = []
    for process in psutil.process_iter():
        with suppress(psutil.AccessDenied, psutil.NoSuchProcess):
            if process.pid != os.getpid() and process.environ().get("SHOAL_RUNTIME") == runtime:
                leftovers.append(process)
    end_processes(leftovers)


def stop_running(data: Path, progress: Progress, timeout: float = 90.0) -> bool:
    """Stop the supervisor of a data folder, and what a killed one left behind.

    Args:
        data: The data folder.
        progress: Called with each line of progress.
        timeout: Seconds to wait for the supervisor.

    Returns:
        Whether a supervisor was running.

    Raises:
        Unavailable: The supervisor did not stop in time.
    """
    state = running_state(data)
    if state is not None:
        progress("stopping")
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(state["pid"])
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout)
            except psutil.TimeoutExpired:
                raise Unavailable(
                    f"Process {state['pid']} did not stop within {timeout:.0f} s"
                ) from None
    if data.is_dir():
        stop_leftovers(data)
        EmbeddedServers(data).stop()
        remove_state(data)
    return state is not None
