"""The plugin of a folder, served without Ray and anew after each change: `shoal dev`.

A process waits with Shoal's modules imported, and forks one that serves the plugin as
its files are. The stores, tenants and keys stay until the end.
"""

import argparse
import json
import logging
import multiprocessing
import signal
import sys
import tempfile
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from watchfiles import PythonFilter, watch

from shoal.contract.errors import ShoalError
from shoal.local.embedded_servers import EmbeddedServers
from shoal.local.private_files import write_json
from shoal.runtime import plugins
from shoal.runtime.configuration import Config
from shoal.runtime.projects import Project, use_project
from shoal.stores.configuration import StoreConfig

from .console import SECRET, create_keys, serve_platform
from .local_platform import LocalPlatform
from .local_worker import LocalWorker

STOP_SECONDS = 1.0
FORK = multiprocessing.get_context("forkserver")


def serve_project(folder: Path, port: int) -> None:
    """Serve until the process is stopped.

    Raises:
        NotFound: The folder has no `pyproject.toml`.
        Invalid: That declares no plugin.
    """
    Project(folder)
    FORK.set_forkserver_preload([__name__])
    with tempfile.TemporaryDirectory(prefix="shoal-dev-") as data:
        servers = EmbeddedServers(data)
        child = None
        try:
            stores = servers.start().model_dump(mode="json", exclude_none=True)
            child = _start(folder, data, stores, port)
            for changes in watch(folder, watch_filter=PythonFilter(extra_extensions=(".toml",))):
                names = sorted({Path(path).name for _, path in changes})
                print(f"{', '.join(names)} changed", flush=True)
                _stop(child)
                child = _start(folder, data, stores, port)
        finally:
            if child is not None:
                _stop(child)
            servers.stop()


def _start(folder: Path, data: str, stores: dict[str, Any], port: int) -> ForkServerProcess:
    child = FORK.Process(target=_serve, args=(folder, Path(data), stores, port), daemon=True)
    child.start()
    return child


def _stop(child: ForkServerProcess) -> None:
    child.terminate()
    child.join(STOP_SECONDS)
    if child.is_alive():
        child.kill()
        child.join()


def _serve(folder: Path, data: Path, stores: dict[str, Any], port: int) -> None:
    """Serve the plugin as its files are now, or say why it cannot be."""
    try:
        project = Project(folder)
    except ShoalError as error:
        print(f"✗ {error.detail}", flush=True)
        return
    use_project(project)
    found = plugins.installed()
    problems = [problem for problem in found.problems if problem.plugin in project.plugins]
    for problem in problems:
        print(f"✗ Plugin {problem.plugin} failed to load: {problem.cause}", flush=True)
    names = [name for name, plugin in found.origins.items() if plugin in project.plugins]
    config = Config.load(
        port=port,
        data=data,
        stores=StoreConfig(**stores),
        router={"internal_secret": SECRET},
    )
    platform = LocalPlatform(config, [found.capabilities[name] for name in names], problems)

    async def announce() -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it tells of each stop
        keys = data / "keys.json"
        if not keys.exists():
            write_json(keys, await create_keys(platform))
        address = f"http://127.0.0.1:{port}"
        print(f"✓ {', '.join(names) or 'no capability'} at {address}, console at {address}/console")
        for tenant, by_role in json.loads(keys.read_text()).items():
            print(f"  {tenant:9} {by_role['admin']}", flush=True)

    serve_platform(platform, announce, worker=LocalWorker(platform), stop_seconds=0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a plugin without Ray.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve_project(given.folder, given.port)
    except ShoalError as error:
        sys.exit(f"✗ {error.detail}")
    except KeyboardInterrupt:
        pass
