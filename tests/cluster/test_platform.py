"""The platform over HTTP and on the replicas' own ports, with hostile requests."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import psutil
import pytest

from shoal import Client, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated

pytestmark = pytest.mark.cluster


def listening(parent: str) -> list[tuple[str, int, str]]:
    """Address, port and command of every listening socket of the cluster."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SHOAL_RUNTIME", "").startswith(parent):
                for c in process.net_connections("inet"):
                    if c.status == psutil.CONN_LISTEN:
                        found.append((c.laddr.ip, c.laddr.port, " ".join(process.cmdline())[:80]))
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def called(title: str) -> list[psutil.Process]:
    """The processes whose title, which Ray sets, contains these words."""
    found = []
    for process in psutil.process_iter():
        try:
            if title in " ".join(process.cmdline()[:1]):
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"].startswith("application/problem+json")
    body: dict[str, Any] = answer.json()
    assert body["status"] == status and body["request_id"] == answer.headers["x-request-id"]
    return body


# Credentials


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer x",
        "Bearer shoal_nope_nope",
        "Basic YTpi",
        "Bearer shoal__",
        "shoal_x_y",
        "Bearer " + "a.b.c",
        "Bearer \xff",
    ],
)
def test_a_missing_or_invalid_key_is_401(platform: Any, header: str | None) -> None:
    headers = {} if header is None else {b"authorization": header.encode("latin-1")}
    problem(httpx.get(f"{platform.address}/greeting", headers=headers), 401)  # type: ignore[arg-type]


def test_an_altered_secret_is_401(platform: Any, acme: str) -> None:
    key = platform.key(acme)
    other = key[:-1] + ("a" if key[-1] != "a" else "b")
    with Client(platform.address, other) as client, pytest.raises(Unauthenticated):
        client.greeting.greet()


def test_a_revoked_key_stops_within_a_second(platform: Any, acme: str) -> None:
    made = platform.shoal("keys", "create", "--tenant", acme)
    with Client(platform.address, made["key"], retries=0) as client:
        assert client.greeting.greet()
        platform.shoal("keys", "revoke", made["id"], "--yes")
        time.sleep(1)
        with pytest.raises(Unauthenticated):
            client.greeting.greet()


def test_another_tenant_in_the_query_is_403(platform: Any, acme: str, globex: str) -> None:
    headers = {"authorization": f"Bearer {platform.key(acme)}"}
    problem(httpx.get(f"{platform.address}/greeting?tenant=globex", headers=headers), 403)
    problem(
        httpx.get(f"{platform.address}/greeting?tenant=acme&tenant=globex", headers=headers), 403
    )
    assert httpx.get(f"{platform.address}/greeting?tenant=acme", headers=headers).status_code == 200


@pytest.mark.parametrize("tenant", ["acme:x", "../acme", "acme%0a", "acme%00", "", "%7bacme%7d"])
def test_a_hostile_tenant_name_gets_a_4xx(platform: Any, acme: str, tenant: str) -> None:
    answer = httpx.get(
        f"{platform.address}/greeting?tenant={tenant}",
        headers={"authorization": f"Bearer {platform.key(acme)}"},
    )
    assert answer.status_code in (400, 403)
    problem(answer, answer.status_code)


def test_forged_and_expired_tokens_are_401(platform: Any, acme: str) -> None:
    claims = {
        "iss": "shoal-internal",
        "aud": "shoal",
        "tenant": acme,
        "role": "admin",
        "exp": time.time() + 60,
    }
    tokens = [
        jwt.encode(claims, "x" * 40, algorithm="HS256"),
        jwt.encode({**claims, "iss": "https://issuer.example"}, "x" * 40, algorithm="HS256"),
        jwt.encode(claims, None, algorithm="none"),
        jwt.encode({**claims, "exp": 1}, "x" * 40, algorithm="HS256"),
    ]
    for token in tokens:
        problem(
            httpx.get(f"{platform.address}/greeting", headers={"authorization": f"Bearer {token}"}),
            401,
        )


def test_each_role_is_refused_what_it_may_not_do(platform: Any, acme: str, globex: str) -> None:
    with platform.client(acme, "reader", "ana") as reader:
        assert reader.greeting.greet()["user"] == "ana"
        assert reader.greeting.count(body=["a", "b"]) == {"count": 2}
        with pytest.raises(Forbidden):
            reader.greeting.put_note(id="1", text="no")
    with platform.client(acme, "admin") as admin:
        for act in (
            lambda: admin.platform.list_tenants(),
            lambda: admin.platform.create_tenant(id="mine"),
            lambda: admin.platform.delete_tenant(id=globex),
            lambda: admin.platform.put_limits(id=acme, capability="*", body={"rps": 1e6}),
        ):
            with pytest.raises(Forbidden):
                act()
        with pytest.raises(NotFound):
            admin.platform.create_key(id=globex, role="editor")
        assert admin.platform.create_key(id=acme, role="reader")["key"].startswith("shoal_")


def test_a_user_cannot_join_a_board(platform: Any, acme: str) -> None:
    for address in (platform.address, platform.ray):
        with Client(address, platform.key(acme, "editor", "mallory")) as client:
            with pytest.raises(Forbidden, match="write:tenant"):
                client.platform.put_members(board="board-of-directors", users=["mallory"])


def test_a_key_of_one_user_cannot_name_another(platform: Any, acme: str) -> None:
    headers = {
        "authorization": f"Bearer {platform.key(acme, 'reader', 'ana')}",
        "shoal-user": "ben",
    }
    problem(httpx.get(f"{platform.address}/greeting", headers=headers), 403)


# Other ports and files


def test_a_replicas_own_port_needs_a_key(platform: Any, acme: str) -> None:
    ports = {
        port
        for _, port, command in listening(str(platform.data))
        if "ServeReplica:greeting:ingress" in command and 30000 <= port < 31000
    }
    assert ports
    for port in ports:
        problem(httpx.get(f"http://127.0.0.1:{port}/greeting/notes/welcome"), 401)
        answer = httpx.get(
            f"http://127.0.0.1:{port}/greeting",
            headers={"authorization": f"Bearer {platform.key(acme)}"},
        )
        assert answer.status_code == 200


def test_everything_listens_on_loopback_only(platform: Any) -> None:
    open_ports = [
        entry
        for entry in listening(str(platform.data))
        if entry[0].removeprefix("::ffff:") not in ("127.0.0.1", "::1")
    ]
    assert not open_ports


def test_other_users_cannot_read_the_data_folder(platform: Any) -> None:
    assert platform.data.stat().st_mode & 0o077 == 0


# Requests


def test_a_body_over_the_limit_is_413(platform: Any, acme: str) -> None:
    with platform.client(acme, timeout=120) as client:
        with pytest.raises(TooLarge):
            client.platform.append_events(body=b"x" * (33 * 2**20))
        assert client.greeting.greet()


def test_a_header_of_100_kb_is_refused(platform: Any, acme: str) -> None:
    headers = {"authorization": f"Bearer {platform.key(acme)}", "x-long": "x" * 100_000}
    try:
        status = httpx.get(f"{platform.address}/greeting", headers=headers).status_code
    except httpx.TransportError:
        status = 400  # HAProxy hangs up on it
    assert status in (400, 431)
    assert (
        httpx.get(
            f"{platform.address}/greeting", headers={"authorization": headers["authorization"]}
        ).status_code
        == 200
    )


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"id": NaN}'])
def test_malformed_json_is_400(platform: Any, acme: str, body: bytes) -> None:
    headers = {"authorization": f"Bearer {platform.key(acme)}", "content-type": "application/json"}
    problem(httpx.post(f"{platform.address}/platform/events", headers=headers, content=body), 400)


def test_invalid_events_are_rejected_one_by_one(platform: Any, acme: str) -> None:
    good = {
        "id": uuid4().hex,
        "source": "test",
        "type": "test.happened",
        "time": "2026-11-23T10:00:00+01:00",
    }
    bad = [
        {"type": ""},
        "text",
        {**good, "time": "2026-11-23T10:00:00"},
        {**good, "specversion": "0.3"},
        {**good, "id": "a\nb"},
    ]
    with platform.client(acme) as client:
        answer = client.platform.append_events(body=[good, *bad, good])
    assert answer["accepted"] == 2 and [r["index"] for r in answer["rejected"]] == [1, 2, 3, 4, 5]
    assert all(r["error"] for r in answer["rejected"])


def test_ndjson_is_accepted_and_a_broken_line_rejected(platform: Any, acme: str) -> None:
    line = json.dumps({"id": uuid4().hex, "source": "test", "type": "test.happened"}).encode()
    with platform.client(acme) as client:
        answer = client.platform.append_events(body=line + b"\n{broken\n\n" + line)
    assert answer["accepted"] == 2 and [r["index"] for r in answer["rejected"]] == [1]


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/greeting/nowhere",
        "/platform/tenants/x/y",
        "/greeting%00",
        "/..%2f..%2fetc/passwd",
    ],
)
def test_an_unknown_path_is_a_problem(platform: Any, acme: str, path: str) -> None:
    answer = httpx.get(
        platform.address + path, headers={"authorization": f"Bearer {platform.key(acme)}"}
    )
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"].startswith("application/problem+json")


@pytest.mark.parametrize("id", ["", "A", "a:b", "../x", "a\n", "a" * 64, "platform"])
def test_an_invalid_tenant_id_is_refused(platform: Any, id: str) -> None:
    status, answer = platform.shoal("tenants", "create", id, check=False)
    assert status == 1 and answer["status"] in (409, 422)


def test_a_tenant_is_created_once(platform: Any, acme: str) -> None:
    status, answer = platform.shoal("tenants", "create", acme, check=False)
    assert status == 1 and answer["title"] == "Conflict"


def test_lists_page_by_limit_and_cursor(platform: Any, acme: str, globex: str) -> None:
    with platform.client(acme, "admin") as client:
        client.platform.put_members(board="b1", users=["ana"])
        client.platform.put_members(board="b2", users=["ben"])
        seen, cursor = [], None
        for _ in range(3):
            page = client.platform.list_audit(limit=2, cursor=cursor)
            seen += [e["request_id"] for e in page["entries"]]
            cursor = page["cursor"]
        assert len(seen) == len(set(seen)) == 6
        with pytest.raises(Invalid):
            client.platform.list_audit(cursor="nonsense")


def test_every_write_is_in_the_audit_log_without_secrets(platform: Any, acme: str) -> None:
    with platform.client(acme, "admin") as client:
        client.platform.create_key(id=acme, role="reader")

        def entry() -> Any:
            return next(
                (
                    e
                    for e in client.platform.list_audit()["entries"]
                    if e["action"] == "POST /platform/tenants/{id}/keys"
                ),
                None,
            )

        deadline = time.monotonic() + 10
        while entry() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert (
            entry()["status"] == 201
            and entry()["role"] == "admin"
            and "shoal_" not in json.dumps(entry())
        )


# Limits


def test_a_flooding_tenant_does_not_affect_others(
    platform: Any, tenants: Callable[[], str]
) -> None:
    flooding, calm = tenants(), tenants()
    with platform.operator() as operator:
        operator.platform.put_limits(
            id=flooding, capability="greeting", body={"rps": 0.1, "burst": 1}
        )
    with platform.client(calm, retries=0) as other:
        deadline = time.monotonic() + 20
        refused: httpx.Response | None = None
        while refused is None and time.monotonic() < deadline:
            answer = httpx.get(
                f"{platform.address}/greeting",
                headers={"authorization": f"Bearer {platform.key(flooding)}"},
            )
            refused = answer if answer.status_code == 429 else None
        assert refused is not None
        problem(refused, 429)
        assert float(refused.headers["retry-after"]) > 0
        for _ in range(20):
            assert other.greeting.greet()["tenant"] == calm


# Operation


def test_redeploying_under_load_fails_no_request(platform: Any, tenants: Callable[[], str]) -> None:
    tenant, failures, served, stop = tenants(), [], 0, threading.Event()
    with platform.operator() as operator:  # the load may be over the default limits
        limits = {"rps": 100_000, "burst": 100_000}
        operator.platform.put_limits(id=tenant, capability="greeting", body=limits)

    def load() -> None:
        nonlocal served
        with httpx.Client(
            headers={"authorization": f"Bearer {platform.key(tenant)}"}, timeout=30
        ) as client:
            while not stop.is_set():
                try:
                    answer = client.get(f"{platform.address}/greeting")
                    served += 1
                    if answer.status_code != 200:
                        failures.append(answer.text)
                except httpx.TransportError as error:
                    failures.append(repr(error))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        before = {p.pid for p in called("ServeReplica:platform")}
        answer = platform.shoal("deploy", "greeting")
        time.sleep(6)  # the old replica drains
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    after = {p.pid for p in called("ServeReplica:platform")}
    assert not failures and served > 0
    assert before == after, "the other capabilities were not touched"
    assert "broken_dependency" in {problem["plugin"] for problem in answer["problems"]}


def test_an_unknown_capability_cannot_be_deployed(platform: Any) -> None:
    status, problem = platform.shoal("deploy", "greting", check=False)
    assert (status, problem["status"]) == (1, 404)
    assert "greting" in problem["detail"] and "greeting" in problem["detail"]


def test_a_killed_stream_worker_is_replaced_and_loses_nothing(
    platform: Any, tenants: Callable[[], str]
) -> None:
    with platform.client(tenants()) as client:
        ids = [uuid4().hex for _ in range(200)]
        events = [{"id": i, "source": "test", "type": "greeting.said", "data": {}} for i in ids]
        for start in range(0, 200, 20):
            client.platform.append_events(body=events[start : start + 20])
            if start == 60:
                workers = called("ray::Worker")
                assert workers
                for worker in workers:
                    worker.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 90
        while len(client.greeting.seen()["ids"]) < 200 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert client.greeting.seen()["ids"] == ids


def test_a_killed_replica_is_replaced(platform: Any, acme: str) -> None:
    with platform.client(acme) as client:
        client.greeting.put_note(id="kept", text="still here")
        for process in called("ServeReplica:greeting:ingress"):
            process.kill()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                assert client.greeting.get_note(id="kept")["text"] == "still here"
                break
            except Exception:
                time.sleep(0.5)
        else:
            pytest.fail("the replica did not come back")


def test_the_ray_dashboard_shows_the_applications_by_name(platform: Any) -> None:
    token = (platform.data / "ray_token").read_text()
    answer = httpx.get(
        f"http://127.0.0.1:{platform.runtime['dashboard_port']}/api/serve/applications/",
        headers={"authorization": f"Bearer {token}"},
        timeout=30,
    ).json()
    assert {"platform", "greeting", "search", "console"} <= set(answer["applications"])
    assert answer["applications"]["greeting"]["route_prefix"] == "/greeting"


def test_a_second_up_on_the_same_data_is_refused(platform: Any) -> None:
    status, answer = platform.shoal("up", "--detach", check=False)
    assert status == 1 and "already runs" in answer["detail"]


def test_a_killed_redis_restarts_with_its_data(platform: Any, acme: str) -> None:
    with platform.client(acme) as client:
        client.greeting.put_note(id="durable", text="before the kill")
        for process in psutil.process_iter():
            try:
                mine = str(platform.data) in process.cwd() or str(platform.data) in " ".join(
                    process.cmdline()
                )
                if process.name() == "redis-server" and mine:
                    process.kill()
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                assert client.greeting.get_note(id="durable")["text"] == "before the kill"
                return
            except AssertionError:
                raise
            except Exception:
                time.sleep(0.5)
        pytest.fail("Redis did not come back")


def test_commands_need_a_running_platform(tmp_path: Path) -> None:
    env = {**os.environ, "SHOAL_DATA": str(tmp_path / "none")}
    for words in (["status"], ["tenants", "list"], ["jobs", "list"]):
        done = subprocess.run(
            [sys.executable, "-m", "shoal.cli.main", *words],
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1 and "shoal up" in done.stdout + done.stderr


def test_up_names_a_port_that_is_in_use(platform: Any, tmp_path: Path) -> None:
    env = {**platform.env, "SHOAL_DATA": str(tmp_path / "second")}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "shoal.cli.main", "up", "--port", str(taken.getsockname()[1])],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1 and "is in use" in done.stdout + done.stderr


def test_a_read_survives_a_disconnect_and_a_write_does_not(platform: Any, acme: str) -> None:
    headers = {"authorization": f"Bearer {platform.key(acme)}"}
    ids = {method: uuid4().hex for method in ("GET", "POST")}
    for method, id in ids.items():
        with pytest.raises(httpx.ReadTimeout):
            httpx.request(
                method,
                f"{platform.address}/greeting/linger",
                params={"id": id, "seconds": 1},
                headers=headers,
                timeout=0.3,
            )
    time.sleep(2)
    with platform.client(acme) as client:
        assert client.greeting.get_note(id=ids["GET"])["text"] == "finished"
        with pytest.raises(NotFound):
            client.greeting.get_note(id=ids["POST"])


def test_prometheus_counts_requests_and_syslog_gets_none(platform: Any, acme: str) -> None:
    searched = uuid4().hex
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog,
        platform.client(acme) as client,
    ):
        try:
            syslog.bind(("127.0.0.1", 514))
        except OSError as error:
            pytest.skip(f"the port of syslog cannot be listened on here: {error}")
        syslog.settimeout(1)
        client.greeting.greet(name=searched)
        with pytest.raises(TimeoutError):
            while searched.encode() not in syslog.recv(65536):
                pass
    labels = r'application="greeting".*route="/greeting"'
    assert exported("ray_serve_num_http_requests_total", labels)


def test_requests_are_exported_by_tenant_and_route(platform: Any, acme: str) -> None:
    with platform.client(acme) as client:
        client.greeting.greet(name="Ana")
    labels = rf'capability="greeting".*route="GET /greeting".*status="2xx".*tenant="{acme}"'
    assert exported("ray_shoal_requests_total", labels)
    labels = rf'capability="greeting".*le="\+Inf".*tenant="{acme}"'
    assert exported("ray_shoal_request_seconds_bucket_total", labels)


def exported(metric: str, labels: str) -> float:
    """The sum of a metric's series with these labels, at Ray's metrics endpoints."""
    discovery = json.loads(
        Path("/tmp/ray/session_latest/prom_metrics_service_discovery.json").read_text()
    )
    wanted = re.compile(rf"^{metric}\{{.*{labels}.*\}} (\S+)$", re.M)
    until = time.monotonic() + 40
    while time.monotonic() < until:
        pages = [
            httpx.get(f"http://{target}/metrics").text
            for group in discovery
            for target in group["targets"]
        ]
        if found := sum(float(n) for page in pages for n in wanted.findall(page)):
            return found
        time.sleep(2)
    return 0


def test_serves_own_processes_do_not_load_pandas(platform: Any) -> None:
    processes = [
        p
        for p in psutil.process_iter(["cmdline"])
        if (p.info["cmdline"] or [""])[0].startswith(("ray::ServeController", "ray::ProxyActor"))
    ]
    mapped = [Path(f"/proc/{process.pid}/maps").read_text() for process in processes]
    assert mapped and all("site-packages/ray/" in maps for maps in mapped)
    assert not any("site-packages/pandas/" in maps for maps in mapped)
