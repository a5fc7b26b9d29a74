"""`make demo`: start Shoal, make two companies, load a workspace for each, and say what
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
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from shoal.cli.main import keep_up, out
from shoal.client.http import Client
from shoal.contract.errors import ShoalError
from shoal.runtime.configuration import Config
from shoal.runtime.operator_client import operator_client

from .sample import TENANTS, Workspace, as_json, workspace
from .supervisor import Supervisor, write

SEED = 7


def main() -> None:
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    config = Config.load().model_copy(update={"jobs_at_once": 1})  # all of it within 4 GiB

    def ready(supervisor: Supervisor, seconds: float) -> None:
        began = time.monotonic()
        keys = prepare(supervisor)
        welcome(supervisor, keys, seconds + time.monotonic() - began)

    keep_up(config, ready)
    out.print(f"[green]✓[/] stopped; the data is kept in {config.data.resolve()}")


def prepare(supervisor: Supervisor) -> dict[str, str]:
    """Make the companies and load their workspaces, unless an earlier demo on this data
    folder has; their keys.

    The keys are kept beside the data, readable by the owner only, so that a second demo
    can show them again.
    """
    book = supervisor.data / "demo.json"
    state: dict[str, Any] = (
        json.loads(book.read_text()) if book.exists() else {"keys": {}, "loaded": []}
    )
    fresh: list[str] = []
    with operator_client() as operator:
        there = {t["id"] for t in operator.platform.list_tenants(limit=1000)["tenants"]}
        deployed = {
            c["name"]
            for c in operator.platform.list_capabilities()["capabilities"]
            if c["status"] == "RUNNING"
        }
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
        )
        silent = not out.is_terminal
        with Progress(
            *columns,
            console=out,
            disable=silent,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as bar:
            for tenant in TENANTS:
                if tenant not in there:
                    operator.platform.create_tenant(id=tenant, name=tenant.capitalize())
                if tenant not in state["keys"]:
                    state["keys"][tenant] = operator.platform.create_key(id=tenant, role="editor")[
                        "key"
                    ]
                    write(book, state)
                if tenant not in state["loaded"]:
                    with Client(supervisor.address, state["keys"][tenant], timeout=120) as client:
                        for label, steps in loading(
                            workspace(tenant, seed=SEED, now=datetime.now(UTC)), client, deployed
                        ):
                            task = bar.add_task(f"{tenant}: {label}", total=None)
                            for _ in steps:
                                bar.advance(task)
                            bar.update(task, total=1, completed=1)
                            bar.remove_task(task)
                    state["loaded"].append(tenant)
                    write(book, state)
                    fresh.append(tenant)
        for tenant, job in product(fresh, jobs(operator, deployed)):
            operator.platform.run_job(name=job, tenant=tenant)
    return dict(state["keys"])


def jobs(operator: Client, deployed: set[str]) -> list[str]:
    """The nightly jobs that make what was loaded useful at once."""
    wanted = ("features.materialize", "anomalies.fit")
    known = {j["name"] for j in operator.platform.list_jobs()["jobs"]}
    return [name for name in wanted if name in known and name.split(".")[0] in deployed]


def loading(
    made: Workspace, client: Client, deployed: set[str]
) -> Iterator[tuple[str, Iterable[Any]]]:
    """The steps of loading a workspace: a label, and what does it as it is consumed.
    Only what is deployed is loaded.
    """
    yield (
        "boards",
        (client.platform.put_members(board=b.id, users=list(b.members)) for b in made.boards),
    )
    if "search" in deployed:
        yield (
            "items",
            batches(made.items(), lambda rows: client.search.add_items(body=rows), 64),
        )  # each is embedded
    if "optimizer" in deployed:
        yield "people", (client.optimizer.put_person(id=p.id, body=as_json(p)) for p in made.people)
        yield "tasks", (client.optimizer.put_task(id=t.id, body=as_json(t)) for t in made.tasks)
        yield (
            "outcomes",
            batches(
                (as_json(o) for o in made.outcomes),
                lambda rows: client.optimizer.add_outcomes(body=rows),
            ),
        )
    if "anomalies" in deployed:
        kept = (
            made.now - timedelta(days=89)
        ).isoformat()  # a series is kept for 90 days, and loading takes a moment
        points = (point for point in made.metrics() if point["time"] >= kept)
        yield "metrics", batches(points, lambda rows: client.anomalies.add_metrics(body=rows))
    yield "events", batches(made.events(), lambda rows: client.platform.append_events(body=rows))


def batches(
    rows: Iterable[Any], send: Callable[[list[Any]], Any], size: int = 500
) -> Iterator[Any]:
    """Send rows in batches; what was rejected is an error, since the sample is ours."""
    source = iter(rows)
    while batch := list(islice(source, size)):
        answer = send(batch)
        rejected = answer.get("rejected") if isinstance(answer, dict) else None
        if rejected:
            raise ShoalError(
                f"{len(rejected)} rows of the sample were rejected, the first: {rejected[0]}"
            )
        yield answer


def welcome(supervisor: Supervisor, keys: dict[str, str], seconds: float) -> None:
    """Where everything is, and three commands that answer."""
    config, address = supervisor.config, supervisor.address
    acme, globex = keys["acme"], keys["globex"]
    lines = [
        f"[bold]Start page[/]     {address}/",
        f"[bold]Console[/]        {address}/console   (sign in with a key below)",
        f"[bold]API[/]            {address}/search/openapi.json, and so for every capability",
        f"[bold]Ray dashboard[/]  http://{config.host}:{config.dashboard_port}/",
        "",
        f"[bold]acme[/]    {acme}",
        f"[bold]globex[/]  {globex}",
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
    commands = [
        f"curl -sG {address}/search -H 'Authorization: Bearer {acme}' --data-urlencode 'q=customers are charged twice' -d limit=3",
        f"curl -sG {address}/search -H 'Authorization: Bearer {globex}' --data-urlencode 'q=customers are charged twice' -d limit=3",
        f"curl -s '{address}/features?user=123&features=boards_30d,automation_count,current_board' -H 'Authorization: Bearer {acme}'",
    ]
    for command in commands:
        out.print(command, soft_wrap=True, markup=False)
        out.print()
    out.print("Ctrl-C stops all of it; the data is kept, and the next `make demo` finds it.")
    out.file.flush()


if __name__ == "__main__":
    main()
