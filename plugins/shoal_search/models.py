"""The backend that embeds with any of the configured models."""

from collections import defaultdict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from shoal import Egress

from .embedder import Embedder, EmbedRequest
from .onnx_encoder import OnnxModel
from .parameters import SearchSettings

PAIRS = 16
"""Pairs of texts that a reranker reads at once."""


class Models(Embedder):
    """Embeds with the configured model; with the others of `models` where asked.

    Those are loaded when they are first needed. They do not take part in batches, so
    that a slow or absent endpoint keeps nobody else waiting.
    """

    def __init__(self, settings: SearchSettings, egress: Egress) -> None:
        super().__init__(settings, egress, export=settings.query_graph)
        self._settings, self._egress = settings, egress
        self._others: dict[str, Embedder] = {}
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        self._comparer: Any = None
        self._comparing = Lock()

    def embed_with(self, model: str, request: EmbedRequest) -> Any:
        """Embed the texts of one request with another model: see `embed`."""
        with self._locks[model]:
            return self._open(model).embed([request])[0]

    def compare(self, request: tuple[str, Sequence[str]]) -> np.ndarray:
        """Compare a query with texts, by the configured reranker.

        Returns:
            float32 of shape (texts,): how well each answers the query, in [0, 1].
        """
        query, texts = request
        with self._comparing:
            if self._comparer is None:
                self._comparer = open_reranker(self._settings)
            found: np.ndarray = self._comparer.predict(
                [(query, text) for text in texts], batch_size=PAIRS, show_progress_bar=False
            )
            return found

    def onnx_model_of(self, model: str) -> OnnxModel | None:
        """Another model for queries in other processes; None where there is none."""
        with self._locks[model]:
            return self._open(model).onnx_model()

    def _open(self, model: str) -> Embedder:
        if model not in self._others:
            settings = self._settings.using(model)
            self._others[model] = Embedder(settings, self._egress, export=settings.query_graph)
        return self._others[model]


def open_reranker(settings: SearchSettings) -> Any:
    """The configured cross-encoder of sentence-transformers."""
    from sentence_transformers import CrossEncoder
    from torch.nn import Sigmoid

    return CrossEncoder(
        settings.reranker, device=settings.device, num_labels=1, activation_fn=Sigmoid()
    )
