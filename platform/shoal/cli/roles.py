"""`shoal roles …`."""

from typing import Annotated

import typer

from shoal.contract.rights import RIGHTS
from shoal.runtime.operator_client import operator_client

from .output import Yes, require_consent, show, table

app = typer.Typer(no_args_is_help=True)
Tenant = Annotated[
    str | None, typer.Option(help="The tenant whose role it is; without it, every tenant's.")
]


@app.command("set")
def set_role(
    name: str,
    right: Annotated[list[str], typer.Option(help=f"One of {', '.join(RIGHTS)}; repeat it.")],
    tenant: Tenant = None,
) -> None:
    """Define a role as a set of rights. Takes effect within a second."""
    with operator_client(tenant) as client:
        role = client.platform.put_role(name=name, rights=right)
    show(role, f"[green]✓[/] {name}: {', '.join(role['rights'])}")


@app.command("list")
def list_roles(tenant: Tenant = None) -> None:
    """List the roles with their rights, the built-in ones included."""
    with operator_client(tenant) as client:
        roles = client.platform.list_roles()["roles"]
    rows = [{**role, "rights": " ".join(role["rights"])} for role in roles]
    show(roles, table(rows, "name", "rights", "tenant"))


@app.command("delete")
def delete_role(name: str, tenant: Tenant = None, yes: Yes = False) -> None:
    """Delete a role. Within a second, keys that carry it are refused."""
    require_consent(yes, f"Delete the role {name}?")
    with operator_client(tenant) as client:
        answer = client.platform.delete_role(name=name)
    show(answer, f"[green]✓[/] deleted {name}")
