"""Backends: heavier Serve deployments behind a capability's routes, and the stubs that
call them.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread

from shoal.contract.capability import Backend
from shoal.contract.errors import ShoalError, Unavailable

from .replica import prepare_replica

Answer = tuple[bool, Any]
"""(True, value), or (False, (status, problem)): a ShoalError crosses processes as the
problem it is.
"""


class BackendReplica:
    """The class that Serve deploys for a backend. Plain functions run in threads, so
    that a long one stalls neither the replica's event loop nor its health check.
    """

    def __init__(self, capability: str, name: str) -> None:
        from .context import PlatformContext

        platform = PlatformContext.current()
        prepare_replica(platform.config.host)
        spec = next(b for b in platform.capability(capability).backends if b.name == name)
        self._object = spec.build(platform.services(capability))
        self._threads = anyio.CapacityLimiter(max(1, spec.scaling.ongoing))
        self._one = anyio.CapacityLimiter(
            1
        )  # one batch at a time: a model fills the cores by itself
        self._batched = _batching(spec, self._run_batch) if spec.batch else None

    async def _run(
        self, method: str, *args: Any, limiter: anyio.CapacityLimiter | None = None, **kwargs: Any
    ) -> Any:
        function = getattr(self._object, method)
        if inspect.iscoroutinefunction(function):
            return await function(*args, **kwargs)
        return await anyio.to_thread.run_sync(
            lambda: function(*args, **kwargs), limiter=limiter or self._threads
        )

    async def _run_batch(self, method: str, arguments: list[Any]) -> Any:
        return await self._run(method, arguments, limiter=self._one)

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
        try:
            return True, await self._run(method, *args, **kwargs)
        except ShoalError as error:
            return False, (error.status, error.problem())

    async def call_batched(self, argument: Any) -> Answer:
        assert self._batched is not None
        try:
            return True, await self._batched(argument)
        except ShoalError as error:
            return False, (error.status, error.problem())


def _batching(spec: Backend, run: Callable[..., Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    from ray import serve

    @serve.batch(max_batch_size=spec.batch_size, batch_wait_timeout_s=spec.batch_wait)
    async def batched(arguments: list[Any]) -> list[Any]:
        return list(await run(str(spec.batch), arguments))

    return batched


class BackendStub:
    """`await stub.method(…)` calls the backend, wherever its replicas are."""

    def __init__(self, spec: Backend, capability: str) -> None:
        self._spec, self._capability = spec, capability

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_"):
            raise AttributeError(method)

        async def call(*args: Any, **kwargs: Any) -> Any:
            from ray import serve
            from ray.exceptions import RayActorError
            from ray.serve.exceptions import (
                BackPressureError,
                DeploymentUnavailableError,
                RayServeException,
            )

            try:
                handle = serve.get_deployment_handle(self._spec.name, app_name=self._capability)
                if method == self._spec.batch:
                    ok, value = await handle.call_batched.remote(*args)
                else:
                    ok, value = await handle.call.remote(method, args, kwargs)
            except (
                RayActorError,
                BackPressureError,
                DeploymentUnavailableError,
                RayServeException,
            ) as error:
                raise Unavailable(
                    f"the backend {self._spec.name} is away: {type(error).__name__}", retry_after=1
                ) from error
            if ok:
                return value
            status, problem = value
            raise ShoalError.from_problem(status, problem)

        return call
