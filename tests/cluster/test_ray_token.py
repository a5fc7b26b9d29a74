"""Ray's own ports ask for the token, also on loopback."""

import contextlib
import os
import stat
import subprocess
import sys
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.cluster

CALL = """
import sys, shoal
with shoal.Client(sys.argv[1], sys.argv[2], retries=0) as client:
    print(client.platform.whoami()["tenant"])
"""
CONNECT = """
import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR")
print("connected")
"""


def token(platform: Any) -> str:
    return str((platform.data / "ray_token").read_text())


def run(
    code: str, *arguments: str, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a process without any of Ray's settings but these."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=env | {"HOME": "/nonexistent"} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_the_token_is_its_owners_alone(platform: Any) -> None:
    assert stat.S_IMODE((platform.data / "ray_token").stat().st_mode) == 0o600
    assert len(token(platform)) == 64


def test_a_job_is_submitted_only_with_the_token(platform: Any) -> None:
    address = f"http://127.0.0.1:{platform.runtime['dashboard_port']}"
    job = {"entrypoint": "echo hi"}
    for headers in ({}, {"authorization": "Bearer wrong"}):
        answer = httpx.post(f"{address}/api/jobs/", json=job, headers=headers, timeout=30)
        assert answer.status_code in (401, 403), answer.text
        for path in ("/nodes?view=summary", "/api/jobs/", "/api/serve/applications/"):
            assert httpx.get(address + path, headers=headers).status_code in (401, 403), path
    good = {"authorization": f"Bearer {token(platform)}"}
    answer = httpx.post(f"{address}/api/jobs/", json=job, headers=good, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["submission_id"]


def test_a_ray_client_needs_the_token_and_the_key(platform: Any, acme: str) -> None:
    key, path = platform.key(acme), str(platform.data / "ray_token")
    refused = run(CALL, platform.ray, key)
    assert refused.returncode != 0 and acme not in refused.stdout
    wrong = run(CALL, platform.ray, key, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="wrong")
    assert wrong.returncode != 0 and acme not in wrong.stdout
    done = run(CALL, platform.ray, key, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=path)
    assert done.stdout.strip() == acme, done.stderr


def test_the_control_plane_needs_the_token(platform: Any) -> None:
    address = f"127.0.0.1:{platform.runtime['ray_port']}"
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # else Ray takes another address
    path = str(platform.data / "ray_token")
    good = {**loopback, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": path}
    done = run(CONNECT, address, **good)
    assert "connected" in done.stdout, done.stderr
    with contextlib.suppress(subprocess.TimeoutExpired):  # Ray may try again for long
        refused = run(CONNECT, address, timeout=20, RAY_AUTH_MODE="disabled", **loopback)
        assert "connected" not in refused.stdout
