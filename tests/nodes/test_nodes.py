"""Shoal on three hosts: everything is everywhere, and no host's end is Shoal's.

`make test-nodes` prints the table of faults; docs/reliability.md explains it.
"""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from shoal.testing import wait_until

from ..leaks import leaks_of_files, register_servers
from ..moto_server import CREDENTIALS
from .cluster import Cluster
from .hosts import Host, Network, refusal
from .load import PATHS, Load
from .stores import Stores

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
ADDRESSES = {"head": "10.213.77.11", "one": "10.213.77.12", "two": "10.213.77.13"}
SETTINGS = """
timezone = "Europe/Warsaw"

[capabilities.search]
language = "german"
"""
RAY_DATA = """
import json, time, ray
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
def where(batch):
    time.sleep(0.5)
    return {"host": [ray.util.get_node_ip_address()]}
data = ray.data.range(24, override_num_blocks=24).map_batches(where)
print(json.dumps(sorted({row["host"] for row in data.take_all()})))
"""
DEPLOYMENTS = 9
"""Six ingresses, the console, and the backends of search and optimizer."""
QUIET = 15.0
"""Seconds in which no request fails, after which all is well."""
AWAY = 20.0
"""Seconds that the head stays away: longer than Ray needs to notice."""
rows: list[dict[str, Any]] = []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := refusal():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("nodes")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        authority = trustme.CA()
        network = Network()
        stores = None
        try:
            stores = Stores(folder, authority)
            register_servers(stores.online.uri, stores.events.uri, stores.ray.uri)
            made = Cluster(network, stores, authority)
            made.start("head", ADDRESSES["head"])
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda n: made.start(n, ADDRESSES[n]), ("one", "two")))
            made.up(SETTINGS)
            with made.operator(made.head) as operator:
                operator.platform.create_tenant(id="acme")
            yield made
        finally:
            if kept := os.environ.get("SHOAL_NODES_LOGS"):
                keep_logs(network, Path(kept))
            network.close()
            if stores is not None:
                stores.stop()
            print("\n" + "\n".join(json.dumps(row) for row in rows))


def keep_logs(network: Network, folder: Path) -> None:
    for host in network.hosts:
        with suppress(OSError):
            for logs in host.path("/tmp/ray").glob("session_*/logs"):
                shutil.copytree(logs, folder / host.name / logs.parent.name, dirs_exist_ok=True)


def titles(host: Host, prefix: str) -> list[str]:
    """Those of the host's processes that begin so, without the prefix."""
    lines = host.run("ps axww -o args").splitlines()
    return [line.removeprefix(prefix).strip() for line in lines if line.startswith(prefix)]


def replicas(cluster: Cluster) -> dict[str, Counter[str]]:
    """By deployment: how many replicas are on each host."""
    found: dict[str, Counter[str]] = {}
    for name, host in cluster.hosts.items():
        for deployment in titles(host, "ray::ServeReplica:"):
            found.setdefault(deployment.split(".")[0], Counter())[name] += 1
    return found


def are_whole(cluster: Cluster) -> bool:
    """Whether all replicas run."""
    found = replicas(cluster)
    return len(found) == DEPLOYMENTS and all(
        hosts.total() >= (1 if name.startswith("console") else 2) for name, hosts in found.items()
    )


def answers(host: Host) -> bool:
    """Whether the host's port 8000 reaches the platform."""
    try:
        return httpx.get(f"http://{host.address}:8000/platform/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def test_every_capability_answers_through_every_host(cluster: Cluster) -> None:
    item = {"id": "1", "board_id": "b", "type": "item", "updated_at": "2026-11-20T10:00:00Z"}
    with cluster.operator(cluster.head, "acme") as client:
        body = [{**item, "title": "", "text": "The automobile needs new tyres"}]
        assert client.search.add_items(body=body)["indexed"] == 1
    headers = {"authorization": f"Bearer {cluster.credential('acme')}"}
    for host in cluster.hosts.values():
        for path in PATHS:
            answer = httpx.get(f"http://{host.address}:8000{path}", headers=headers, timeout=60)
            assert answer.status_code == 200, (path, answer.text)
        with cluster.operator(host, "acme") as client:
            wait_until(lambda: client.search.search(q="automobile")["hits"])


def test_replicas_and_workers_are_on_different_hosts(cluster: Cluster) -> None:
    found = replicas(cluster)
    assert len(found) == DEPLOYMENTS, found
    for name, hosts in found.items():
        assert set(hosts.values()) == {1} and len(hosts) == (1 if "console" in name else 2), found

    def workers() -> list[int]:
        running = [titles(host, "ray::") for host in cluster.hosts.values()]
        return sorted(sum("Worker" in title for title in found) for found in running)

    wait_until(lambda: workers() == [0, 1, 1])


def test_settings_reach_every_host_without_a_secret(cluster: Cluster) -> None:
    for host in cluster.hosts.values():
        processes = host.run(
            "for p in $(pgrep -f '^ray::ServeReplica:|^ray::Worker|^ray::HAProxy'); do"
            " tr '\\0' '\\n' < /proc/$p/environ | grep ^SHOAL_SETTINGS= || echo missing; done"
        ).splitlines()
        assert len(processes) > 3 and set(processes) == {processes[0]}, processes
        sent = json.loads(processes[0].removeprefix("SHOAL_SETTINGS="))
        assert sent["timezone"] == "Europe/Warsaw"
        assert sent["capabilities"] == {"search": {"language": "german"}}
        assert not {"online", "events"} & sent["stores"].keys()
        assert "internal_secret" not in sent["router"]
        leaks = list(leaks_of_files(host.path("/tmp/ray")))
        assert not leaks, leaks[:5]
    assert not cluster.hosts["one"].path("/opt/shoal/shoal.toml").exists()


def test_jobs_and_ray_data_use_several_hosts(cluster: Cluster) -> None:
    assert json.loads(cluster.python(cluster.head, RAY_DATA)) == sorted(ADDRESSES.values())
    used: set[str] = set()
    with cluster.operator(cluster.hosts["two"], "acme") as client:
        runs = [client.platform.run_job(name="features.watch")["id"] for _ in range(6)]

        def are_done() -> bool:
            used.update(n for n, host in cluster.hosts.items() if titles(host, "ray::JobProcess"))
            return all(client.platform.get_run(id=r)["state"] == "succeeded" for r in runs)

        wait_until(are_done, 120)
    assert len(used) >= 2


def test_a_killed_host_costs_little_and_nothing_is_lost(cluster: Cluster) -> None:
    def kill() -> None:
        cluster.hosts.pop("two").kill()

    run_fault(cluster, "a host loses power", ["head", "one"], kill)


def test_a_host_joins_under_load(cluster: Cluster) -> None:
    def join() -> None:
        cluster.start("two", ADDRESSES["two"])
        wait_until(lambda: answers(cluster.hosts["two"]), 120)

    if "two" in cluster.hosts:
        cluster.hosts.pop("two").kill()
        wait_until(lambda: are_whole(cluster), 180)
    run_fault(cluster, "a host joins", ["head", "one"], join)


def test_the_head_is_killed_and_comes_back(cluster: Cluster) -> None:
    if "two" not in cluster.hosts:
        cluster.start("two", ADDRESSES["two"])
        wait_until(lambda: answers(cluster.hosts["two"]), 120)

    def kill_and_return() -> None:
        cluster.head.kill()
        time.sleep(AWAY)
        cluster.start("head", ADDRESSES["head"])
        wait_until(lambda: answers(cluster.head), 180)

    run_fault(cluster, "the head loses power, and is back", ["one", "two"], kill_and_return)


def run_fault(cluster: Cluster, name: str, through: list[str], fault: Callable[[], Any]) -> None:
    """Load on the hosts that stay, something happens, and all is well again.

    Every acknowledged event is counted once.
    """
    addresses = [ADDRESSES[host] for host in through]
    user = f"user-{len(rows)}"
    with Load(addresses, cluster.credential("acme"), user) as load:
        wait_until(lambda: load.requests > 100)
        before, since = len(load.failures), load.now
        fault()
        happened = load.now - since
        wait_until(lambda: are_whole(cluster), 180)
        whole = load.now - since
        # Failures are counted once they have failed.
        wait_until(lambda: load.now > max([since, *(at for at, _ in load.failures)]) + QUIET, 120)
    row = load.report(
        name, since, took=round(happened, 1), whole=round(whole, 1), events=load.events
    )
    rows.append(row)
    print(json.dumps(row), flush=True)
    assert before == 0
    with cluster.operator(cluster.hosts[through[0]], "acme") as client:

        def count() -> Any:
            return client.features.get(user=user, features="actions")["features"]["actions"]

        wait_until(lambda: count() == load.events, 90)
