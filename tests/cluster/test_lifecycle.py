"""Stopping leaves nothing behind, and starting again finds the data."""

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.cluster

OTHERS = ["anomalies", "experiments", "failing", "features", "optimizer", "search"]
"""The capabilities that these tests start without, which saves half of the time."""


def processes_of(data: str) -> list[str]:
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


def start(platform: Any, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setitem(platform.env, "SHOAL_PROXY", proxy)
    monkeypatch.setitem(platform.env, "SHOAL_DISABLED", json.dumps(OTHERS))
    platform.shoal("up", "--detach")


def test_data_survives_a_killed_supervisor_and_a_new_proxy(
    platform: Any, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.environ.get("SHOAL_TEST_DATA"):
        pytest.skip("this platform is shared with others (SHOAL_TEST_DATA)")
    data = str(platform.data)
    with platform.client(acme) as client:
        client.greeting.put_note(id="kept", text="over the restart")
    assert processes_of(data)

    os.kill(json.loads((platform.data / "state.json").read_text())["pid"], signal.SIGKILL)
    platform.shoal("down")
    assert processes_of(data) == []
    for port in (8000, 8404, 9101):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"port {port} is still taken"

    start(platform, monkeypatch, proxy="ray")
    assert not any("haproxy" in line for line in processes_of(data))
    with platform.client(acme) as client:
        assert client.greeting.get_note(id="kept")["text"] == "over the restart"

    platform.shoal("down")
    start(platform, monkeypatch, proxy="haproxy")
    assert any("haproxy" in line for line in processes_of(data))
    with platform.client(acme) as client:
        assert client.greeting.get_note(id="kept")["text"] == "over the restart"


def test_down_without_up_is_no_error(
    platform: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(platform.env, "SHOAL_DATA", str(tmp_path / "never"))
    assert platform.shoal("down") == {"stopped": False}
