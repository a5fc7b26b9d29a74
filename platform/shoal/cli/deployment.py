"""`shoal deploy` and `shoal config`: the Serve applications of the platform."""

import json
from typing import Annotated

import typer

from shoal.contract.errors import ShoalError
from shoal.runtime.configuration import Config

from .output import Spinner, is_json, show


def deploy(
    name: Annotated[
        list[str] | None, typer.Argument(help="Capabilities; all when none is named.")
    ] = None,
) -> None:
    """(Re)deploy capabilities to the running cluster; the others are not touched."""
    from shoal.local.processes import divert_output
    from shoal.runtime import cluster
    from shoal.runtime.operator_client import running_config
    from shoal.runtime.rollout import deploy_applications

    config = running_config()
    divert_output(config.data / "driver.log")
    cluster.join(config)
    with Spinner() as progress:
        failed = deploy_applications(progress, name)
    show({"failed": failed}, "[green]✓[/] deployed" if not failed else None)
    if failed:
        raise ShoalError("; ".join(f"{n}: {cause}" for n, cause in failed.items()))


def print_config() -> None:
    """Print the applications as a Ray Serve config, for `serve deploy` and KubeRay."""
    import yaml

    from shoal.runtime import plugins
    from shoal.runtime.serve_config import declarative_config

    config = Config.load()
    value = declarative_config(config, list(plugins.installed(config.disabled).capabilities))
    print(json.dumps(value) if is_json() else yaml.safe_dump(value, sort_keys=False), end="")
