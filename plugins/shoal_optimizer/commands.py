"""The command group `shoal optimizer`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import typer

from .exchange import MEDIA_TYPES, Format

app = typer.Typer(help="Teams for tasks.", no_args_is_help=True)
TENANT: str = typer.Option(..., help="The tenant.")
TYPES = {".csv": "text/csv", ".ics": "text/calendar", ".json": "application/json"}
BATCH = 1000
"""Records in one request."""
PLURAL = {"people": "add_people", "tasks": "add_tasks", "outcomes": "add_outcomes"}


@app.callback()
def group() -> None:
    """Teams for tasks."""


@app.command()
def people(tenant: str = TENANT) -> None:
    """List people."""
    _list(tenant, "people", "id", "name", "workload", "capacity_hours")


@app.command()
def tasks(tenant: str = TENANT) -> None:
    """List tasks."""
    _list(tenant, "tasks", "id", "title", "state", "deadline", "estimated_hours")


@app.command()
def plan(
    tenant: str = TENANT,
    seconds: float = typer.Option(20, min=0.1, max=300, help="How long to search."),
    scenario: str = typer.Option("", help="Plan with what this scenario changes."),
    accept: bool = typer.Option(False, help="Commit the teams of the plan."),
) -> None:
    """Plan all open tasks."""
    from shoal import operator_client

    body: dict[str, Any] = {"time_limit": seconds}
    if scenario:
        body["scenario"] = scenario
    with operator_client(tenant, timeout=seconds + 60) as client:
        found = client.optimizer.plan(body=body)
        if accept:
            found["accepted"] = client.optimizer.accept_plan(id=found["id"])["accepted"]
    if _is_json():
        typer.echo(json.dumps(found))
        return
    for row in found["assignments"]:
        typer.echo(f"{row['task']}\t{', '.join(row['team'])}\t{row['start']}\t{row['end']}")
    for row in found["left_out"]:
        typer.echo(f"{row['task']}\tno team: {row['why']}")
    typer.echo(f"Plan {found['id']} is {found['status']}{', and accepted' if accept else ''}.")


@app.command("import")
def import_records(
    kind: str = typer.Argument(help="people, tasks or outcomes."),
    file: Path = typer.Argument(exists=True, dir_okay=False, help="CSV, JSON or .ics."),
    tenant: str = TENANT,
) -> None:
    """Store the records of a file; each that is invalid is told."""
    from shoal import RowError, operator_client

    from .intake import read_records

    if kind not in PLURAL or file.suffix not in TYPES:
        raise typer.BadParameter("give people, tasks or outcomes, and a .csv, .json or .ics file")
    rows = list(enumerate(read_records(file.read_bytes(), TYPES[file.suffix])))
    rejected = {n: row.error for n, row in rows if isinstance(row, RowError)}
    readable = [(n, row) for n, row in rows if not isinstance(row, RowError)]
    accepted = 0
    with operator_client(tenant, timeout=120) as client:
        for at in range(0, len(readable), BATCH):
            numbers, batch = zip(*readable[at : at + BATCH], strict=True)
            answer = getattr(client.optimizer, PLURAL[kind])(body=list(batch))
            accepted += answer["accepted"]
            rejected |= {numbers[row["index"]]: row["error"] for row in answer["rejected"]}
    errors = [{"index": n, "error": error} for n, error in sorted(rejected.items())]
    if _is_json():
        typer.echo(json.dumps({"accepted": accepted, "rejected": errors}))
    else:
        typer.echo(f"{accepted} stored")
        for n, error in sorted(rejected.items()):
            typer.echo(f"row {n + 1}: {error}", err=True)
    if rejected:
        raise typer.Exit(1)


@app.command()
def export(
    what: str = typer.Argument(help="people, tasks, or the id of a plan."),
    file: Path = typer.Argument(dir_okay=False, help="A .csv or .ics file."),
    tenant: str = TENANT,
) -> None:
    """Write people, tasks or a plan to a file."""
    from shoal import operator_client

    formats: dict[str, Format] = {f".{name}": name for name in MEDIA_TYPES}
    if file.suffix not in formats:
        raise typer.BadParameter("the file's name must end in .csv or .ics")
    format = formats[file.suffix]
    with operator_client(tenant) as client:
        optimizer = client.optimizer
        if what == "people":
            found = optimizer.export_people(format=format)
        elif what == "tasks":
            found = optimizer.export_tasks(format=format)
        else:
            found = optimizer.export_plan(id=what, format=format)
    file.write_bytes(found)
    if not _is_json():
        typer.echo(f"Wrote {file}")


def _list(tenant: str, kind: str, *columns: str) -> None:
    from shoal import operator_client

    rows: list[dict[str, Any]] = []
    with operator_client(tenant) as client:
        cursor = None
        while True:
            page = getattr(client.optimizer, f"list_{kind}")(limit=1000, cursor=cursor)
            rows += page[kind]
            if (cursor := page["cursor"]) is None:
                break
    if _is_json():
        typer.echo(json.dumps({kind: rows}))
        return
    for row in rows:
        typer.echo("\t".join(str(row[column]) for column in columns))


def _is_json() -> bool:
    return os.environ.get("SHOAL_JSON_OUTPUT") == "1"
