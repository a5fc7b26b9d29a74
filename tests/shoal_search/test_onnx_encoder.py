"""A model exported to ONNX."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from shoal_search.embedder import Embedder
from shoal_search.onnx_encoder import SAMPLES, OnnxEncoder, export_onnx
from shoal_search.sentence_encoder import PACKAGED, model_path

pytestmark = pytest.mark.integration
TEXTS = [*SAMPLES, "", "wing in a slipstream", "e\u0301t\u00e9 \U0001f600", "word " * 5_000]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(model_path(PACKAGED), device="cpu")


def cosines(model: SentenceTransformer, encode: OnnxEncoder) -> list[float]:
    own = model.encode_query(TEXTS, normalize_embeddings=True)
    return [float(encode(text) @ vector) for text, vector in zip(TEXTS, own, strict=True)]


def test_in_float32_it_gives_the_models_own_vectors(model: SentenceTransformer) -> None:
    exported = export_onnx(model, quantized=False)
    assert exported is not None
    assert min(cosines(model, OnnxEncoder(exported))) > 0.9999


def test_8_bit_weights_give_nearly_the_same_in_less_space(
    embedder: Embedder, model: SentenceTransformer
) -> None:
    exported = embedder.onnx_model()
    assert exported is not None
    assert len(exported.onnx) < 25_000_000
    run = OnnxEncoder(exported)
    assert min(cosines(model, run)) > 0.98
    assert np.linalg.norm(run("any")) == pytest.approx(1)


def test_a_models_prompt_for_queries_goes_before_them() -> None:
    model = SentenceTransformer(
        model_path(PACKAGED), device="cpu", prompts={"query": "What is asked: "}
    )
    exported = export_onnx(model, quantized=False)
    assert exported is not None
    assert exported.prefix == "What is asked: "
    assert min(cosines(model, OnnxEncoder(exported))) > 0.9999


def test_a_model_that_cannot_be_exported_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    assert export_onnx(object(), quantized=True) is None
    assert "the embedder encodes queries" in caplog.text


def test_an_exported_model_that_gives_other_vectors_is_not_used(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        model, "encode_query", lambda text, **_: -model.encode(text, normalize_embeddings=True)
    )
    assert export_onnx(model, quantized=False) is None
    assert "cosine of -1.000" in caplog.text
