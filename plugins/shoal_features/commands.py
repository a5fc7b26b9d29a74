"""The commands `shoal features …`."""

import os
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import typer

from shoal import Conflict, InternalError, Invalid, operator_client

if TYPE_CHECKING:
    from .registry import Registry

TENANT = typer.Option(..., "--tenant", help="The tenant.")
ROWS_PER_REQUEST = 200_000
NOT_IDS = {"event_timestamp", "known_by", "tenant_id"}
"""Columns of entity rows that are not the entity's id."""

DONE = {"succeeded", "failed", "cancelled"}

app = typer.Typer(help="The feature store.", no_args_is_help=True)


def commands() -> typer.Typer:
    """The command group, for `shoal features`."""
    return app


@app.callback()
def group() -> None:
    """The feature store."""


@app.command()
def apply(
    file: Path = typer.Argument(help="A Python file of Feast definitions."),
    tenant: str = typer.Option("", "--tenant", help="The tenant; all tenants without."),
    check: bool = typer.Option(False, "--check", help="Only validate the file."),
    prune: bool = typer.Option(False, "--prune", help="Remove what the file does not define."),
) -> None:
    """Validate definitions and register them in place of the old ones."""
    registry = _load(file)
    if check:
        _print({"views": [v.name for v in registry.views], "services": list(registry.services)})
        return
    if tenant:
        _print(_call(tenant, "apply", body=registry.to_dict(), prune=prune))
        return
    results = {name: _apply_to(name, registry.to_dict(), prune) for name in _all_tenants()}
    _print({"tenants": results})
    if any("error" in result for result in results.values()):
        raise typer.Exit(1)


@app.command()
def plan(
    file: Path = typer.Argument(help="A Python file of Feast definitions."),
    tenant: str = TENANT,
) -> None:
    """Show what `apply` would add, remove and change; it changes nothing."""
    found = _call(tenant, "apply", body=_load(file).to_dict(), dry_run=True)
    if _is_json():
        _print({name: found[name] for name in ("new", "removed", "changed")})
        return
    for name in found["new"]:
        typer.echo(f"+ {name}")
    for name in found["removed"]:
        typer.echo(f"- {name}")
    for change in found["changed"]:
        old, new = (orjson.dumps(change[which]).decode() for which in ("old", "new"))
        typer.echo(f"~ {change['name']}: {change['field']}: {old} → {new}")
    if not any(found[name] for name in ("new", "removed", "changed")):
        typer.echo("no changes")


@app.command()
def views(tenant: str = TENANT) -> None:
    """List the registered views and their features."""
    found = _call(tenant, "views")
    if _is_json():
        _print(found)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("view", "kind", "entity", "feature", "type", "aggregation")
    for view in found["views"]:
        for f in view["features"]:
            aggregation = f"{f['function']}({f['column'] or '*'})" if f["function"] else "pushed"
            window = f" over {_duration(f['window'])}" if f["window"] else ""
            row = (view["name"], view["kind"], view["entity"], f["name"], f["dtype"])
            table.add_row(*row, aggregation + window)
    Console().print(table)


@app.command()
def get(
    entity: str = typer.Argument(help="Such as user=123."),
    features: str = typer.Argument(help="Names, separated by commas."),
    tenant: str = TENANT,
    metadata: bool = typer.Option(False, help="Also type, times and status of each value."),
) -> None:
    """Show features of one entity."""
    kind, _, entity_id = entity.partition("=")
    _print(_call(tenant, "get", **{kind: entity_id}, features=features, metadata=metadata))


@app.command()
def backfill(
    start: str = typer.Argument(help="First day, such as 2026-11-01."),
    end: str = typer.Argument(help="Last day."),
    tenant: str = TENANT,
    view: list[str] = typer.Option([], help="Only these views."),
) -> None:
    """Compute views for past days, and fill windows from the archive."""
    arguments: dict[str, Any] = {"start": _check_day(start), "end": _check_day(end)}
    _run_job(tenant, "backfill", arguments | ({"views": view} if view else {}))


@app.command()
def materialize(
    tenant: str = TENANT,
    day: str = typer.Option("", "--date", help="As of the end of this day; as of now without."),
) -> None:
    """Compute the batch views."""
    _run_job(tenant, "materialize", {"date": _check_day(day)} if day else {})


@app.command()
def historical(
    entities: Path = typer.Argument(
        exists=True,
        dir_okay=False,
        readable=True,
        help="Entity rows as Parquet: the entity's id and event_timestamp, perhaps known_by.",
    ),
    output: Path = typer.Argument(help="The Parquet file to write."),
    features: str = typer.Option(..., help="Names, separated by commas."),
    tenant: str = TENANT,
    entity: str = typer.Option("", help="The entity type, where several have the join key."),
    known_by: str = typer.Option("", help="Only what was known by this time."),
    time_zone: str = typer.Option("", help="Of times without a zone, such as Europe/Lisbon."),
) -> None:
    """Join features to entity rows, point in time; the result is in no order."""
    arguments = {"features": features.split(","), "entity": entity, "known_by": known_by}

    def upload(client: Any, name: str) -> None:
        _upload_rows(client, name, entities, entity, time_zone)

    _join(tenant, output, arguments, upload)


@app.command()
def as_of(
    time: str = typer.Argument(
        help="Such as 2026-11-01T00:00:00Z, or a date for its beginning in UTC."
    ),
    output: Path = typer.Argument(help="The Parquet file to write."),
    features: str = typer.Option(..., help="Names, separated by commas."),
    tenant: str = TENANT,
    entity: str = typer.Option("", help="The entity type, where there are several."),
    known_by: str = typer.Option("", help="Only what was known by this time."),
) -> None:
    """Write features of all entities as of a time, in no particular order."""
    at = f"{time}T00:00:00Z" if len(time) == len("2026-11-01") else time
    arguments = {"features": features.split(","), "as_of": at, "entity": entity}
    _join(tenant, output, arguments | {"known_by": known_by})


@app.command()
def consistency(
    tenant: str = TENANT, sample: int = typer.Option(200, help="Entities to compare.")
) -> None:
    """Compare served values with the event log. Exit status 1 when any differ."""
    if _run_job(tenant, "consistency", {"sample": sample})["mismatches"]:
        raise typer.Exit(1)


def _upload_rows(client: Any, name: str, file: Path, entity: str, time_zone: str) -> None:
    """Upload the rows of a Parquet file to a data set."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise Invalid(f"{file} is not a Parquet file: {error}") from error
    for batch in rows.iter_batches(ROWS_PER_REQUEST):
        names = batch.schema.names
        ids = [n for n in names if n not in NOT_IDS]
        if entity and len(ids) == 1:  # unlike a join key, the type's name is unique
            names = [entity if n in ids else n for n in names]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_batches([batch]).rename_columns(names), sink)
        zone = {"time_zone": time_zone} if time_zone else {}
        client.features.upload(name=name, body=sink.getvalue().to_pybytes(), **zone)


def _join(
    tenant: str,
    output: Path,
    arguments: dict[str, Any],
    upload: Callable[[Any, str], None] | None = None,
) -> None:
    """Run the job `features.historical` on a new data set, and save its result."""
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}", param_hint="OUTPUT")
    name = f"cli_{uuid4().hex[:12]}"
    arguments = {"dataset": name, **{k: v for k, v in arguments.items() if v}}
    with operator_client(tenant) as client:
        try:
            if upload:
                upload(client, name)
            result = _run_job(tenant, "historical", arguments, quiet=True)
            _save_result(client, name, output, arguments)
        finally:
            client.features.forget(name=name)
    _print({"rows": result["rows"], "output": str(output)})


def _save_result(client: Any, name: str, output: Path, arguments: dict[str, Any]) -> None:
    """Write the parts of a result to one file; without any, a file without rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, temporary = None, output.with_name(output.name + ".part")
    for part in range(client.features.download(name=name)["parts"]):
        table = pq.read_table(pa.BufferReader(client.features.download(name=name, part=part)))
        writer = writer or pq.ParquetWriter(temporary, table.schema)
        writer.write_table(table)
    writer = writer or pq.ParquetWriter(temporary, _result_schema(client, arguments))
    writer.close()
    temporary.replace(output)


def _result_schema(client: Any, arguments: dict[str, Any]) -> Any:
    """The columns of a result: the entity's id, the time, and the features."""
    import pyarrow as pa

    from .aggregation import TIME, arrow_type
    from .registry import Registry

    found = client.features.views()
    registry = Registry.from_dict({name: found[name] for name in ("views", "services")})
    entity = arguments.get("entity") or registry.entities[0]  # the job takes none of several
    columns = {registry.join_key(entity): pa.string(), "event_timestamp": TIME}
    resolved = registry.resolve(entity, arguments["features"])
    return pa.schema(columns | {f.name: arrow_type(f.dtype) for _, f in resolved})


def _all_tenants() -> list[str]:
    names: list[str] = []
    page: dict[str, Any] = {"cursor": None}
    with operator_client() as operator:
        while True:
            cursor = {"cursor": page["cursor"]} if page["cursor"] else {}
            page = operator.platform.list_tenants(limit=1000, **cursor)
            names += [t["id"] for t in page["tenants"]]
            if not page["cursor"]:
                return names


def _load(file: Path) -> "Registry":
    """The registry that a file defines, or Invalid with every fault."""
    from .definitions import load_definitions
    from .errors import RegistryError
    from .registry import Registry

    try:
        registry = load_definitions(file)
        if errors := registry.replacement_errors(Registry()):
            raise RegistryError(errors)
    except RegistryError as error:
        raise Invalid(f"{file} cannot be registered: {error}", errors=error.errors) from error
    return registry


def _apply_to(tenant: str, registry: dict[str, Any], prune: bool) -> dict[str, Any]:
    try:
        return dict(_call(tenant, "apply", body=registry, prune=prune))
    except (Conflict, Invalid) as error:
        return {"error": str(error)}


def _call(tenant: str, operation: str, **arguments: Any) -> Any:
    with operator_client(tenant) as client:
        return getattr(client.features, operation)(**arguments)


def _run_job(tenant: str, job: str, arguments: dict[str, Any], quiet: bool = False) -> Any:
    """Run a job, and show its progress and its result."""
    from rich.console import Console
    from rich.progress import Progress

    with (
        operator_client(tenant) as client,
        Progress(console=Console(stderr=True), transient=True, disable=_is_json()) as bar,
    ):
        run = client.platform.run_job(name=f"features.{job}", arguments=arguments)
        task = bar.add_task(job, total=None)
        while run["state"] not in DONE:
            time.sleep(0.3)
            run = client.platform.get_run(id=run["id"])
            progress = run["progress"]
            bar.update(
                task,
                total=progress["total"] or None,
                completed=progress["done"],
                description=progress["message"] or job,
            )
    if run["state"] != "succeeded":
        reason = run.get("error") or "no error was recorded"
        raise InternalError(f"the run {run['id']} {run['state']}: {reason}")
    if not quiet:
        _print(run["result"])
    return run["result"]


def _is_json() -> bool:
    return os.environ.get("SHOAL_JSON_OUTPUT") == "1"


def _print(values: dict[str, Any]) -> None:
    if _is_json():
        typer.echo(orjson.dumps(values).decode())
        return
    for name, value in values.items():
        shown = orjson.dumps(value).decode() if isinstance(value, dict | list) else value
        typer.echo(f"{name}: {shown}")


def _check_day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date such as 2026-11-01") from None


def _duration(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
