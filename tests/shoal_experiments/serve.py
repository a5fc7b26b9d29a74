"""Experiments, a capability with parameters, and the console, for a browser."""

import sys
from pathlib import Path

from shoal.testing.console import serve_console
from shoal_experiments import shoal_capabilities

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "shoal" / "console"))
from samples import GREETING
from success_bodies import check_bodies

if __name__ == "__main__":
    serve_console([GREETING, *shoal_capabilities()], seed=check_bodies)
