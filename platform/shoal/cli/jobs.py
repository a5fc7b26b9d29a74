"""`shoal jobs …`."""

import json
import time
from typing import Annotated, Any

import typer
from rich.markup import escape

from shoal.client.http import Client
from shoal.runtime.operator_client import operator_client

from .output import is_json, out, progress_bar, show, table

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_jobs() -> None:
    """List the jobs and their latest runs."""
    with operator_client() as client:
        jobs = client.platform.list_jobs()["jobs"]
        runs = client.platform.list_runs(limit=10)["runs"]
    show({"jobs": jobs, "runs": runs}, table(jobs, "name", "cron", "timezone", "summary"))
    if runs and not is_json():
        out.print("")
        out.print(table(runs, "id", "job", "tenant", "state", "started", "error"))


@app.command("run")
def run_job(
    name: str,
    tenant: Annotated[str | None, typer.Option(help="One tenant; all when not given.")] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option("--argument", "-a", help="key=value, where value may be JSON."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the end of the run.")] = True,
) -> None:
    """Run a job now. Exit status 1 when it fails."""
    arguments = dict(map(_parse_argument, argument or ()))
    with operator_client() as client:
        run = client.platform.run_job(name=name, body={"tenant": tenant, "arguments": arguments})
        if wait:
            run = _wait_for_run(client, run)
    show(run, f"{name}: [bold]{run['state']}[/] {escape(str(run['result'] or run['error'] or ''))}")
    if run["state"] in ("failed", "cancelled"):
        raise typer.Exit(1)


def _parse_argument(pair: str) -> tuple[str, Any]:
    key, _, value = pair.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _wait_for_run(client: Client, run: dict[str, Any]) -> dict[str, Any]:
    with progress_bar() as bar:
        task = bar.add_task(run["job"], total=None)
        while run["state"] in ("queued", "running"):
            time.sleep(0.3)
            run = client.platform.get_run(id=run["id"])
            progress = run["progress"]
            bar.update(
                task,
                total=progress["total"] or None,
                completed=progress["done"],
                description=f"{run['job']} {progress['message'] or run['state']}",
            )
    return run


@app.command("show")
def show_run(id: str) -> None:
    """Show one run."""
    with operator_client() as client:
        run = client.platform.get_run(id=id)
    show(run, escape(json.dumps(run, indent=1)))


@app.command("cancel")
def cancel_run(id: str) -> None:
    """Cancel a run; it stops at its next step."""
    with operator_client() as client:
        run = client.platform.cancel_run(id=id)
    show(run, f"{id}: {run['state']}")
