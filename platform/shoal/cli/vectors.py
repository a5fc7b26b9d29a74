"""`shoal vectors …`."""

import asyncio
from typing import Annotated, Literal

import typer

from shoal.contract.errors import Invalid
from shoal.runtime.operator_client import running_config

from .output import show, table

app = typer.Typer(no_args_is_help=True)


@app.command("move")
def move_tenant(
    tenant: str,
    to: Annotated[
        Literal["own", "shared"],
        typer.Option(help="Collections of its own, or those it shares with other tenants."),
    ],
) -> None:
    """Move a tenant's vectors in Milvus, while they are searched and written.

    Run it again if it was interrupted: it goes on.
    """
    stores = running_config().stores
    if stores is None or not stores.vectors.startswith(("http://", "https://", "tcp://")):
        raise Invalid(
            "the vectors are not in Milvus: embedded, each tenant has collections of its own"
        )
    from shoal.stores import milvus_move
    from shoal.stores.connections import close_connections

    async def move() -> dict[str, int]:
        try:
            return await milvus_move.move_tenant(stores, tenant, to)
        finally:
            await close_connections()

    copied = asyncio.run(move())
    rows = [{"collection": name, "copied": count} for name, count in copied.items()]
    show({"tenant": tenant, "to": to, "copied": copied}, table(rows, "collection", "copied"))
