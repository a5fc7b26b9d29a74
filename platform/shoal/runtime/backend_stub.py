"""What `services.backend(name)` gives: calls to a backend's replicas."""

from collections.abc import Awaitable, Callable
from typing import Any

from shoal.contract.capability import Backend
from shoal.contract.errors import ShoalError

from .deployments import call_deployment


class BackendStub:
    """`await stub.method(…)` calls the backend, wherever its replicas are."""

    def __init__(self, spec: Backend, capability: str) -> None:
        self._spec, self._capability = spec, capability

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_"):
            raise AttributeError(method)
        application, deployment = self._capability, self._spec.name

        async def call(*args: Any, **kwargs: Any) -> Any:
            if method == self._spec.batch:
                reply = await call_deployment(application, deployment, "call_batched", *args)
            else:
                reply = await call_deployment(application, deployment, "call", method, args, kwargs)
            ok, value = reply
            if not ok:
                raise ShoalError.from_problem(*value)
            return value

        return call
