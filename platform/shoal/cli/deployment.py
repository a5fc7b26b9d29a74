"""`shoal deploy` and `shoal config`: the Serve applications of the platform."""

import json
from collections.abc import Mapping
from typing import Annotated

import typer

from shoal.client.http import Client
from shoal.contract.capability import Capability
from shoal.contract.errors import ShoalError
from shoal.runtime.configuration import Config

from .output import Spinner, is_json, show, warn_of_problems


def deploy(
    name: Annotated[
        list[str] | None, typer.Argument(help="Capabilities; all when none is named.")
    ] = None,
) -> None:
    """(Re)deploy capabilities to the running cluster; the others are not touched.

    The platform and the console are redeployed with one that they do not list as it is.
    """
    from shoal.local.processes import divert_output
    from shoal.runtime import cluster, plugins
    from shoal.runtime.operator_client import operator_client, running_config
    from shoal.runtime.rollout import deploy_applications

    config = running_config()
    installed = plugins.installed(config.disabled)
    problems = [{"plugin": p.plugin, "cause": p.cause} for p in installed.problems]
    warn_of_problems(problems)
    if name:
        with operator_client() as client:
            name = with_listing(name, installed.capabilities, client)
    divert_output(config.data / "driver.log")
    cluster.join(config)
    with Spinner() as progress:
        failed = deploy_applications(progress, name)
    show(
        {"failed": failed, "problems": problems},
        "[green]✓[/] deployed" if not failed else None,
    )
    if failed:
        raise ShoalError("; ".join(f"{n}: {cause}" for n, cause in failed.items()))


LISTING = ("platform", "console")
"""The applications that list capabilities, as they were when these began."""


def with_listing(
    names: list[str], capabilities: Mapping[str, Capability], client: Client
) -> list[str]:
    """The applications to deploy: those named, and which must learn of them.

    Args:
        names: What is to be deployed.
        capabilities: What is installed here, by name.
        client: Of the platform that runs, as the operator.
    """
    from shoal.runtime.status import describe_capability

    try:
        listed = {
            found["name"]: found for found in client.platform.list_capabilities()["capabilities"]
        }
    except ShoalError:  # then it must be deployed anyway
        listed = {}
    for name in set(names) & set(capabilities):
        described = json.loads(json.dumps(describe_capability(capabilities[name])))
        seen = listed.get(name, {})
        if {**seen, **described} != seen:
            return list(dict.fromkeys([*names, *LISTING]))
    return names


def print_config() -> None:
    """Print the applications as a Ray Serve config, for `serve deploy` and KubeRay."""
    import yaml

    from shoal.runtime import plugins
    from shoal.runtime.serve_config import declarative_config

    config = Config.load()
    value = declarative_config(config, list(plugins.installed(config.disabled).capabilities))
    print(json.dumps(value) if is_json() else yaml.safe_dump(value, sort_keys=False), end="")
