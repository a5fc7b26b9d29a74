"""`make demo`: start Shoal, create two tenants with a sample workspace, and show what
to try.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from typing import Any

from rich.panel import Panel

from shoal.client.http import Client
from shoal.contract.errors import ShoalError
from shoal.local.private_files import write_json
from shoal.local.sample import TENANTS, Workspace, as_json, workspace
from shoal.local.supervisor import Supervisor
from shoal.runtime.configuration import TOKEN_FILE, Config
from shoal.runtime.operator_client import operator_client

from .lifecycle import run_until_stopped
from .output import out, progress_bar

SEED = 7
JOBS = ("features.materialize", "anomalies.fit")
"""The nightly jobs that turn what was loaded into features and models."""


def main() -> None:
    """Run the demo until it is stopped."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    config = Config.load().model_copy(update={"jobs_at_once": 1})  # fits into 4 GiB

    def ready(supervisor: Supervisor, seconds: float) -> None:
        started = time.monotonic()
        keys = prepare_tenants(supervisor)
        print_welcome(supervisor, keys, seconds + time.monotonic() - started)

    run_until_stopped(config, ready)
    out.print(f"[green]✓[/] stopped; the data is kept in {config.data.resolve()}")


def prepare_tenants(supervisor: Supervisor) -> dict[str, str]:
    """Create the tenants and load their workspaces, once per data folder.

    Their keys are kept in the data folder, readable by its owner only, so that the next
    demo can show them again.

    Returns:
        The API key of each tenant.
    """
    path = supervisor.data / "demo.json"
    state: dict[str, Any] = (
        json.loads(path.read_text()) if path.exists() else {"keys": {}, "loaded": []}
    )
    loaded: list[str] = []
    with operator_client() as operator:
        existing = {t["id"] for t in operator.platform.list_tenants(limit=1000)["tenants"]}
        deployed = {
            c["name"]
            for c in operator.platform.list_capabilities()["capabilities"]
            if c["status"] == "RUNNING"
        }
        for tenant in TENANTS:
            if tenant not in existing:
                operator.platform.create_tenant(id=tenant, name=tenant.capitalize())
            if tenant not in state["keys"]:
                key = operator.platform.create_key(id=tenant, role="editor")
                state["keys"][tenant] = key["key"]
                write_json(path, state)
            if tenant not in state["loaded"]:
                with Client(supervisor.address, state["keys"][tenant], timeout=120) as client:
                    load_workspace(client, tenant, deployed)
                state["loaded"].append(tenant)
                write_json(path, state)
                loaded.append(tenant)
        known = {job["name"] for job in operator.platform.list_jobs()["jobs"]}
        for tenant, job in product(loaded, JOBS):
            if job in known and job.split(".")[0] in deployed:
                operator.platform.run_job(name=job, tenant=tenant)
    return dict(state["keys"])


def load_workspace(client: Client, tenant: str, deployed: set[str]) -> None:
    """Load the sample workspace of a tenant, with progress."""
    sample = workspace(tenant, seed=SEED, now=datetime.now(UTC))
    with progress_bar() as bar:
        for label, requests in loading_steps(sample, client, deployed):
            task = bar.add_task(f"{tenant}: {label}", total=None)
            for _ in requests:
                bar.advance(task)
            bar.remove_task(task)


def loading_steps(
    sample: Workspace, client: Client, deployed: set[str]
) -> Iterator[tuple[str, Iterable[Any]]]:
    """The steps of loading a workspace into the deployed capabilities.

    Yields:
        A label, and an iterator that sends one request per element.
    """
    yield (
        "boards",
        (client.platform.put_members(board=b.id, users=list(b.members)) for b in sample.boards),
    )
    if "search" in deployed:  # each item is embedded, hence the small batches
        yield "items", in_batches(sample.items(), client.search.add_items, size=64)
    if "optimizer" in deployed:
        optimizer = client.optimizer
        yield "people", (optimizer.put_person(id=p.id, body=as_json(p)) for p in sample.people)
        yield "tasks", (optimizer.put_task(id=t.id, body=as_json(t)) for t in sample.tasks)
        yield "outcomes", in_batches(map(as_json, sample.outcomes), optimizer.add_outcomes)
    if "anomalies" in deployed:
        # Points older than 90 days are rejected, and loading takes a moment.
        oldest = (sample.now - timedelta(days=89)).isoformat()
        points = (point for point in sample.metrics() if point["time"] >= oldest)
        yield "metrics", in_batches(points, client.anomalies.add_metrics)
    yield "events", in_batches(sample.events(), client.platform.append_events)


def in_batches(rows: Iterable[Any], send: Callable[..., Any], size: int = 500) -> Iterator[Any]:
    """Send rows in batches; a rejected row is an error."""
    source = iter(rows)
    while batch := list(islice(source, size)):
        answer = send(body=batch)
        rejected = answer.get("rejected") if isinstance(answer, dict) else None
        if rejected:
            raise ShoalError(
                f"{len(rejected)} rows of the sample were rejected, the first: {rejected[0]}"
            )
        yield answer


def print_welcome(supervisor: Supervisor, keys: dict[str, str], seconds: float) -> None:
    """Print where everything is, and three commands to try."""
    config, address = supervisor.config, supervisor.address
    lines = [
        f"[bold]Start page[/]     {address}/",
        f"[bold]Console[/]        {address}/console   (sign in with a key below)",
        f"[bold]API[/]            {address}/search/openapi.json, and so for every capability",
        f"[bold]Ray dashboard[/]  http://{config.host}:{config.dashboard_port}/"
        f"   (its token is in {config.data / TOKEN_FILE})",
        "",
        *(f"[bold]{tenant}[/]{' ' * (8 - len(tenant))}{key}" for tenant, key in keys.items()),
    ]
    out.print()
    out.print(
        Panel(
            "\n".join(lines),
            title=f"Shoal is ready after {seconds:.0f} s",
            title_align="left",
            padding=(1, 2),
            expand=False,
        )
    )
    out.print("\nThree commands to try, in another terminal:\n")
    for command in example_commands(address, keys["acme"], keys["globex"]):
        out.print(command, soft_wrap=True, markup=False)
        out.print()
    out.print("Ctrl-C stops everything; the data is kept for the next `make demo`.")
    out.file.flush()


def example_commands(address: str, acme: str, globex: str) -> list[str]:
    """The same search for both tenants, and a read of features."""
    query = "--data-urlencode 'q=customers are charged twice' -d limit=3"
    features = "user=123&features=boards_30d,automation_count,current_board"
    return [
        f"curl -sG {address}/search -H 'Authorization: Bearer {acme}' {query}",
        f"curl -sG {address}/search -H 'Authorization: Bearer {globex}' {query}",
        f"curl -s '{address}/features?{features}' -H 'Authorization: Bearer {acme}'",
    ]


if __name__ == "__main__":
    main()
