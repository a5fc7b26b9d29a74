"""`shoal search …`."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from .beir import read_json_lines
from .writer import chunks

BATCH = 200
"""Items in one request, so that even long texts are embedded in time."""
POLL_SECONDS = 0.3


def commands() -> typer.Typer:
    app = typer.Typer(help="Semantic search.", no_args_is_help=True)

    @app.callback()
    def group() -> None:
        """Semantic search."""

    @app.command()
    def load(
        file: Path = typer.Argument(
            help="Items as NDJSON, or a corpus in BEIR's layout: corpus.jsonl or its folder."
        ),
        tenant: str = typer.Option(..., help="The tenant that gets the items."),
        board: str = typer.Option(
            "", help="The board of BEIR documents; by default, the folder's name."
        ),
    ) -> None:
        """Load items into a tenant's index, with progress."""
        import orjson
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        from shoal import operator_client

        as_json = os.environ.get("SHOAL_JSON_OUTPUT") == "1"
        console = Console(stderr=True)
        try:
            items = list(read_items_file(file, board))
        except (OSError, ValueError) as error:
            console.print(f"[red]{error}")
            raise typer.Exit(1) from None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        accepted, rejected = 0, []
        with (
            operator_client(tenant=tenant) as client,
            Progress(*columns, console=console, disable=as_json) as progress,
        ):
            task = progress.add_task(f"Loading into {tenant}", total=len(items))
            for start, some in zip(range(0, len(items), BATCH), chunks(items, BATCH), strict=True):
                answer = client.search.add_items(body=some)
                accepted += answer["accepted"]
                rejected += [
                    {"index": start + r["index"], "error": r["error"]} for r in answer["rejected"]
                ]
                progress.advance(task, len(some))
        if as_json:
            print(orjson.dumps({"accepted": accepted, "rejected": rejected}).decode())
        else:
            console.print(f"{accepted:,} items were added to the index of {tenant}.")
            for fault in rejected[:20]:
                console.print(f"[yellow]item {fault['index'] + 1} was rejected: {fault['error']}")
            if len(rejected) > 20:
                console.print(f"[yellow]… and {len(rejected) - 20:,} more")
        if rejected and not accepted:
            raise typer.Exit(1)

    app.command()(reindex)
    return app


def reindex(
    model: str | None = typer.Option(
        None, help="Change to this model, one of capabilities.search.models."
    ),
    tenant: str | None = typer.Option(None, help="One tenant; all when not given."),
    fresh: bool = typer.Option(
        False, "--fresh", help="Embed everything again, and drop what is not in the log."
    ),
) -> None:
    """Write what the index lacks, from the event log; or change to another model.

    Searches are answered meanwhile. Exit status 1 when it fails.
    """
    import orjson
    from rich.console import Console
    from rich.markup import escape

    from shoal import operator_client

    as_json, console = os.environ.get("SHOAL_JSON_OUTPUT") == "1", Console(stderr=True)
    arguments = {"fresh": fresh} | ({} if model is None else {"model": model})
    with (
        operator_client() as client,
        console.status("Reindexing") as status,
    ):
        run = client.platform.run_job(
            name="search.reindex", body={"tenant": tenant, "arguments": arguments}
        )
        while run["state"] in ("queued", "running"):
            time.sleep(POLL_SECONDS)
            run = client.platform.get_run(id=run["id"])
            progress = run["progress"]
            message = escape(progress["message"] or run["state"])
            status.update(f"{message} {progress['done']:,} of {progress['total']:,}")
    if as_json:
        print(orjson.dumps(run).decode())
    elif run["state"] == "succeeded":
        console.print(f"{run['result']['items']:,} items are indexed.")
    else:
        console.print(f"[red]{run['state']}: {escape(run['error'] or '')}")
    if run["state"] != "succeeded":
        raise typer.Exit(1)


def read_items_file(path: Path, board: str = "") -> Iterator[dict[str, Any]]:
    """Read the items of a file.

    Rows with an `id` are items as they are. Rows with an `_id` are BEIR's documents:
    they become items of type `doc`, all with the same time, so that recency does not
    order them; a title without a text becomes the text.
    """
    if path.is_dir():
        path = path / "corpus.jsonl"
    board = board or path.resolve().parent.name
    now = datetime.now(UTC).isoformat()
    for number, row in enumerate(read_json_lines(path), 1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, item {number}: not a JSON object")
        if "_id" not in row:
            yield row
            continue
        title, text = row.get("title") or "", row.get("text") or ""
        item = {"id": str(row["_id"]), "board_id": board, "type": "doc", "updated_at": now}
        item |= {"title": title, "text": text} if text.strip() else {"title": "", "text": title}
        if metadata := row.get("metadata"):
            item["metadata"] = metadata
        yield item
