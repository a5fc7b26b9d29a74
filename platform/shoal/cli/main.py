"""The entry point of `shoal`: the commands, the global options, and errors."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from shoal import __version__
from shoal.contract.errors import Invalid, ShoalError

from . import (
    deployment,
    dev,
    events,
    jobs,
    keys,
    lifecycle,
    new,
    roles,
    status,
    tenants,
    tune,
    vectors,
)
from .output import fail, is_json, show, warning_line


class RootGroup(TyperGroup):
    """The root command. Installed capabilities add `shoal <capability> …` to it.

    Plugins are loaded only for the help and for a command that is not Shoal's own. The
    global options are accepted after a command as well as before it.
    """

    _has_plugin_commands = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self._answer_scripts_in_json(self)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        self._add_plugin_commands()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._add_plugin_commands()
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            self._add_global_options(command)
        return command

    def _add_plugin_commands(self) -> None:
        if self._has_plugin_commands:
            return
        self._has_plugin_commands = True
        from shoal.runtime import plugins

        for name, capability in plugins.installed().capabilities.items():
            if capability.commands is None or name in self.commands:
                continue
            try:
                command = typer.main.get_group(capability.commands())
            except Exception as error:  # a broken plugin must not break `shoal`
                warning_line(f"The commands of {name} failed to load: {plugins.describe(error)}")
                continue
            command.name, command.short_help = name, capability.summary
            self.commands[name] = command

    def _add_global_options(self, command: Any) -> None:
        self._answer_scripts_in_json(command)
        taken = {option for parameter in command.params for option in parameter.opts}
        command.params += [
            p for p in self.params if p.name.startswith("shoal_") and taken.isdisjoint(p.opts)
        ]
        for subcommand in getattr(command, "commands", {}).values():
            self._add_global_options(subcommand)

    @staticmethod
    def _answer_scripts_in_json(command: Any) -> None:
        """A group without a command is then an error, where people get its help."""
        if is_json():
            command.no_args_is_help = False


def _set_environment(parameter: typer.CallbackParam, value: Any) -> None:
    """Pass a global option on: the configuration and plugins read the environment."""
    if value:
        os.environ[str(parameter.name).upper()] = "1" if value is True else str(value)


def _global_option(name: str, help: str, metavar: str | None = None, **rules: Any) -> Any:
    return typer.Option(
        name,
        help=help,
        metavar=metavar,
        callback=_set_environment,
        is_eager=True,
        expose_value=False,
        show_default=False,
        **rules,
    )


def _print_version(value: bool) -> None:
    if value:
        show({"version": __version__}, f"shoal {__version__}")
        raise typer.Exit()


app = typer.Typer(
    name="shoal",
    cls=RootGroup,
    help="A company's AI features on one Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def global_options(
    shoal_json_output: Annotated[bool, _global_option("--json", "Print JSON.")] = False,
    shoal_data: Annotated[
        str | None, _global_option("--data", "The folder of all state (default: .shoal).", "DIR")
    ] = None,
    shoal_config: Annotated[
        Path | None,
        _global_option(
            "--config",
            "The configuration file (default: shoal.toml).",
            "FILE",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Those that begin with `shoal_` are global, and set the variable of that name."""


app.command()(lifecycle.up)
app.command()(lifecycle.down)
app.command()(status.status)
app.command()(deployment.deploy)
app.command()(new.new)
app.command()(dev.dev)
app.command("config")(deployment.print_config)
app.command()(tune.tune)
app.add_typer(tenants.app, name="tenants", help="Tenants.")
app.add_typer(keys.app, name="keys", help="API keys.")
app.add_typer(roles.app, name="roles", help="Roles: sets of rights that keys carry.")
app.add_typer(jobs.app, name="jobs", help="Batch jobs and their runs.")
app.add_typer(events.app, name="events", help="The event log.")
app.add_typer(vectors.app, name="vectors", help="Vectors in Milvus.")


def main() -> None:
    """Run the command line; an error of Shoal is one line and exit status 1."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    if "--json" in sys.argv:  # wrong usage hides it from the parser
        os.environ["SHOAL_JSON_OUTPUT"] = "1"
    try:
        status = app(prog_name="shoal", standalone_mode=not is_json())
    except ShoalError as error:
        fail(error)
    except typer.TyperException as error:
        show(Invalid(_describe_usage(error)).problem())
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)  # a command may return a value


def _describe_usage(error: typer.TyperException) -> str:
    """What is wrong with a command line; the commands, where one is missing."""
    message, ctx = error.format_message(), getattr(error, "ctx", None)
    if message == "Missing command.":
        names = ", ".join(ctx.command.list_commands(ctx)) if ctx else ""
        return f"`{ctx.command_path if ctx else 'shoal'}` needs one of its commands: {names}"
    return message


if __name__ == "__main__":
    main()
