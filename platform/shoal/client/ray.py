"""Calls through the Serve handles of a Ray cluster."""

import logging
from typing import Any, ClassVar

from shoal.contract.errors import NotFound, Unavailable
from shoal.contract.operations import OperationRequest

from .response import Response, unreachable


class RayTransport:
    """Sends calls through Serve handles to the same ingress application as HTTP.

    A process has one Ray connection: transports to the same address share it, and the
    last one to close closes it. A process that was connected to Ray before (`ray.init`)
    keeps its own connection.

    Args:
        address: `ray://host:port`, a cluster's Ray client port.

    Raises:
        Unavailable: The cluster does not answer, or this process is connected to
            another one.
    """

    _users: ClassVar[dict[str, int]] = {}

    def __init__(self, address: str) -> None:
        import ray
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        self._ray, self._serve, self._address = ray, serve, address
        if not self._users and not ray.is_initialized():
            self._connect()
            self._users[address] = 0
        elif self._users and address not in self._users:
            raise Unavailable(
                f"This process is already connected to {next(iter(self._users))}, and a process"
                " can use only one Ray cluster at a time"
            )
        if address in self._users:
            self._users[address] += 1
        self._handles: dict[str, Any] = {}

    def _connect(self) -> None:
        for attempt in (1, 2):
            try:
                self._ray.init(self._address, namespace="shoal", logging_level=logging.ERROR)
                return
            except ConnectionError as error:
                # The cluster starts a process per client, and a few in a thousand abort
                # while starting.
                if attempt == 2 or not isinstance(error, ConnectionAbortedError):
                    raise unreachable(self._address, error) from error

    def send(self, request: OperationRequest, headers: dict[str, str], timeout: float) -> Response:
        """Send one request and wait for the response.

        Args:
            request: What to send.
            headers: The client's own headers; the request's take precedence.
            timeout: Seconds.

        Raises:
            NotFound: No such capability is deployed.
            Unavailable: The cluster does not answer.
        """
        name = request.path.split("/")[1]
        try:
            if name not in self._handles:
                self._handles[name] = self._serve.get_app_handle(name)
        except self._serve.exceptions.RayServeException:
            raise NotFound(f"Capability {name!r} is not deployed") from None
        remote = self._handles[name].call_application.remote
        try:
            return Response(
                *remote(request, {**headers, **dict(request.headers)}).result(timeout_s=timeout)
            )
        except (TimeoutError, ConnectionError, self._ray.exceptions.RayError) as error:
            raise unreachable(self._address, error) from error

    def close(self) -> None:
        """Release the handles, and the connection if no other transport uses it."""
        for handle in self._handles.values():
            handle.shutdown()
        self._handles.clear()
        if self._address in self._users:
            self._users[self._address] -= 1
            if not self._users[self._address]:
                del self._users[self._address]
                self._ray.shutdown()
