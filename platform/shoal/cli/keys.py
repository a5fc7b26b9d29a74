"""`shoal keys …`."""

from typing import Annotated

import typer

from shoal.runtime.operator_client import operator_client

from .output import Yes, require_consent, show, table

app = typer.Typer(no_args_is_help=True)


@app.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="The tenant.")],
    role: Annotated[str, typer.Option(help="reader, editor, admin or a role of yours.")] = "editor",
    user: Annotated[
        str | None, typer.Option(help="The user that every request with the key acts for.")
    ] = None,
) -> None:
    """Create an API key. It is shown once."""
    with operator_client() as client:
        key = client.platform.create_key(id=tenant, body={"role": role, "user": user})
    show({"tenant": tenant, **key}, f"key (shown once): [bold]{key['key']}[/]")


@app.command("list")
def list_keys(tenant: Annotated[str, typer.Option(help="The tenant.")]) -> None:
    """List a tenant's keys, without their secrets."""
    with operator_client() as client:
        rows = client.platform.list_keys(id=tenant)["keys"]
    show(rows, table(rows, "id", "role", "user", "created"))


@app.command("revoke")
def revoke_key(id: str, yes: Yes = False) -> None:
    """Revoke a key. Takes effect within a second."""
    require_consent(yes, f"Revoke the key {id}?")
    with operator_client() as client:
        answer = client.platform.delete_key(id=id)
    show(answer, f"[green]✓[/] revoked {id}")
