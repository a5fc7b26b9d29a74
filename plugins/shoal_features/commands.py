"""`shoal features …`."""

import time
from datetime import date
from pathlib import Path
from typing import Any

import typer

TENANT = typer.Option(..., "--tenant", help="Whose features.")
AS_JSON = typer.Option(False, "--json", help="Say the outcome as JSON.")
DONE = {"succeeded", "failed", "cancelled"}


def commands() -> typer.Typer:
    app = typer.Typer(help="The feature store.", no_args_is_help=True)

    @app.callback()
    def group() -> None:
        """The feature store."""

    @app.command()
    def apply(
        file: Path = typer.Argument(help="A Python file of Feast definitions."),
        tenant: str = TENANT,
        check: bool = typer.Option(False, "--check", help="Only say whether it is right."),
        json: bool = AS_JSON,
    ) -> None:
        """Validate definitions and register them in place of the tenant's old ones."""
        from .definitions import load
        from .registry import RegistryError

        try:
            registry = load(file)
        except RegistryError as error:
            _fail(error.errors, json)
        if check:
            _say({"views": [v.name for v in registry.views], "services": list(registry.services)}, json)
            return
        _say(_call(tenant, "apply", json, body=registry.to_dict()), json)

    @app.command()
    def views(tenant: str = TENANT, json: bool = AS_JSON) -> None:
        """The registered views and their features."""
        found = _call(tenant, "views", json)
        if json:
            _say(found, json)
            return
        from rich.console import Console
        from rich.table import Table

        table = Table("view", "kind", "entity", "feature", "type", "aggregation")
        for view in found["views"]:
            for f in view["features"]:
                how = f"{f['function']}({f['column'] or '*'})" if f["function"] else "pushed"
                window = f" over {_span(f['window'])}" if f["window"] else ""
                table.add_row(view["name"], view["kind"], view["entity"], f["name"], f["dtype"], how + window)
        Console().print(table)

    @app.command()
    def get(
        entity: str = typer.Argument(help="Such as user=123."),
        features: str = typer.Argument(help="Names, separated by commas."),
        tenant: str = TENANT,
        metadata: bool = typer.Option(False, help="Where each value comes from."),
        json: bool = AS_JSON,
    ) -> None:
        """Features of one entity."""
        kind, _, identity = entity.partition("=")
        _say(_call(tenant, "get", json, **{kind: identity}, features=features, metadata=metadata), json)

    @app.command()
    def backfill(
        start: str = typer.Argument(help="First day, such as 2026-11-01."),
        end: str = typer.Argument(help="Last day."),
        tenant: str = TENANT,
        view: list[str] = typer.Option([], help="Only these views."),
        json: bool = AS_JSON,
    ) -> None:
        """Compute views for past days, and bring the windows up from the archive."""
        arguments: dict[str, Any] = {"start": _day(start), "end": _day(end)}
        _run(tenant, "backfill", arguments | ({"views": view} if view else {}), json)

    @app.command()
    def materialize(
        tenant: str = TENANT,
        day: str = typer.Option("", "--date", help="As of the end of this day; as of now without."),
        json: bool = AS_JSON,
    ) -> None:
        """Compute the batch views."""
        _run(tenant, "materialize", {"date": _day(day)} if day else {}, json)

    @app.command()
    def historical(
        entities: Path = typer.Argument(help="Entity rows as Parquet: the entity's id and event_timestamp, perhaps known_by."),
        output: Path = typer.Argument(help="The Parquet file to write."),
        features: str = typer.Option(..., help="Names, separated by commas."),
        tenant: str = TENANT,
        known_by: str = typer.Option("", help="Only what was known by this time."),
        json: bool = AS_JSON,
    ) -> None:
        """Join features to entity rows, point in time. The cluster must reach both files."""
        arguments = {"input": str(entities.resolve()), "output": str(output.resolve()), "features": features.split(",")}
        _run(tenant, "historical", arguments | ({"known_by": known_by} if known_by else {}), json)

    @app.command()
    def consistency(tenant: str = TENANT, sample: int = typer.Option(200, help="Entities to compare."), json: bool = AS_JSON) -> None:
        """Compare what is served with what the log says; not zero when they differ."""
        if _run(tenant, "consistency", {"sample": sample}, json)["mismatches"]:
            raise typer.Exit(1)

    return app


def _call(tenant: str, operation: str, json: bool, **arguments: Any) -> Any:
    from shoal import ShoalError, connect

    try:
        with connect(tenant) as client:
            return getattr(client.features, operation)(**arguments)
    except ShoalError as error:
        _fail(error.errors or [{"location": "", "message": str(error)}], json)


def _run(tenant: str, job: str, arguments: dict[str, Any], json: bool) -> Any:
    """Start a job and follow it to its end."""
    from rich.console import Console
    from rich.progress import Progress

    from shoal import ShoalError, connect

    try:
        with connect(tenant) as client, Progress(console=Console(stderr=True), transient=True, disable=json) as bar:
            run = client.platform.run_job(name=f"features.{job}", arguments=arguments)
            task = bar.add_task(job, total=None)
            while run["state"] not in DONE:
                time.sleep(0.3)
                run = client.platform.get_run(id=run["id"])
                shown = run["progress"]
                bar.update(task, total=shown["total"] or None, completed=shown["done"], description=shown["message"] or job)
    except ShoalError as error:
        _fail(error.errors or [{"location": "", "message": str(error)}], json)
    if run["state"] != "succeeded":
        _fail([{"location": f"run {run['id']}", "message": run.get("error") or run["state"]}], json)
    _say(run["result"], json)
    return run["result"]


def _say(what: Any, json: bool) -> None:
    import orjson

    if json:
        typer.echo(orjson.dumps(what).decode())
        return
    for name, value in what.items():
        typer.echo(f"{name}: {orjson.dumps(value).decode() if isinstance(value, dict | list) else value}")


def _fail(errors: Any, json: bool) -> Any:
    import orjson

    if json:
        typer.echo(orjson.dumps({"errors": list(errors)}).decode())
    for error in errors:
        typer.echo(f"{error['location']}: {error['message']}".removeprefix(": "), err=True)
    raise typer.Exit(1)


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date such as 2026-11-01") from None


def _span(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
