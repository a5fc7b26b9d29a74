"""The command group `shoal experiments`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import typer

app = typer.Typer(help="A/B tests.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """A/B tests."""


@app.command()
def propose(
    id: str = typer.Argument(help="The experiment's id."),
    tuned: Path = typer.Option(..., exists=True, help="The output of `shoal tune --json`."),
    design: Path = typer.Option(
        ..., exists=True, help="JSON file: primary, minimum_effect, baseline, guardrails, …"
    ),
    tenant: str = typer.Option(..., help="The tenant that gets the experiment."),
    only: list[str] = typer.Option([], help="A parameter to test; all when not given."),
) -> None:
    """Draft an experiment that compares the current parameters with tuned ones."""
    from shoal import operator_client

    try:
        body: dict[str, Any] = {
            "tuned": json.loads(tuned.read_text()),
            "design": json.loads(design.read_text()),
        }
    except ValueError as error:
        raise typer.BadParameter(f"not valid JSON: {error}") from None
    if only:
        body["only"] = only
    with operator_client(tenant) as client:
        answer = client.experiments.propose(id=id, body=body)
    if os.environ.get("SHOAL_JSON_OUTPUT") == "1":
        typer.echo(json.dumps(answer))
        return
    plan = answer["plan"]
    needs = (
        f"needs {plan['per_arm']:,} units per arm, {plan['duration_days']:g} days"
        if plan
        else "needs a baseline before it can start"
    )
    typer.echo(f"✓ drafted {id}: {needs}")
    typer.echo(f"Start it with POST /experiments/{id}/start or in the console.")
