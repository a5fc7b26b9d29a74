"""`shoal tune`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from shoal.contract.errors import NotFound

from .output import Spinner, show


def tune(
    capability: str,
    source: Annotated[
        Path,
        typer.Option(
            "--from", help="Labelled data, as the capability's study reads it.", exists=True
        ),
    ],
    samples: Annotated[int, typer.Option(help="Parameter sets to try.", min=1)] = 40,
) -> None:
    """Search a capability's parameters on labelled data with Ray Tune.

    Prints the best parameters, ready for an experiment.
    """
    from shoal.local.processes import divert_output
    from shoal.runtime import cluster, plugins
    from shoal.runtime.operator_client import running_config
    from shoal.runtime.tuning import tune as run_study

    found = plugins.installed().capabilities
    if capability not in found:
        raise NotFound(f"No capability {capability!r}; there are {', '.join(found)}")
    config = running_config()
    cluster.join(config)
    divert_output(config.data / "tune.log")
    with Spinner() as progress:
        answer = run_study(found[capability], str(source), samples, config.data / "tune", progress)
    show(answer, escape(json.dumps(answer, indent=1)))
