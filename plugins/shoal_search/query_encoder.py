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

from .embedder import EmbedRequest
from .onnx_encoder import OnnxEncoder, OnnxModel
from .sentence_encoder import trim_memory

log = logging.getLogger("shoal.search")


class QueryEncoder:
    """Embeds queries in this process where the model can be exported, else remotely.

    The most recent vectors are cached, by tenant and a digest of the text: the time an
    answer takes must not tell one tenant what another has searched for.

    Args:
        embed: Calls the embedder backend.
        fetch_model: Gives the exported model; None leaves every query to the backend.
        size: How many vectors are cached.
    """

    def __init__(
        self,
        embed: Callable[[EmbedRequest], Awaitable[np.ndarray]],
        fetch_model: Callable[[], Awaitable[OnnxModel | None]] | None = None,
        size: int = 2_000,
    ) -> None:
        self._embed, self._fetch_model, self._size = embed, fetch_model, size
        self._cache: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._encoder: OnnxEncoder | None = None
        self._loading: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(min(os.cpu_count() or 1, 4), "query")

    async def __call__(self, tenant: str, text: str) -> np.ndarray:
        """The query's vector: float32 of shape (dimension,), of length 1."""
        key = hashlib.sha256(f"{tenant}\0{text}".encode()).digest()
        if key not in self._cache:
            self._cache[key] = await self._encode(text)
            if len(self._cache) > self._size:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    async def _encode(self, text: str) -> np.ndarray:
        if self._encoder is not None:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._encoder, text)
        if self._fetch_model is not None and self._loading is None:
            self._loading = asyncio.create_task(self._load(self._fetch_model))
        vector: np.ndarray = (await self._embed(("query", [text])))[0]
        return vector

    async def _load(self, fetch_model: Callable[[], Awaitable[OnnxModel | None]]) -> None:
        try:
            if (model := await fetch_model()) is not None:
                self._encoder = await asyncio.to_thread(OnnxEncoder, model)
                del model
                trim_memory()
        except ShoalError:  # the embedder is unavailable: the next query tries again
            self._loading = None
        except Exception:
            log.exception("the exported model does not run here; the embedder encodes queries")
