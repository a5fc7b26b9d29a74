"""A model as a graph of ONNX Runtime, which takes a short text in half the time and a
tenth of the memory that PyTorch needs.
"""

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
ALIKE = {False: 0.999, True: 0.97}
"""The least cosine to the model's own vector, by whether the weights are in 8 bits."""


@dataclass(frozen=True, slots=True)
class Graph:
    """`onnx`: from word pieces to one vector. `tokenizer`: as the library `tokenizers`
    writes it. `prefix`: what goes before a query.
    """

    onnx: bytes
    tokenizer: str
    prefix: str = ""


class Model:
    """A graph, ready to run, on one thread at a time for each call."""

    def __init__(self, graph: Graph) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = (
            1  # as fast for so few word pieces, and the other cores search meanwhile
        )
        options.enable_cpu_mem_arena = (
            False  # else the longest text ever seen is kept in memory for ever
        )
        self._session = onnxruntime.InferenceSession(
            graph.onnx, options, providers=["CPUExecutionProvider"]
        )
        self._wanted = {wanted.name for wanted in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_str(graph.tokenizer)
        self._prefix = graph.prefix

    def __call__(self, text: str) -> np.ndarray:
        """float32 of shape (dimension,), of length 1."""
        pieces = self._tokenizer.encode(self._prefix + text)
        given = {
            "input_ids": pieces.ids,
            "attention_mask": pieces.attention_mask,
            "token_type_ids": pieces.type_ids,
        }
        vector = self._session.run(
            None, {name: np.array([given[name]], np.int64) for name in self._wanted}
        )[0][0]
        return vector / (float(np.linalg.norm(vector)) or 1.0)


def exported(model: Any, *, quantized: bool) -> Graph | None:
    """A sentence-transformers model in float32, as a graph for queries; None where it
    cannot be one, or does not give the same vectors. `quantized`: with weights of 8
    bits.
    """
    try:
        graph = _exported(model, quantized)
        run = Model(graph)
        for text in SAMPLES:
            vector = model.encode_query(text, normalize_embeddings=True)
            if (alike := float(run(text) @ vector)) < ALIKE[quantized]:
                raise ValueError(f"a cosine of {alike:.3f} to the model's own vector")
        return graph
    except Exception as fault:  # the models are many, and the embedder can compute all of them
        log.warning(
            "queries stay with the embedder: its model makes no graph (%s: %s)",
            type(fault).__name__,
            str(fault)[:200],
        )
        return None


def _exported(model: Any, quantized: bool) -> Graph:
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
            written,
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
    onnx = _quantized(written.getvalue()) if quantized else written.getvalue()
    return Graph(onnx, fast.to_str(), prefix)


def _quantized(onnx: bytes) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a preparation that dynamic shapes do not need
    try:
        with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
            whole, small = Path(folder, "whole.onnx"), Path(folder, "small.onnx")
            whole.write_bytes(onnx)
            quantize_dynamic(whole, small, weight_type=QuantType.QInt8, per_channel=True)
            return small.read_bytes()
    finally:
        root.setLevel(level)
