"""Two sample capabilities and the console, for the tests beside this file."""

from samples import CRACKED, GREETING

from shoal.runtime.plugins import Problem
from shoal.testing.console import serve_console

if __name__ == "__main__":
    serve_console(
        [GREETING, CRACKED],
        problems=[Problem("absent", "ModuleNotFoundError: No module named 'absent'")],
        statuses={"cracked": "UNHEALTHY"},
    )
