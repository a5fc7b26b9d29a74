"""HAProxy is closed to the outside, or does not start."""

import json
import re
import resource
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from shoal.router.request_head import REQUEST_ID
from shoal.runtime.configuration import Config
from shoal.runtime.haproxy import find_binary, write_launcher
from shoal.runtime.haproxy_launcher import find_missing, find_openings, harden

from .conftest import LIMITS, Proxy, rays_configuration

UNKNOWN = """global
    log /dev/log local0
    stats socket ipv4@*:9999 level admin
frontend prometheus
    bind 0.0.0.0:9101
"""


@pytest.fixture
def rays(tmp_path: Path) -> Path:
    return rays_configuration(tmp_path)


def launch(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Start an HAProxy that only says that it was started."""
    binary = folder / "binary"
    binary.write_text('#!/bin/sh\necho started "$@"\n')
    binary.chmod(0o700)
    launcher = write_launcher(folder, str(binary), Config())
    command = [str(launcher), "-db", "-f", str(config)]
    return subprocess.run(command, capture_output=True, text=True)


def test_rays_configuration_is_open_and_is_closed(rays: Path) -> None:
    before = list(find_openings(rays.read_text(), "127.0.0.1"))
    assert [line.partition(":")[0] for line in before] == [
        "sends a line about each request to syslog",
        "opens the admin socket to other users",
        "listens on all interfaces",
        "lists the applications to everybody",
        "listens on all interfaces",
    ]
    assert list(find_missing(rays.read_text()))
    hardened = harden(rays.read_text(), "127.0.0.1", LIMITS)
    assert [*find_openings(hardened, "127.0.0.1"), *find_missing(hardened)] == []
    assert "text/plain string" not in hardened.replace('string "success"', "")
    assert "bind 127.0.0.1:8404" in hardened and "bind 127.0.0.1:9101" in hardened


def test_a_hardened_configuration_is_valid(rays: Path) -> None:
    binary = find_binary()
    if binary is None:
        pytest.skip("HAProxy is not installed")
    rays.write_text(harden(rays.read_text(), "127.0.0.1", LIMITS))
    done = subprocess.run([binary, "-c", "-f", str(rays)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_launcher_becomes_haproxy(rays: Path, tmp_path: Path) -> None:
    done = launch(tmp_path, rays)
    assert done.stdout == f"started -db -f {rays}\n", done.stderr
    assert "bind 127.0.0.1:8404" in rays.read_text()


def test_the_environment_sets_the_limits(
    rays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_INGRESS__PER_ADDRESS", "7")
    monkeypatch.setenv("SHOAL_INGRESS__EXEMPT", '["10.1.0.0/16"]')
    assert launch(tmp_path, rays).returncode == 0
    assert "sc0_conn_cur gt 7 }" in rays.read_text()
    assert "!{ src 10.1.0.0/16 }" in rays.read_text()


def test_a_launcher_is_written_for_other_machines(tmp_path: Path) -> None:
    if find_binary() is None:
        pytest.skip("HAProxy is not installed")
    command = [sys.executable, "-m", "shoal.runtime.haproxy", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == str(tmp_path / "haproxy")
    assert (
        "-f FILE" in subprocess.run([tmp_path / "haproxy"], capture_output=True, text=True).stderr
    )


def test_an_unknown_configuration_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(UNKNOWN)
    done = launch(tmp_path, config)
    assert done.returncode == 1 and done.stdout == ""
    assert "stats socket ipv4@*:9999 level admin" in done.stderr
    assert "bind 0.0.0.0:9101" in done.stderr
    assert "has no place for: tcp-request connection reject" in done.stderr


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


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status and body["title"] and body["detail"]
    assert response.headers.get_list("x-request-id") == [body["request_id"]]
    return body


def test_errors_of_haproxy_are_problems_with_an_id(proxy: Proxy) -> None:
    for path in ("/nosuch", "/", "/-/routes", "/-/ROUTES", "/-/other"):
        problem(httpx.get(proxy.address + path), 404)
    answer = httpx.get(f"{proxy.address}/dead/x", timeout=30)
    problem(answer, 503)
    assert answer.headers["retry-after"] == "1"
    assert httpx.head(f"{proxy.address}/nosuch").content == b""
    assert httpx.get(f"{proxy.address}/-/healthz").status_code == 200


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (["mine-1"], True),
        (["a" * 128], True),
        (["a" * 129], False),
        (["a b"], False),
        (['x"%[env(HOME)]'], False),
        ([""], False),
        (["one", "two"], False),
        ([], False),
    ],
)
def test_one_request_id_everywhere(proxy: Proxy, sent: list[str], kept: bool) -> None:
    headers = [("x-request-id", value) for value in sent]
    made = problem(httpx.get(f"{proxy.address}/nosuch", headers=headers), 404)["request_id"]
    passed = httpx.get(f"{proxy.address}/small/request-id", headers=headers).text
    for request_id in (made, passed):
        assert REQUEST_ID.fullmatch(request_id.encode())
        assert (request_id in sent) is kept


@pytest.mark.parametrize("size", [0, 1, 63])
def test_fewer_open_files_mean_fewer_connections(rays: Path, size: int) -> None:
    text = harden(rays.read_text(), "127.0.0.1", {**LIMITS, "connections": size})
    assert f"\n    maxconn {size}\n" in text
    with_all = harden(rays.read_text(), "127.0.0.1", {**LIMITS, "connections": 10**9})
    most = int(re.search(r"^    maxconn (\d+)$", with_all, re.MULTILINE)[1])  # type: ignore[index]
    assert 2.5 * most < resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.mark.parametrize(("size", "status"), [(60_000, 404), (65_536, 414), (100_000, 414)])
def test_a_target_no_replica_can_parse_is_414(proxy: Proxy, size: int, status: int) -> None:
    target = "/small/" + "x" * (size - len("/small/"))
    with closing(HTTPConnection("127.0.0.1", proxy.port, timeout=10)) as connection:
        connection.request("GET", target, headers={"x-request-id": "mine"})
        response = connection.getresponse()
        body = response.read()
    assert response.status == status
    if status == 414:
        assert response.headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert (problem["status"], problem["request_id"]) == (414, "mine")
