"""`shoal features …`."""

import os
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import typer

from shoal import InternalError, Invalid, operator_client

TENANT = typer.Option(..., "--tenant", help="Whose features.")
UPLOADED = 200_000
"""Rows in one request."""
BESIDE = {"event_timestamp", "known_by", "tenant_id"}
"""Columns of entity rows beside the entity's id."""
DONE = {"succeeded", "failed", "cancelled"}


def commands() -> typer.Typer:
    app = typer.Typer(help="The feature store.", no_args_is_help=True)

    @app.callback()
    def group() -> None:
        """The feature store."""

    @app.command()
    def apply(
        file: Path = typer.Argument(help="A Python file of Feast definitions."),
        tenant: str = typer.Option("", "--tenant", help="Whose; without, every tenant's."),
        check: bool = typer.Option(False, "--check", help="Only say whether it is right."),
    ) -> None:
        """Validate definitions and register them in place of the tenant's old ones, or
        of every tenant's.
        """
        from .definitions import load
        from .registry import Registry, RegistryError

        try:
            registry = load(file)
            if faults := registry.changed_types(Registry()):
                raise RegistryError(faults)
        except RegistryError as error:
            raise Invalid(f"{file} cannot be registered: {error}", errors=error.errors) from error
        if check:
            _say({"views": [v.name for v in registry.views], "services": list(registry.services)})
            return
        if tenant:
            _say(_call(tenant, "apply", body=registry.to_dict()))
            return
        answers = {name: _applied(name, registry.to_dict()) for name in _every_tenant()}
        _say({"tenants": answers})
        if any("error" in a for a in answers.values()):
            raise typer.Exit(1)

    @app.command()
    def views(tenant: str = TENANT) -> None:
        """The registered views and their features."""
        found = _call(tenant, "views")
        if _as_json():
            _say(found)
            return
        from rich.console import Console
        from rich.table import Table

        table = Table("view", "kind", "entity", "feature", "type", "aggregation")
        for view in found["views"]:
            for f in view["features"]:
                how = f"{f['function']}({f['column'] or '*'})" if f["function"] else "pushed"
                window = f" over {_span(f['window'])}" if f["window"] else ""
                table.add_row(
                    view["name"], view["kind"], view["entity"], f["name"], f["dtype"], how + window
                )
        Console().print(table)

    @app.command()
    def get(
        entity: str = typer.Argument(help="Such as user=123."),
        features: str = typer.Argument(help="Names, separated by commas."),
        tenant: str = TENANT,
        metadata: bool = typer.Option(False, help="Where each value comes from."),
    ) -> None:
        """Features of one entity."""
        kind, _, identity = entity.partition("=")
        _say(_call(tenant, "get", **{kind: identity}, features=features, metadata=metadata))

    @app.command()
    def backfill(
        start: str = typer.Argument(help="First day, such as 2026-11-01."),
        end: str = typer.Argument(help="Last day."),
        tenant: str = TENANT,
        view: list[str] = typer.Option([], help="Only these views."),
    ) -> None:
        """Compute views for past days, and bring the windows up from the archive."""
        arguments: dict[str, Any] = {"start": _day(start), "end": _day(end)}
        _run(tenant, "backfill", arguments | ({"views": view} if view else {}))

    @app.command()
    def materialize(
        tenant: str = TENANT,
        day: str = typer.Option("", "--date", help="As of the end of this day; as of now without."),
    ) -> None:
        """Compute the batch views."""
        _run(tenant, "materialize", {"date": _day(day)} if day else {})

    @app.command()
    def historical(
        entities: Path = typer.Argument(
            help="Entity rows as Parquet: the entity's id and event_timestamp, perhaps known_by."
        ),
        output: Path = typer.Argument(help="The Parquet file to write."),
        features: str = typer.Option(..., help="Names, separated by commas."),
        tenant: str = TENANT,
        entity: str = typer.Option("", help="The entity type, where several have the join key."),
        known_by: str = typer.Option("", help="Only what was known by this time."),
    ) -> None:
        """Join features to entity rows, point in time; the rows of the answer are in no
        particular order.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        def upload(client: Any, name: str) -> None:
            for batch in pq.ParquetFile(entities).iter_batches(UPLOADED):
                sink = pa.BufferOutputStream()
                names = batch.schema.names
                if (
                    entity and len(ids := [n for n in names if n not in BESIDE]) == 1
                ):  # the name of the type, which no other can have
                    names = [entity if n in ids else n for n in names]
                pq.write_table(pa.Table.from_batches([batch]).rename_columns(names), sink)
                client.features.upload(name=name, body=sink.getvalue().to_pybytes())

        _joined(
            tenant,
            output,
            {"features": features.split(","), "entity": entity, "known_by": known_by},
            upload,
        )

    @app.command()
    def as_of(
        time: str = typer.Argument(
            help="Such as 2026-11-01T00:00:00Z, or a date: its beginning, UTC."
        ),
        output: Path = typer.Argument(help="The Parquet file to write."),
        features: str = typer.Option(..., help="Names, separated by commas."),
        tenant: str = TENANT,
        entity: str = typer.Option("", help="The entity type, where there are several."),
        known_by: str = typer.Option("", help="Only what was known by this time."),
    ) -> None:
        """Features of all entities as of a time, in no particular order."""
        at = f"{time}T00:00:00Z" if len(time) == len("2026-11-01") else time
        _joined(
            tenant,
            output,
            {"features": features.split(","), "as_of": at, "entity": entity, "known_by": known_by},
        )

    @app.command()
    def consistency(
        tenant: str = TENANT, sample: int = typer.Option(200, help="Entities to compare.")
    ) -> None:
        """Compare what is served with what the log says; not zero when they differ."""
        if _run(tenant, "consistency", {"sample": sample})["mismatches"]:
            raise typer.Exit(1)

    return app


def _joined(
    tenant: str,
    output: Path,
    arguments: dict[str, Any],
    upload: Callable[[Any, str], None] | None = None,
) -> None:
    """Run the job `features.historical` on a data set of its own, and write its answer
    to a file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name, temporary = f"cli_{uuid4().hex[:12]}", output.with_name(output.name + ".part")
    with operator_client(tenant) as client:
        try:
            if upload:
                upload(client, name)
            result = _run(
                tenant,
                "historical",
                {"dataset": name, **{k: v for k, v in arguments.items() if v}},
                quiet=True,
            )
            writer = None
            for part in range(client.features.download(name=name)["parts"]):
                table = pq.read_table(
                    pa.BufferReader(client.features.download(name=name, part=part))
                )
                writer = writer or pq.ParquetWriter(temporary, table.schema)
                writer.write_table(table)
            if writer:
                writer.close()
                temporary.replace(output)
        finally:
            client.features.forget(name=name)
    _say({"rows": result["rows"], "output": str(output)})


def _every_tenant() -> list[str]:
    names: list[str] = []
    with operator_client() as operator:
        cursor = None
        while True:
            page = operator.platform.list_tenants(
                limit=1000, **({"cursor": cursor} if cursor else {})
            )
            names += [t["id"] for t in page["tenants"]]
            cursor = page["cursor"]
            if not cursor:
                return names


def _applied(tenant: str, registry: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(_call(tenant, "apply", body=registry))
    except Invalid as error:
        return {"error": str(error)}


def _call(tenant: str, operation: str, **arguments: Any) -> Any:
    with operator_client(tenant) as client:
        return getattr(client.features, operation)(**arguments)


def _run(tenant: str, job: str, arguments: dict[str, Any], quiet: bool = False) -> Any:
    """Start a job and follow it to its end."""
    from rich.console import Console
    from rich.progress import Progress

    with (
        operator_client(tenant) as client,
        Progress(console=Console(stderr=True), transient=True, disable=_as_json()) as bar,
    ):
        run = client.platform.run_job(name=f"features.{job}", arguments=arguments)
        task = bar.add_task(job, total=None)
        while run["state"] not in DONE:
            time.sleep(0.3)
            run = client.platform.get_run(id=run["id"])
            shown = run["progress"]
            bar.update(
                task,
                total=shown["total"] or None,
                completed=shown["done"],
                description=shown["message"] or job,
            )
    if run["state"] != "succeeded":
        raise InternalError(
            f"the run {run['id']} {run['state']}: {run.get('error') or 'no more is known'}"
        )
    if not quiet:
        _say(run["result"])
    return run["result"]


def _as_json() -> bool:
    return os.environ.get("SHOAL_JSON_OUTPUT") == "1"


def _say(what: dict[str, Any]) -> None:
    if _as_json():
        typer.echo(orjson.dumps(what).decode())
        return
    for name, value in what.items():
        typer.echo(
            f"{name}: {orjson.dumps(value).decode() if isinstance(value, dict | list) else value}"
        )


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
