"""`shoal up` and `shoal down`."""

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoal.contract.errors import InternalError, ShoalError
from shoal.runtime.configuration import Config

from .addresses import address_lines
from .output import Spinner, error_line, fail, out, show

if TYPE_CHECKING:
    from shoal.local.supervisor import Supervisor


def up(
    port: Annotated[int | None, typer.Option(help="The HTTP port.")] = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Return when everything is ready; exit status 1, with the cause, if not.",
        ),
    ] = False,
) -> None:
    """Start everything on this machine, with embedded servers; Ctrl-C stops it all."""
    config = Config.load(port=port)
    if detach:
        _up_detached(config)
        return

    def ready(supervisor: "Supervisor", seconds: float) -> None:
        out.print(
            f"[green]✓[/] Shoal is ready at [bold]{supervisor.address}[/]"
            f" after {seconds:.0f} s (Ctrl-C stops it)"
        )
        out.print(address_lines(config), soft_wrap=True)

    run_until_stopped(config, ready)
    out.print("[green]✓[/] stopped")


def run_until_stopped(config: Config, ready: Callable[["Supervisor", float], None]) -> None:
    """Start everything and wait for Ctrl-C, SIGTERM or the end of the terminal.

    Everything is stopped at the end, whatever happens. Exits with status 1, and the
    cause, if something failed.

    Args:
        config: The configuration.
        ready: Called once all is started, with the supervisor and the seconds it took.
    """
    from shoal.local.processes import handle_signals
    from shoal.local.supervisor import Supervisor

    supervisor = Supervisor(config)
    failure: ShoalError | None = None
    handle_signals(_interrupt)
    try:
        started = time.monotonic()
        with Spinner() as progress:
            failed = supervisor.start(progress)
        for name, cause in failed.items():
            error_line(f"{name}: {cause}")
        ready(supervisor, time.monotonic() - started)
        handle_signals(supervisor.request_stop)
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
        with Spinner() as progress:
            supervisor.stop(progress)
    if failure is not None:
        fail(failure)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _up_detached(config: Config) -> None:
    """Run `shoal up` in a process of its own and return when it is ready."""
    from shoal.local.state import require_stopped

    data = config.data.resolve()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_stopped(data)
    log = data / "up.log"
    environment = {k: v for k, v in os.environ.items() if k != "SHOAL_JSON_OUTPUT"}
    command = [sys.executable, "-m", "shoal.cli.main", "up", "--port", str(config.port)]
    with log.open("wb") as file:
        child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    with Spinner() as progress:
        state = _wait_until_ready(child, data, log, progress)
    failed = state.get("failed") or {}
    address = f"http://{config.host}:{config.port}"
    show(
        {"address": address, "pid": child.pid, "failed": failed},
        f"[green]✓[/] Shoal is ready at [bold]{address}[/] (`shoal down` stops it)\n"
        + address_lines(config),
    )
    if failed:
        raise ShoalError(
            "; ".join(f"{name} is not ready: {cause}" for name, cause in failed.items())
        )


def _wait_until_ready(
    child: subprocess.Popen[bytes], data: Path, log: Path, progress: Spinner
) -> dict[str, Any]:
    """The child's state once it is ready; its output is shown meanwhile."""
    from shoal.local.state import running_state

    shown = 0
    while True:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        for line in lines[shown:]:
            progress(line)
        shown = len(lines)
        if child.poll() is not None:
            raise ShoalError("Shoal did not start: " + " ".join(lines[-12:]))
        state = running_state(data)
        if state and state.get("ready"):
            return state
        time.sleep(0.2)


def down() -> None:
    """Stop everything that `shoal up` started, the embedded servers included."""
    from shoal.local.supervisor import stop_running

    config = Config.load()
    with Spinner() as progress:
        stopped = stop_running(config.data.resolve(), progress)
    show({"stopped": stopped}, "[green]✓[/] stopped" if stopped else "Shoal was not running")
