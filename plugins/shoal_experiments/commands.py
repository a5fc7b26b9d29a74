"""`shoal experiments …`."""

from __future__ import annotations

import json as text
from pathlib import Path
from typing import Any

import typer


def commands() -> typer.Typer:
    app = typer.Typer(help="A/B tests.", no_args_is_help=True)

    @app.callback()
    def group() -> None:
        """A/B tests."""

    @app.command()
    def propose(
        id: str = typer.Argument(help="The experiment's id."),
        tuned: Path = typer.Option(..., exists=True, help="What `shoal tune --json` printed."),
        design: Path = typer.Option(
            ..., exists=True, help="JSON: primary, minimum_effect, baseline, guardrails, …"
        ),
        tenant: str = typer.Option(..., help="Whose experiment it becomes."),
        only: list[str] = typer.Option([], help="A parameter to take over; all when not given."),
        json: bool = typer.Option(
            False, "--json", envvar="SHOAL_JSON_OUTPUT", help="Say the outcome as JSON."
        ),
    ) -> None:
        """Make a draft experiment of tuned parameters: present values against tuned
        ones.
        """
        from shoal import operator_client

        try:
            body: dict[str, Any] = {
                "tuned": text.loads(tuned.read_text()),
                "design": text.loads(design.read_text()),
            }
        except ValueError as error:
            raise typer.BadParameter(f"no JSON: {error}") from None
        if only:
            body["only"] = only
        with operator_client(tenant) as client:
            answer = client.experiments.propose(id=id, body=body)
        if json:
            typer.echo(text.dumps(answer))
        else:
            plan = answer["plan"]
            needs = (
                f"needs {plan['per_arm']:,} units per arm, {plan['duration_days']:g} days"
                if plan
                else "needs a baseline before it can start"
            )
            typer.echo(
                f"✓ drafted {id}: {needs}; start it with POST /experiments/{id}/start or in the console"
            )

    return app
