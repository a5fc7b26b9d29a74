"""The replica of a backend, which `backend_stub` calls."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread

from shoal.contract.capability import Backend
from shoal.contract.errors import ShoalError

from .context import PlatformContext
from .replica import prepare_replica

Reply = tuple[bool, Any]
"""(True, value), or (False, (status, problem)): a ShoalError crosses processes so."""


class BackendReplica:
    """The class that Serve deploys for a backend.

    Plain functions run in threads, so that a long one stalls neither the replica's
    event loop nor its health check.
    """

    def __init__(self, capability: str, name: str) -> None:
        platform = PlatformContext.current()
        prepare_replica(platform.config.host)
        spec = next(b for b in platform.capability(capability).backends if b.name == name)
        self._target = spec.build(platform.services(capability))
        self._threads = anyio.CapacityLimiter(max(1, spec.scaling.ongoing))
        # One batch at a time: a model uses all cores by itself.
        self._batch_thread = anyio.CapacityLimiter(1)
        self._batched = _batch_calls(spec, self._run_batch) if spec.batch else None

    async def _run(
        self, method: str, *args: Any, limiter: anyio.CapacityLimiter | None = None, **kwargs: Any
    ) -> Any:
        function = getattr(self._target, method)
        if inspect.iscoroutinefunction(function):
            return await function(*args, **kwargs)
        return await anyio.to_thread.run_sync(
            lambda: function(*args, **kwargs), limiter=limiter or self._threads
        )

    async def _run_batch(self, method: str, arguments: list[Any]) -> Any:
        return await self._run(method, arguments, limiter=self._batch_thread)

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reply:
        try:
            return True, await self._run(method, *args, **kwargs)
        except ShoalError as error:
            return False, (error.status, error.problem())

    async def call_batched(self, argument: Any) -> Reply:
        assert self._batched is not None
        try:
            return True, await self._batched(argument)
        except ShoalError as error:
            return False, (error.status, error.problem())


def _batch_calls(
    spec: Backend, run: Callable[..., Awaitable[Any]]
) -> Callable[[Any], Awaitable[Any]]:
    from ray import serve

    @serve.batch(max_batch_size=spec.batch_size, batch_wait_timeout_s=spec.batch_wait)
    async def batched(arguments: list[Any]) -> list[Any]:
        return list(await run(str(spec.batch), arguments))

    return batched
