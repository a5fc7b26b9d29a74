"""What the commands print: tables for people, JSON for scripts, progress, errors."""

import json
import os
import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn, Self

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

from shoal.contract.errors import Invalid, ShoalError

# Streams of our own: `divert_output` replaces the process's while Ray writes to them.
_WIDTH = None if sys.stdout.isatty() else 200
out = Console(file=sys.stdout, highlight=False, width=_WIDTH)
err = Console(file=os.fdopen(os.dup(2), "w", buffering=1), highlight=False, width=_WIDTH)


Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def is_json() -> bool:
    """Whether --json was given."""
    return os.environ.get("SHOAL_JSON_OUTPUT") == "1"


def show(value: Any, text: Table | str | None = None) -> None:
    """Print `value` with --json, else `text` (rich markup)."""
    if is_json():
        print(json.dumps(value), file=out.file)
    elif text is not None:
        out.print(text, soft_wrap=isinstance(text, str))


def require_consent(yes: bool, question: str) -> None:
    """Ask before what cannot be undone; exits unless it is agreed to.

    Args:
        yes: Whether --yes was given: then nothing is asked. --json is no consent.
        question: What is about to be done, as a question.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        message = f"{question} Without a terminal to ask on, confirm with --yes"
        if is_json():
            print(json.dumps(Invalid(message).problem()), file=out.file)
        else:
            error_line(message)
        sys.exit(2)
    typer.confirm(question, abort=True)


def error_line(text: str) -> None:
    """Print an error for people; `text` is no markup."""
    err.print(f"[red]✗[/] {escape(text)}")


def warning_line(text: str) -> None:
    """Print a warning for people; `text` is no markup."""
    err.print(f"[yellow]![/] {escape(text)}")


def fail(error: ShoalError) -> NoReturn:
    """Print an error, as its problem document with --json, and exit with status 1."""
    if is_json():
        print(json.dumps(error.problem()), file=out.file)
    else:
        error_line(error.detail)
        for fault in error.errors:
            line = f"{fault.get('location', '')}: {fault.get('message', '')}"
            if line != error.detail:
                err.print(escape(f"  {line}"))
    sys.exit(1)


def table(rows: list[dict[str, Any]], *columns: str) -> Table | str:
    """A table of these columns; "none" without rows."""
    if not rows:
        return "none"
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        grid.add_column(column.replace("_", " "))
    for row in rows:
        grid.add_row(*("" if row.get(c) is None else escape(str(row.get(c))) for c in columns))
    return grid


def warn_of_problems(problems: list[dict[str, str]]) -> None:
    """Name the plugins that failed to load, unless the output is JSON."""
    if not is_json():
        for problem in problems:
            warning_line(f"Plugin {problem['plugin']} failed to load: {problem['cause']}")


def progress_bar() -> Progress:
    """A bar for counted work, on a terminal only.

    Redirection is off because rich would undo `divert_output` when the bar ends.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=out,
        disable=is_json() or not out.is_terminal,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


class Spinner:
    """One line of progress: a spinner on a terminal, plain lines elsewhere, nothing
    with --json.

    Write errors are ignored: the terminal may be closed while things are stopped.
    """

    def __enter__(self) -> Self:
        self._bar: Progress | None = None
        if not is_json() and out.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                console=out,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._bar.add_task("")
            with suppress(OSError):
                self._bar.start()
        return self

    def __call__(self, message: str) -> None:
        with suppress(OSError):
            if self._bar is not None:
                self._bar.update(self._task, description=message)
            elif not is_json():
                out.print(f"  {message}")
                out.file.flush()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()
