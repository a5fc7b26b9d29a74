"""Experiments, a capability with parameters, the platform and the console in one
process: real Redis, real Router, no Ray.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import httpx

import shoal_experiments
from shoal.contract.operations import OperationRequest, decode
from shoal.runtime.context import PlatformContext


async def call_application(
    self: PlatformContext, name: str, call: OperationRequest, headers: dict[str, str]
) -> Any:
    """One capability calls another over HTTP here, as there are no Serve handles
    without Ray.
    """
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{self.config.port}", timeout=30
    ) as client:
        answer = await client.request(
            call.method,
            call.path,
            params=call.query,
            content=call.body,
            headers={**headers, **dict(call.headers)},
        )
    return decode(answer.status_code, answer.headers.get("content-type", ""), answer.content)


def main() -> None:
    path = Path(__file__).parents[1] / "shoal/console/serve.py"
    spec = importlib.util.spec_from_file_location("console_serve", path)
    assert spec and spec.loader
    serve: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    PlatformContext.call_application = call_application  # type: ignore[method-assign]
    greeting = serve.SAMPLES["greeting"]
    [experiments] = shoal_experiments.shoal_capabilities()
    serve.SAMPLES.clear()
    serve.SAMPLES.update({"greeting": greeting, "experiments": experiments})
    serve.main()


if __name__ == "__main__":
    main()
