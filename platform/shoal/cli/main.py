"""The command line: `shoal up`, `down`, `status`, `deploy`, `config`, `jobs`,
`tenants`, `keys`, `events`, `tune`, and what plugins add.
"""

import json
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from shoal.client.http import Client
from shoal.contract.errors import InternalError, NotFound, ShoalError
from shoal.runtime.configuration import Config
from shoal.runtime.operator_client import operator_client

if TYPE_CHECKING:
    from shoal.local.supervisor import Supervisor

WIDE = None if sys.stdout.isatty() else 200
out = Console(file=sys.stdout, highlight=False, width=WIDE)
err = Console(file=os.fdopen(os.dup(2), "w", buffering=1), highlight=False, width=WIDE)
app = typer.Typer(
    name="shoal",
    help="A company's AI features on one Ray cluster.\n\nFor scripts, every command takes --json; --data DIR holds all state; --config FILE is the configuration.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tenants_app, keys_app, jobs_app, events_app = (typer.Typer(no_args_is_help=True) for _ in range(4))
app.add_typer(tenants_app, name="tenants", help="Companies.")
app.add_typer(keys_app, name="keys", help="API keys.")
app.add_typer(jobs_app, name="jobs", help="Batch work.")
app.add_typer(events_app, name="events", help="The event log.")

EVERYWHERE = {"--data": "SHOAL_DATA", "--config": "SHOAL_CONFIG"}
"""Options that any command takes, wherever they stand: they end in the environment,
where the configuration reads them.
"""


def main() -> None:
    """The entry point: global options first, then the command; a ShoalError is one line
    and exit status 1.
    """
    arguments = sys.argv[1:]
    rest: list[str] = []
    while arguments:
        word = arguments.pop(0)
        name, _, value = word.partition("=")
        if word == "--json":
            os.environ["SHOAL_JSON_OUTPUT"] = "1"
        elif name in EVERYWHERE:
            if not value and not arguments:
                err.print(f"{name} needs a value")
                sys.exit(2)
            os.environ[EVERYWHERE[name]] = value or arguments.pop(0)
        else:
            rest.append(word)
    logging.basicConfig(
        level=logging.ERROR, format="%(message)s"
    )  # what matters to people is printed
    _add_plugin_commands(rest)
    try:
        app(rest)
    except ShoalError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)


def as_json() -> bool:
    return os.environ.get("SHOAL_JSON_OUTPUT") == "1"


def fail(error: ShoalError) -> None:
    if as_json():
        print(json.dumps(error.problem()), file=out.file)
    else:
        err.print(f"[red]✗[/] {escape(error.detail)}")
        for fault in error.errors:
            err.print(escape(f"  {fault.get('location', '')}: {fault.get('message', '')}"))
    sys.exit(1)


def show(value: Any, table: Table | str | None = None) -> None:
    """The value as JSON where --json was given, else the table or text."""
    if as_json():
        print(json.dumps(value), file=out.file)
    elif table is not None:
        out.print(table)


def table(rows: list[dict[str, Any]], *columns: str) -> Table | str:
    """Rows as a table of these columns."""
    if not rows:
        return "none"
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        grid.add_column(column.replace("_", " "))
    for row in rows:
        grid.add_row(*("" if row.get(c) is None else escape(str(row.get(c))) for c in columns))
    return grid


def _add_plugin_commands(arguments: list[str]) -> None:
    """Add `shoal <capability> …`, loading plugins only where the command is not one of
    ours.
    """
    own = {
        c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands
    } | {g.name for g in app.registered_groups}
    first = next((a for a in arguments if not a.startswith("-")), None)
    if first in own:
        return
    from shoal.runtime import plugins

    for name, capability in plugins.installed().capabilities.items():
        if capability.commands is not None:
            try:
                app.add_typer(capability.commands(), name=name, help=capability.summary)
            except Exception as error:  # a plugin's defect must not take `shoal` down
                err.print(
                    f"[yellow]![/] the commands of {name} are left out: {escape(plugins.describe(error))}"
                )


# Up and down


@app.command()
def up(
    port: Annotated[int | None, typer.Option(help="The HTTP port.")] = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Return when all is ready; exit status 1, with the cause, when something is not.",
        ),
    ] = False,
) -> None:
    """Start everything on this machine, the embedded servers included; Ctrl-C stops all
    of it.
    """
    config = Config.load(port=port)
    if detach:
        _detached(config)
        return

    def ready(supervisor: "Supervisor", seconds: float) -> None:
        out.print(
            f"[green]✓[/] Shoal is ready at [bold]{supervisor.address}[/] after {seconds:.0f} s (Ctrl-C stops it)"
        )

    keep_up(config, ready)
    out.print("[green]✓[/] stopped")


def keep_up(config: Config, ready: Callable[["Supervisor", float], None]) -> None:
    """Start everything, call `ready` with the seconds it took, and wait for Ctrl-C,
    SIGTERM or the terminal's end. Whatever happens, all of it is stopped. Exits with 1,
    and the cause, when something failed.
    """
    from shoal.local.supervisor import Supervisor, on_signals

    supervisor = Supervisor(config)
    failure: ShoalError | None = None
    on_signals(interrupt)
    try:
        started = time.monotonic()
        with spinner() as progress:
            failed = supervisor.start(progress)
        for name, cause in failed.items():
            err.print(f"[red]✗[/] {name}: {escape(cause)}")
        ready(supervisor, time.monotonic() - started)
        on_signals(supervisor.request_stop)
        supervisor.watch()
    except KeyboardInterrupt:
        pass
    except ShoalError as error:
        failure = error
    except Exception as error:
        traceback.print_exc()
        failure = InternalError(
            f"{type(error).__name__}: {error} (see {supervisor.data / 'driver.log'})"
        )
    finally:
        with spinner() as progress:
            supervisor.stop(progress)
    if failure is not None:
        fail(failure)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class spinner:
    """A line of progress: a spinner on a terminal, plain lines elsewhere, nothing with
    --json.

    It leaves `sys.stdout` alone (rich would redirect it to the terminal, and undo
    `divert_output` at its end).
    """

    def __enter__(self) -> Any:
        self._bar = None
        if not as_json() and out.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"))
            self._bar = Progress(
                *columns, console=out, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._task = self._bar.add_task("")
            with suppress(
                OSError
            ):  # the terminal may be gone, and then all must be stopped just the same
                self._bar.start()
        return self

    def __call__(self, message: str) -> None:
        with suppress(OSError):
            if self._bar is not None:
                self._bar.update(self._task, description=message)
            elif not as_json():
                out.print(f"  {message}")
                out.file.flush()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()


def _detached(config: Config) -> None:
    from shoal.local.supervisor import running

    data = config.data.resolve()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = running(data)
    if state and state.get("ready"):
        raise ShoalError(
            f"Shoal already runs on {data} (process {state['pid']}); `shoal down` stops it"
        )
    log = data / "up.log"
    environment = {k: v for k, v in os.environ.items() if k != "SHOAL_JSON_OUTPUT"}
    with log.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "shoal.cli.main", "up", "--port", str(config.port)],
            env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    shown = 0
    with spinner() as progress:
        while True:
            lines = log.read_text(errors="replace").splitlines()
            for line in lines[shown:]:
                progress(line.strip())
            shown = len(lines)
            if child.poll() is not None:
                raise ShoalError(
                    "Shoal did not start: " + " ".join(line.strip() for line in lines[-12:])
                )
            state = running(data)
            if state and state.get("ready"):
                break
            time.sleep(0.2)
    failed = state.get("failed") or {}
    address = f"http://{config.host}:{config.port}"
    show(
        {"address": address, "pid": child.pid, "failed": failed},
        f"[green]✓[/] Shoal is ready at [bold]{address}[/] (`shoal down` stops it)",
    )
    if failed:
        raise ShoalError(
            "; ".join(f"{name} is not ready: {cause}" for name, cause in failed.items())
        )


@app.command()
def down() -> None:
    """Stop everything that `shoal up` started, HAProxy and the embedded servers
    included.
    """
    from shoal.local.supervisor import stop_running

    config = Config.load()
    with spinner() as progress:
        stopped = stop_running(config.data.resolve(), progress)
    show({"stopped": stopped}, "[green]✓[/] stopped" if stopped else "Shoal was not running")


@app.command()
def status() -> None:
    """What runs, in which state, and which plugins are left out."""
    from shoal.local.supervisor import running
    from shoal.runtime import plugins

    config = Config.load()
    state = running(config.data.resolve())
    if state is None and config.address is None:
        found = plugins.installed(config.disabled)
        problems = [{"plugin": p.plugin, "cause": p.cause} for p in found.problems]
        show(
            {"running": False, "problems": problems}, "Shoal is not running (`shoal up` starts it)"
        )
        _show_problems(problems)
        raise typer.Exit(1)
    with operator_client() as client:
        answer = client.platform.list_capabilities()
    show(
        {"running": True, **answer},
        table(answer["capabilities"], "name", "status", "version", "summary"),
    )
    for capability in answer["capabilities"]:
        if capability["message"] and not as_json():
            err.print(
                f"[red]✗[/] {capability['name']}: {escape(capability['message'].strip().splitlines()[-1])}"
            )
    _show_problems(answer["problems"])


def _show_problems(problems: list[dict[str, str]]) -> None:
    if not as_json():
        for problem in problems:
            err.print(
                f"[yellow]![/] plugin {problem['plugin']} is left out: {escape(problem['cause'])}"
            )


@app.command()
def deploy(
    name: Annotated[
        list[str] | None, typer.Argument(help="Capabilities; all when none is named.")
    ] = None,
) -> None:
    """(Re)deploy capabilities to the running cluster; the others are not touched."""
    from shoal.local.supervisor import deploy as act
    from shoal.local.supervisor import divert_output
    from shoal.runtime import cluster
    from shoal.runtime.operator_client import runtime

    config = runtime()
    divert_output(config.data / "driver.log")
    cluster.join(config)
    with spinner() as progress:
        failed = act(config, name or None, progress)
    show({"failed": failed}, "[green]✓[/] deployed" if not failed else None)
    if failed:
        raise ShoalError("; ".join(f"{n}: {cause}" for n, cause in failed.items()))


@app.command("config")
def config_() -> None:
    """Print the applications as a Ray Serve configuration, for `serve deploy` and
    KubeRay.
    """
    import yaml

    from shoal.runtime import plugins
    from shoal.runtime.serve_config import declarative_config

    config = Config.load()
    value = declarative_config(config, list(plugins.installed(config.disabled).capabilities))
    print(json.dumps(value) if as_json() else yaml.safe_dump(value, sort_keys=False), end="")


# Tenants, keys


@tenants_app.command("create")
def tenants_create(
    id: str, name: Annotated[str, typer.Option(help="A name for people.")] = ""
) -> None:
    """Make a company, and an editor key for its own service."""
    with operator_client() as client:
        client.platform.create_tenant(id=id, name=name)
        key = client.platform.create_key(id=id, role="editor")
    show(
        {"tenant": id, "key": key["key"]},
        f"[green]✓[/] {id}\n  key (shown once): [bold]{key['key']}[/]",
    )


@tenants_app.command("list")
def tenants_list() -> None:
    """All companies."""
    with operator_client() as client:
        rows, cursor = [], None
        while True:
            page = client.platform.list_tenants(limit=1000, cursor=cursor)
            rows += page["tenants"]
            cursor = page["cursor"]
            if cursor is None:
                break
    show(rows, table(rows, "id", "name", "created"))


@tenants_app.command("delete")
def tenants_delete(
    id: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Erase a company from every store and plugin, and say what was erased."""
    if not yes and not as_json():
        typer.confirm(f"Erase everything of {id}?", abort=True)
    with operator_client(timeout=600, retries=0) as client:
        answer = client.platform.delete_tenant(id=id)
    rows = [{"what": k, "erased": v} for k, v in answer["erased"].items()]
    show(answer, table(rows, "what", "erased"))


@keys_app.command("create")
def keys_create(
    tenant: Annotated[str, typer.Option(help="The company.")],
    role: Annotated[str, typer.Option(help="reader, editor or admin.")] = "editor",
    user: Annotated[
        str | None, typer.Option(help="Every request with the key acts for this user.")
    ] = None,
) -> None:
    """Make an API key. It is shown here and never again."""
    with operator_client() as client:
        key = client.platform.create_key(id=tenant, body={"role": role, "user": user})
    show({"tenant": tenant, **key}, f"key (shown once): [bold]{key['key']}[/]")


@keys_app.command("list")
def keys_list(tenant: Annotated[str, typer.Option(help="The company.")]) -> None:
    """A company's keys, without their secrets."""
    with operator_client() as client:
        rows = client.platform.list_keys(id=tenant)["keys"]
    show(rows, table(rows, "id", "role", "user", "created"))


@keys_app.command("revoke")
def keys_revoke(id: str) -> None:
    """Revoke a key: everywhere within a second."""
    with operator_client() as client:
        answer = client.platform.delete_key(id=id)
    show(answer, f"[green]✓[/] {id} is revoked")


# Jobs


@jobs_app.command("list")
def jobs_list() -> None:
    """The jobs there are, and their newest runs."""
    with operator_client() as client:
        jobs = client.platform.list_jobs()["jobs"]
        runs = client.platform.list_runs(limit=10)["runs"]
    show({"jobs": jobs, "runs": runs}, table(jobs, "name", "cron", "timezone", "summary"))
    if runs and not as_json():
        out.print("")
        out.print(table(runs, "id", "job", "tenant", "state", "started", "error"))


@jobs_app.command("run")
def jobs_run(
    name: str,
    tenant: Annotated[str | None, typer.Option(help="One company; all when not given.")] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option("--argument", "-a", help="key=value, where value may be JSON."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for its end, with progress.")] = True,
) -> None:
    """Run a job now. Exit status 1 when it fails."""
    arguments = {}
    for pair in argument or ():
        key, _, value = pair.partition("=")
        try:
            arguments[key] = json.loads(value)
        except json.JSONDecodeError:
            arguments[key] = value
    with operator_client() as client:
        run = client.platform.run_job(name=name, body={"tenant": tenant, "arguments": arguments})
        if wait:
            run = _follow(client, run)
    show(run, f"{name}: [bold]{run['state']}[/] {escape(str(run['result'] or run['error'] or ''))}")
    if run["state"] in ("failed", "cancelled"):
        raise typer.Exit(1)


def _follow(client: Client, run: dict[str, Any]) -> dict[str, Any]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out, disable=as_json() or not out.is_terminal) as bar:
        task = bar.add_task(run["job"], total=None)
        while run["state"] in ("queued", "running"):
            time.sleep(0.3)
            run = client.platform.get_run(id=run["id"])
            progress = run["progress"]
            bar.update(
                task, total=progress["total"] or None, completed=progress["done"],
                description=f"{run['job']} {progress['message'] or run['state']}",
            )  # fmt: skip
    return run


@jobs_app.command("show")
def jobs_show(id: str) -> None:
    """One run."""
    with operator_client() as client:
        run = client.platform.get_run(id=id)
    show(run, escape(json.dumps(run, indent=1)))


@jobs_app.command("cancel")
def jobs_cancel(id: str) -> None:
    """Stop a run at its next step."""
    with operator_client() as client:
        run = client.platform.cancel_run(id=id)
    show(run, f"{id}: {run['state']}")


# Events


@events_app.command("load")
def events_load(
    file: Annotated[
        Path, typer.Argument(help="CloudEvents as NDJSON.", exists=True, dir_okay=False)
    ],
    tenant: Annotated[str, typer.Option(help="The company.")],
) -> None:
    """Append a file of events, in batches, with progress."""
    accepted, rejected = 0, []
    lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    with (
        operator_client(tenant) as client,
        Progress(console=out, disable=as_json() or not out.is_terminal) as bar,
    ):
        task = bar.add_task("events", total=len(lines))
        for start in range(0, len(lines), 1000):
            answer = client.platform.append_events(body=b"\n".join(lines[start : start + 1000]))
            accepted += answer["accepted"]
            rejected += [{**r, "index": r["index"] + start} for r in answer["rejected"]]
            bar.update(task, completed=min(start + 1000, len(lines)))
    show(
        {"accepted": accepted, "rejected": rejected},
        f"[green]✓[/] {accepted} events accepted, {len(rejected)} rejected",
    )
    if rejected and not as_json():
        for fault in rejected[:10]:
            err.print(escape(f"  line {fault['index'] + 1}: {fault['error']}"))


@events_app.command("dead")
def events_dead(tenant: Annotated[str, typer.Option(help="The company.")]) -> None:
    """Events that a stream could not handle, with the error."""
    with operator_client(tenant) as client:
        rows = client.platform.dead_letters()["events"]
    show(
        rows,
        table([{**r, "type": r["event"]["type"]} for r in rows], "id", "group", "type", "error"),
    )


@events_app.command("replay")
def events_replay(
    tenant: Annotated[str, typer.Option(help="The company.")],
    group: Annotated[str, typer.Option(help="The stream: <capability>.<stream>.")],
    id: Annotated[
        list[str] | None, typer.Option("--id", help="Dead events; all when none is named.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Everything after this position of the log instead.")
    ] = None,
) -> None:
    """Handle events again."""
    with operator_client(tenant) as client:
        answer = client.platform.replay(body={"group": group, "ids": id, "after": after})
    show(answer, f"[green]✓[/] {answer['replayed']} events are handled again")


@app.command()
def tune(
    capability: str,
    data: Annotated[
        Path,
        typer.Option(
            "--from", help="Labelled data, as the capability's study reads it.", exists=True
        ),
    ],
    samples: Annotated[int, typer.Option(help="Parameter sets to try.", min=1)] = 40,
) -> None:
    """Search a capability's parameters on labelled data with Ray Tune; the best is
    printed, ready for an experiment.
    """
    from shoal.local.supervisor import divert_output
    from shoal.runtime import cluster, plugins
    from shoal.runtime.operator_client import runtime
    from shoal.runtime.tuning import tune as act

    found = plugins.installed().capabilities
    if capability not in found:
        raise NotFound(f"no capability {capability!r}; there are {', '.join(found)}")
    config = runtime()
    cluster.join(config)
    divert_output(config.data / "tune.log")
    with spinner() as progress:
        answer = act(found[capability], str(data), samples, config.data / "tune", progress)
    show(answer, escape(json.dumps(answer, indent=1)))


if __name__ == "__main__":
    main()
