"""Hostile requests to a running platform: each is answered with a problem."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from shoal import Client, Forbidden, NotFound, Unauthenticated
from shoal.testing import wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture
def http(platform: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.address, timeout=30) as client:
        yield client


def bearer(key: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", **more}


def assert_problem(response: httpx.Response, *statuses: int) -> None:
    assert response.status_code in statuses, response.text
    assert response.headers["content-type"] == "application/problem+json", response.text
    assert response.json()["status"] == response.status_code
    assert response.json()["request_id"] == response.headers["x-request-id"]


def own_ports(key: str) -> Iterator[str]:
    """The addresses of the greeting's replicas, without HAProxy."""
    for port in range(30_000, 30_032):
        try:
            if (
                httpx.get(
                    f"http://127.0.0.1:{port}/greeting", headers=bearer(key), timeout=2
                ).status_code
                == 200
            ):
                yield f"http://127.0.0.1:{port}"
        except httpx.HTTPError:
            continue


def test_invalid_credentials_are_401(platform: Any, http: httpx.Client, acme: str) -> None:
    key = platform.key(acme)
    now = int(time.time())
    claims = {"iss": "shoal-internal", "iat": now, "exp": now + 60, "tenant": acme, "role": "admin"}
    unsigned = jwt.encode(claims, None, algorithm="none")
    forged = jwt.encode(claims, "x" * 32, algorithm="HS256")
    expired = jwt.encode({**claims, "exp": now - 60}, "x" * 32, algorithm="HS256")
    for wrong in (None, key[:-1], key + "a", "shoal_x_y", "nonsense", unsigned, forged, expired):
        assert_problem(http.get("/greeting", headers={} if wrong is None else bearer(wrong)), 401)


def test_a_key_of_another_tenant_is_403(
    platform: Any, http: httpx.Client, acme: str, globex: str
) -> None:
    theirs = bearer(platform.key(globex))
    for query in (
        f"tenant={acme}",
        f"%74enant={acme}",
        f"tenant={globex}&tenant={acme}",
        "tenant=../x",
        "tenant=a%0ab",
        "tenant=a:b",
    ):
        assert_problem(http.get(f"/greeting?{query}", headers=theirs), 403)
    assert_problem(http.get(f"/greeting?tenant={acme}%00", headers=theirs), 400)
    assert http.get(f"/greeting?tenant={globex}", headers=theirs).status_code == 200


def test_a_revoked_key_stops_within_a_second(platform: Any, http: httpx.Client, acme: str) -> None:
    made = platform.shoal("keys", "create", "--tenant", acme, "--role", "reader")
    assert http.get("/greeting", headers=bearer(made["key"])).status_code == 200
    platform.shoal("keys", "revoke", made["id"], "--yes")
    time.sleep(1)
    assert_problem(http.get("/greeting", headers=bearer(made["key"])), 401)


def test_a_replicas_own_port_asks_for_a_credential_too(platform: Any, acme: str) -> None:
    addresses = list(own_ports(platform.key(acme)))
    if not addresses:
        pytest.skip("the replicas have no ports of their own here (Ray's own proxy)")
    for address in addresses:
        response = httpx.get(f"{address}/greeting", timeout=10)
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        assert (
            httpx.get(
                f"{address}/greeting?tenant=another", headers=bearer(platform.key(acme))
            ).status_code
            == 403
        )


def test_large_or_malformed_bodies_and_headers_are_refused(
    platform: Any, http: httpx.Client, acme: str
) -> None:
    headers = bearer(platform.key(acme), **{"content-type": "application/json"})
    assert_problem(http.post("/platform/events", headers=headers, content=b"{" * 100), 400)
    assert_problem(http.post("/platform/events", headers=headers, content=b'{"type": NaN}'), 400)
    assert_problem(http.post("/platform/events", headers=headers, content=b" " * (40 * 2**20)), 413)
    response = http.get("/greeting", headers={**headers, "x-junk": "x" * 100_000})
    assert response.status_code in (400, 431)
    for path in ("/platform/boards/a%00b/members", "/platform/boards/a%0ab/members"):
        assert_problem(http.get(path, headers=headers), 400)
    assert http.get("/greeting", headers=headers).status_code == 200


def test_a_tenants_admin_does_not_operate_the_platform(
    platform: Any, http: httpx.Client, acme: str, globex: str
) -> None:
    admin = bearer(platform.key(acme, "admin"))
    assert_problem(http.post("/platform/tenants", headers=admin, json={"id": "mine"}), 403)
    assert_problem(http.get("/platform/tenants", headers=admin), 403)
    assert_problem(http.delete(f"/platform/tenants/{globex}", headers=admin), 403)
    assert_problem(
        http.post(f"/platform/tenants/{globex}/keys", headers=admin, json={"role": "admin"}), 404
    )
    assert_problem(http.get(f"/platform/tenants/{globex}/keys", headers=admin), 404)
    key = platform.shoal("keys", "create", "--tenant", globex, "--role", "reader")
    assert_problem(http.delete(f"/platform/keys/{key['id']}", headers=admin), 404)


def test_tenants_with_hostile_names_are_refused(platform: Any) -> None:
    for name in ("../x", "a:b", "a\nb", "a/b", "A", "", "platform", "x" * 64):
        code, _ = platform.shoal("tenants", "create", name, check=False)
        assert code != 0, name


def test_the_ray_client_gets_the_same_refusals(platform: Any, acme: str, globex: str) -> None:
    for key, expected in (("shoal_x_y", Unauthenticated), (None, Unauthenticated)):
        with Client(platform.ray, key) as client, pytest.raises(expected):
            client.platform.whoami()
    with Client(platform.ray, platform.key(acme, "admin")) as client:
        with pytest.raises(Forbidden):
            client.platform.list_tenants()
        with pytest.raises(NotFound):
            client.platform.list_keys(id=globex)


def test_the_audit_log_has_writes_but_no_secrets(platform: Any, acme: str) -> None:
    with platform.client(acme) as client:
        client.platform.put_members(board="audited", body={"users": ["ana"]})
    with platform.client(acme, "admin") as client:
        end = time.monotonic() + 5
        while True:
            entries = client.platform.list_audit()["entries"]
            found = [e for e in entries if e["path"] == "/platform/boards/audited/members"]
            if found or time.monotonic() > end:
                break
            time.sleep(0.1)
    assert (found[0]["action"], found[0]["status"]) == ("PUT /platform/boards/{board}/members", 200)
    assert found[0]["credential"] == "key:" + platform.key(acme).split("_")[1]
    assert platform.key(acme).split("_")[2] not in str(entries)


def test_a_tenants_requests_become_series(platform: Any, globex: str) -> None:
    """A minute's requests are counted when it is over; earlier tests made some."""
    wanted = {"shoal.requests", "shoal.error_rate", "shoal.latency_p95", "shoal.active_users"}
    with platform.client(globex) as client:

        def missing() -> set[str]:
            series = client.anomalies.list_metrics()["series"]
            found = {s["metric"] for s in series if s["labels"].get("capability") == "anomalies"}
            return wanted - found

        wait_until(lambda: not missing(), 150)


def test_every_error_is_a_problem_with_one_id(platform: Any, http: httpx.Client, acme: str) -> None:
    headers = bearer(platform.key(acme))
    for path in ("/nosuch", "/-/routes", "/greeting/nosuch"):
        assert_problem(http.get(path, headers=headers), 404)
    assert_problem(http.delete("/greeting", headers=headers), 403, 405)
    assert http.get("/-/healthz").status_code == 200
    for sent in ("a b", "x" * 200):
        answer = http.get("/nosuch", headers={"x-request-id": sent})
        assert_problem(answer, 404)
        assert answer.headers.get_list("x-request-id") != [sent]


def test_head_and_compressed_bodies_pass_haproxy(
    platform: Any, http: httpx.Client, acme: str
) -> None:
    headers = bearer(platform.key(acme))
    get, head = [http.request(m, "/platform/whoami", headers=headers) for m in ("GET", "HEAD")]
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    event = {"id": uuid4().hex, "source": "t", "type": "t.t", "time": "2026-11-23T10:00:00Z"}
    answer = http.post(
        "/platform/events",
        headers={**headers, "content-type": "application/json", "content-encoding": "gzip"},
        content=gzip.compress(json.dumps(event).encode()),
    )
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


def test_a_silent_body_is_408_through_haproxy(platform: Any, acme: str) -> None:
    host, _, port = platform.address.removeprefix("http://").partition(":")
    head = (
        "POST /platform/events HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"
        f"Authorization: Bearer {platform.key(acme)}\r\n\r\n"
    )
    answer = b""
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + b"{")
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b"application/problem+json" in answer and b'"request_id"' in answer
