"""A sentence-transformers model exported to ONNX, for single short texts."""

import io
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger("shoal.search")

SAMPLES = (
    "a",
    "sign-in is slow on mobile",
    "Who approved the quarterly budget for marketing, and when?",
    "路线图 café 42",
    "the supplier changed the interface twice " * 80,
)
MIN_COSINE = {False: 0.999, True: 0.97}
"""Smallest cosine to the original model's vector, by whether weights are quantized."""


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An exported model; it can be pickled.

    Attributes:
        onnx: The graph, from word pieces to one vector.
        tokenizer: JSON of the library `tokenizers`.
        prefix: Goes before every query.
    """

    onnx: bytes
    tokenizer: str
    prefix: str = ""


class OnnxEncoder:
    """Runs an exported model, one thread per call."""

    def __init__(self, model: OnnxModel) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        # As fast for so few word pieces, and leaves the other cores to the search.
        options.intra_op_num_threads = 1
        # The arena would keep the memory of the longest text ever seen.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            model.onnx, options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_str(model.tokenizer)
        self._prefix = model.prefix

    def __call__(self, text: str) -> np.ndarray:
        """The text's vector: float32 of shape (dimension,), of length 1."""
        pieces = self._tokenizer.encode(self._prefix + text)
        given = {
            "input_ids": pieces.ids,
            "attention_mask": pieces.attention_mask,
            "token_type_ids": pieces.type_ids,
        }
        vector: np.ndarray = self._session.run(
            None, {name: np.array([given[name]], np.int64) for name in self._inputs}
        )[0][0]
        vector /= float(np.linalg.norm(vector)) or 1.0
        return vector


def export_onnx(model: Any, *, quantized: bool) -> OnnxModel | None:
    """Export a sentence-transformers model in float32 for queries.

    Args:
        model: The SentenceTransformer.
        quantized: Whether to quantize the weights to 8 bits.

    Returns:
        The exported model; None where it cannot be exported, or gives other vectors.
    """
    try:
        exported = _export(model, quantized)
        encode = OnnxEncoder(exported)
        for text in SAMPLES:
            vector = model.encode_query(text, normalize_embeddings=True)
            if (cosine := float(encode(text) @ vector)) < MIN_COSINE[quantized]:
                raise ValueError(f"cosine of {cosine:.3f} to the model's own vector")
        return exported
    except Exception as error:  # models are many; the embedder can run all of them
        log.warning(
            "the model cannot be exported, the embedder encodes queries (%s: %s)",
            type(error).__name__,
            str(error)[:200],
        )
        return None


def _export(model: Any, quantized: bool) -> OnnxModel:
    import torch
    from tokenizers import Tokenizer

    class Whole(torch.nn.Module):
        """The model with its pooling, from tensors to one tensor."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> Any:
            return self.model(dict(zip(names, inputs, strict=True)))["sentence_embedding"]

    tokenizer = model.tokenizer
    sample = tokenizer(["one two three"], return_tensors="pt")
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in sample]
    written = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Whole().eval(),
            tuple(sample[name] for name in names),
            written,  # type: ignore[arg-type]  # buffers are accepted as well
            input_names=names,
            output_names=["vector"],
            dynamic_axes={name: {0: "texts", 1: "pieces"} for name in names}
            | {"vector": {0: "texts"}},
            opset_version=17,
            dynamo=False,
        )
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    fast.enable_truncation(model.max_seq_length)
    fast.no_padding()
    prompts = model.prompts
    prefix = prompts.get("query") or prompts.get(model.default_prompt_name or "") or ""
    onnx = _quantize(written.getvalue()) if quantized else written.getvalue()
    return OnnxModel(onnx, fast.to_str(), prefix)


def _quantize(onnx: bytes) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a preprocessing that dynamic shapes do not need
    try:
        with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
            whole, small = Path(folder, "whole.onnx"), Path(folder, "small.onnx")
            whole.write_bytes(onnx)
            quantize_dynamic(whole, small, weight_type=QuantType.QInt8, per_channel=True)
            return small.read_bytes()
    finally:
        root.setLevel(level)
