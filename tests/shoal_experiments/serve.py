"""Experiments, a capability with parameters, the platform and the console in one process: real Redis, real Router, no Ray."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import shoal_experiments


def main() -> None:
    path = Path(__file__).parents[1] / "shoal/console/serve.py"
    spec = importlib.util.spec_from_file_location("console_serve", path)
    assert spec and spec.loader
    serve: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    greeting = serve.SAMPLES["greeting"]
    [experiments] = shoal_experiments.shoal_capabilities()
    serve.SAMPLES.clear()
    serve.SAMPLES.update({"greeting": greeting, "experiments": experiments})
    serve.main()


if __name__ == "__main__":
    main()
