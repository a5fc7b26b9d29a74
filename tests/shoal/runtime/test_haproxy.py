"""HAProxy is closed to the outside, or does not start."""

import subprocess
from pathlib import Path

import pytest
from ray.serve._private.haproxy import HAProxyApi, HAProxyConfig

from shoal.runtime.haproxy import find_binary, write_launcher
from shoal.runtime.haproxy_launcher import find_openings, harden

UNKNOWN = """global
    log /dev/log local0
    stats socket ipv4@*:9999 level admin
frontend prometheus
    bind 0.0.0.0:9101
"""


@pytest.fixture
def rays(tmp_path: Path) -> Path:
    """The file that Ray writes for HAProxy, from its template."""
    file = tmp_path / "haproxy.cfg"
    options = HAProxyConfig(
        socket_path=str(tmp_path / "admin.sock"),
        server_state_base=str(tmp_path),
        server_state_file=str(tmp_path / "state"),
        metrics_enabled=True,
        metrics_socket_path=str(tmp_path / "metrics.sock"),
    )
    options.http_options.host = "127.0.0.1"
    HAProxyApi(options, config_file_path=str(file))._generate_config_file_internal()
    return file


def launch(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Start an HAProxy that only says that it was started."""
    binary = folder / "binary"
    binary.write_text('#!/bin/sh\necho started "$@"\n')
    binary.chmod(0o700)
    launcher = write_launcher(folder, str(binary), "127.0.0.1")
    command = [str(launcher), "-db", "-f", str(config)]
    return subprocess.run(command, capture_output=True, text=True)


def test_rays_configuration_is_open_and_is_closed(rays: Path) -> None:
    before = list(find_openings(rays.read_text(), "127.0.0.1"))
    assert [line.partition(":")[0] for line in before] == [
        "sends a line about each request to syslog",
        "opens the admin socket to other users",
        "listens on all interfaces",
        "listens on all interfaces",
    ]
    hardened = harden(rays.read_text(), "127.0.0.1")
    assert list(find_openings(hardened, "127.0.0.1")) == []
    assert "bind 127.0.0.1:8404" in hardened and "bind 127.0.0.1:9101" in hardened


def test_a_hardened_configuration_is_valid(rays: Path) -> None:
    binary = find_binary()
    if binary is None:
        pytest.skip("HAProxy is not installed")
    rays.write_text(harden(rays.read_text(), "127.0.0.1"))
    done = subprocess.run([binary, "-c", "-f", str(rays)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_launcher_becomes_haproxy(rays: Path, tmp_path: Path) -> None:
    done = launch(tmp_path, rays)
    assert done.stdout == f"started -db -f {rays}\n", done.stderr
    assert "bind 127.0.0.1:8404" in rays.read_text()


def test_an_unknown_configuration_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(UNKNOWN)
    done = launch(tmp_path, config)
    assert done.returncode == 1 and done.stdout == ""
    assert "stats socket ipv4@*:9999 level admin" in done.stderr
    assert "bind 0.0.0.0:9101" in done.stderr


@pytest.mark.parametrize(
    ("line", "host", "log_target", "open_"),
    [
        ("bind *:80", "127.0.0.1", None, True),
        ("bind :::80", "127.0.0.1", None, True),
        ("bind *:80", "0.0.0.0", None, False),
        ("bind 10.0.0.1:80", "127.0.0.1", None, False),
        ("stats socket /run/a mode 600 level admin", "127.0.0.1", None, False),
        ("stats socket /run/a mode 660 level admin", "127.0.0.1", None, True),
        ("stats socket /run/a level admin", "127.0.0.1", None, True),
        ("log 127.0.0.1:514 local0 info", "127.0.0.1", None, True),
        ("log 10.0.0.9:514 local0 info", "127.0.0.1", None, True),
        ("log 10.0.0.9:514 local0 info", "127.0.0.1", "10.0.0.9:514", False),
        ("log global", "127.0.0.1", None, False),
        ("log /run/metrics.sock len 8192", "127.0.0.1", None, False),
        ("no log", "127.0.0.1", None, False),
    ],
)
def test_openings_are_found_line_by_line(
    line: str, host: str, log_target: str | None, open_: bool
) -> None:
    assert bool(list(find_openings(f"section\n  {line}\n", host, log_target))) is open_
