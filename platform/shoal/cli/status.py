"""`shoal status`."""

import typer

from shoal.runtime.configuration import Config
from shoal.runtime.operator_client import operator_client, running_config

from .addresses import address_lines, addresses_of
from .output import error_line, is_json, out, show, table, warn_of_problems, warning_line


def status() -> None:
    """Show the addresses, each capability's state, and plugins that failed to load."""
    from shoal.local.state import running_state
    from shoal.runtime import plugins

    config = Config.load()
    folder = config.data.resolve()
    if running_state(folder) is None and config.address is None:
        found = plugins.installed(config.disabled)
        problems = [{"plugin": p.plugin, "cause": p.cause} for p in found.problems]
        show(
            {"running": False, "problems": problems},
            f"Shoal is not running on {folder} (`shoal up` starts it; --data names another folder)",
        )
        warn_of_problems(problems)
        raise typer.Exit(1)
    with operator_client() as client:
        answer = client.platform.list_capabilities()
        groups = client.platform.list_groups()["groups"]
    removed = [group for group in groups if not group["installed"]]
    running = running_config()
    if not is_json():
        out.print(address_lines(running) + "\n", soft_wrap=True)
    show(
        {
            "running": True,
            "addresses": addresses_of(running),
            **answer,
            "removed_streams": removed,
        },
        table(answer["capabilities"], "name", "status", "version", "summary"),
    )
    for capability in answer["capabilities"]:
        if capability["message"] and not is_json():
            error_line(f"{capability['name']}: {capability['message'].strip().splitlines()[-1]}")
        for warning in capability["warnings"] if not is_json() else ():
            warning_line(f"{capability['name']}: {warning}")
    warn_of_problems(answer["problems"])
    for group in removed if not is_json() else ():
        warning_line(
            f"{group['group']} is of no installed plugin, sink or source, and keeps the logs of "
            f"{group['tenants']} tenants from being trimmed: shoal events forget {group['group']}"
        )
