"""`shoal events …`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from shoal.runtime.operator_client import operator_client

from .output import Yes, err, is_json, progress_bar, require_consent, show, table

BATCH = 1000
"""Events per request."""

app = typer.Typer(no_args_is_help=True)


@app.command("load")
def load_events(
    file: Annotated[
        Path, typer.Argument(help="CloudEvents as NDJSON.", exists=True, dir_okay=False)
    ],
    tenant: Annotated[str, typer.Option(help="The tenant.")],
) -> None:
    """Append a file of events. Exit status 1 when all are rejected."""
    accepted, rejected = 0, list[dict[str, Any]]()
    lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    with operator_client(tenant) as client, progress_bar() as bar:
        task = bar.add_task("events", total=len(lines))
        for start in range(0, len(lines), BATCH):
            answer = client.platform.append_events(body=b"\n".join(lines[start : start + BATCH]))
            accepted += answer["accepted"]
            rejected += [{**r, "index": r["index"] + start} for r in answer["rejected"]]
            bar.update(task, completed=min(start + BATCH, len(lines)))
    failed = bool(rejected) and not accepted
    show(
        {"accepted": accepted, "rejected": rejected},
        f"{'[red]✗[/]' if failed else '[green]✓[/]'} {accepted} events accepted, "
        f"{len(rejected)} rejected",
    )
    if not is_json():
        for fault in rejected[:10]:
            err.print(escape(f"  line {fault['index'] + 1}: {fault['error']}"))
    if failed:
        raise typer.Exit(1)


@app.command("dead")
def list_dead_letters(tenant: Annotated[str, typer.Option(help="The tenant.")]) -> None:
    """List the events that a stream failed to handle, with the error."""
    with operator_client(tenant) as client:
        rows = client.platform.dead_letters()["events"]
    show(
        rows,
        table([{**r, "type": r["event"]["type"]} for r in rows], "id", "group", "type", "error"),
    )


@app.command("rejected")
def list_rejected_events(
    tenant: Annotated[str, typer.Option(help="The tenant.")],
    group: Annotated[
        str | None, typer.Option(help="Of this stream only: <capability>.<stream>.")
    ] = None,
) -> None:
    """List the events that a stream cannot use, newest first, with the reason."""
    with operator_client(tenant) as client:
        found = client.platform.rejected_events(**({"group": group} if group else {}))
    rows = [
        {**row, "event": row["event"]["id"], "type": row["event"]["type"]}
        for row in found["events"]
    ]
    show(found, table(rows, "group", "type", "event", "reason"))
    if not is_json():
        for name, count in found["counts"].items():
            err.print(escape(f"  {name} has rejected {count:,} events in all"))


@app.command("forget")
def forget_group(
    group: Annotated[str, typer.Argument(help="The group: <capability>.<stream>.")],
    yes: Yes = False,
) -> None:
    """Forget the stream of a removed plugin in all tenants, with its dead letters."""
    require_consent(yes, f"Forget the positions and dead letters of {group} in all tenants?")
    with operator_client() as client:
        answer = client.platform.forget_group(group=group)
    show(
        answer,
        f"[green]✓[/] {group} is forgotten in {answer['tenants']} tenants, with "
        f"{answer['dead_letters']} dead letters",
    )


@app.command("replay")
def replay_events(
    tenant: Annotated[str, typer.Option(help="The tenant.")],
    group: Annotated[str, typer.Option(help="The group: <capability>.<stream>.")],
    id: Annotated[
        list[str] | None,
        typer.Option("--id", help="Dead letters; the oldest 1,000 when none is named."),
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Instead, all events after this position of the log.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Handle events again: dead letters, or part of the log."""
    if after is not None:
        require_consent(yes, f"Have {group} handle all events after {after} again?")
    with operator_client(tenant) as client:
        answer = client.platform.replay(body={"group": group, "ids": id, "after": after})
    show(answer, f"[green]✓[/] replaying {answer['replayed']} events")
