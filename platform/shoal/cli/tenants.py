"""`shoal tenants …`."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from shoal.contract.usage import METERS
from shoal.runtime.operator_client import operator_client

from .output import Yes, is_json, out, require_consent, show, table

app = typer.Typer(no_args_is_help=True)


@app.command("create")
def create_tenant(id: str, name: Annotated[str, typer.Option(help="A display name.")] = "") -> None:
    """Create a tenant, and an editor key for its own service."""
    with operator_client() as client:
        client.platform.create_tenant(id=id, name=name)
        key = client.platform.create_key(id=id, role="editor")
    show(
        {"tenant": id, "key": key["key"]},
        f"[green]✓[/] {id}\n  key (shown once): [bold]{key['key']}[/]",
    )


@app.command("list")
def list_tenants() -> None:
    """List all tenants."""
    with operator_client() as client:
        rows, cursor = [], None
        while True:
            page = client.platform.list_tenants(limit=1000, cursor=cursor)
            rows += page["tenants"]
            cursor = page["cursor"]
            if cursor is None:
                break
    show(rows, table(rows, "id", "name", "created"))


@app.command("usage")
def show_usage(
    id: Annotated[str | None, typer.Argument(help="By default all tenants.")] = None,
    by: Annotated[str, typer.Option(help="day or month")] = "day",
    start: Annotated[str | None, typer.Option("--from", help="A date; the month's first.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="A date; today.")] = None,
    capability: Annotated[str | None, typer.Option(help="By default all.")] = None,
) -> None:
    """Show what tenants used, by day or month (UTC) and capability."""
    query = {"from": start, "to": end, "by": by, "capability": capability}
    options = {name: value for name, value in query.items() if value is not None}
    found: list[dict[str, Any]] = []
    with operator_client() as client:
        if id is not None:
            found.append(client.platform.get_usage(id=id, **options))
        else:
            cursor = None
            while True:
                page = client.platform.list_usage(limit=100, cursor=cursor, **options)
                found += page["tenants"]
                if (cursor := page["cursor"]) is None:
                    break
    rows = [{"tenant": one["tenant"], **row} for one in found for row in one["usage"]]
    show(found, table(rows, "tenant", "period", "capability", *METERS, "storage_bytes"))


@app.command("delete")
def delete_tenant(id: str, yes: Yes = False) -> None:
    """Erase a tenant from every store and plugin, and report what was erased."""
    require_consent(yes, f"Erase all data of {id}?")
    with operator_client(timeout=600, retries=0) as client:
        answer = client.platform.delete_tenant(id=id)
    rows = [{"what": what, "erased": count} for what, count in answer["erased"].items()]
    show(answer, table(rows, "what", "erased"))
    if not is_json():
        for place, what in answer["remains"].items():
            out.print(escape(f"{place}: {what}"))
