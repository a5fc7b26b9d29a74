"""The vectors of queries."""

import asyncio
import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shoal import ShoalError

from .embedder import Call, give_back
from .onnx_encoder import Graph, Model

log = logging.getLogger("shoal.search")


class Queries:
    """Vectors of queries: remembered, else computed in this process by the embedder's
    graph, else, where there is none (yet), by the embedder. In this process a query
    takes half the time: two hand-overs between processes less, and no PyTorch.

    The latest `size` are remembered: people ask the same again, or filter. A tenant's
    are its own, so that the time an answer takes tells nobody what others have asked;
    of the text only a digest is kept.
    """

    def __init__(
        self,
        embed: Callable[[Call], Awaitable[np.ndarray]],
        graph: Callable[[], Awaitable[Graph | None]] | None = None,
        size: int = 2_000,
    ) -> None:
        self._embed, self._graph, self._size = embed, graph, size
        self._known: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._model: Model | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(min(os.cpu_count() or 1, 4), "query")

    async def __call__(self, tenant: str, text: str) -> np.ndarray:
        """float32 of shape (dimension,), of length 1."""
        key = hashlib.sha256(f"{tenant}\0{text}".encode()).digest()
        if key not in self._known:
            self._known[key] = await self._vector(text)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    async def _vector(self, text: str) -> np.ndarray:
        if self._model is not None:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._model, text
            )
        if self._graph is not None and self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(self._graph))
        return (await self._embed(("query", [text])))[0]

    async def _fetch(self, graph: Callable[[], Awaitable[Graph | None]]) -> None:
        try:
            if (found := await graph()) is not None:
                self._model = await asyncio.to_thread(Model, found)
                del found
                give_back()
        except ShoalError:  # the embedder is away: the next query asks again
            self._fetching = None
        except Exception:
            log.exception("queries stay with the embedder: its graph does not run here")
