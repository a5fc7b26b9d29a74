"""Stopping leaves nothing, whatever happened before; starting again finds the data as
it was.
"""

import json
import os
import signal
import socket
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.cluster


def belonging(data: str) -> list[str]:
    """Every process that names this data folder in its command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            text = " ".join(process.cmdline())
            if data in text or process.environ().get("SHOAL_RUNTIME", "").startswith(data):
                found.append(f"{process.pid} {text[:120]}")
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def test_after_a_killed_supervisor_down_sweeps_all_and_up_finds_the_data_behind_either_proxy(
    platform: Any, acme: str
) -> None:
    if os.environ.get("SHOAL_TEST_DATA"):
        pytest.skip("this Shoal is shared with others (SHOAL_TEST_DATA)")
    with platform.client(acme) as client:
        client.greeting.put_note(id="kept", text="over the restart")
    assert belonging(str(platform.data))
    os.kill(json.loads((platform.data / "state.json").read_text())["pid"], signal.SIGKILL)
    platform.shoal("down")
    assert belonging(str(platform.data)) == []
    for port in (8000, 8404, 9101):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"port {port} is still taken"
    up_with(platform, proxy="ray")
    assert not any("haproxy" in line for line in belonging(str(platform.data)))
    with platform.client(acme) as client:
        assert client.greeting.get_note(id="kept")["text"] == "over the restart", (
            "Ray's own proxy serves where HAProxy is not to be had"
        )
    platform.shoal("down")
    up_with(platform, proxy="haproxy")
    with platform.client(acme) as client:
        assert client.greeting.get_note(id="kept")["text"] == "over the restart"


def up_with(platform: Any, *, proxy: str) -> None:
    platform.env["SHOAL_PROXY"] = proxy
    try:
        platform.shoal("up", "--detach", check=False)
    finally:
        del platform.env["SHOAL_PROXY"]


def test_down_without_up_is_no_error(platform: Any, tmp_path: Any) -> None:
    import subprocess
    import sys

    env = {**platform.env, "SHOAL_DATA": str(tmp_path / "never")}
    done = subprocess.run(
        [sys.executable, "-m", "shoal.cli.main", "down", "--json"],
        env=env,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, json.loads(done.stdout)) == (0, {"stopped": False})
