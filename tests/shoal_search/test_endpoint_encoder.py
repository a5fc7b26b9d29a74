"""Models at an endpoint that speaks OpenAI's protocol."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import numpy as np
import pytest

from shoal import Egress, InternalError, Invalid, Unavailable
from shoal_search import endpoint_encoder
from shoal_search.endpoint_encoder import BATCH_BYTES, EndpointEncoder
from shoal_search.parameters import ModelSettings

from .embedding_server import (
    DIMENSION,
    EmbeddingServer,
    Fault,
    fewer,
    hangs_up,
    nonsense,
    not_finite,
    shorter,
    slow,
    status,
    truncated,
    twice,
    vector_of,
)

KEY = "sk-test-4f1d2c3b5a6978"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    monkeypatch.setenv("EMBEDDING_KEY", KEY)
    with EmbeddingServer(KEY) as server:
        yield server


def open_encoder(server: EmbeddingServer, **options: object) -> EndpointEncoder:
    settings = {"model": "small", "endpoint": server.endpoint, "key": "EMBEDDING_KEY"}
    return EndpointEncoder(ModelSettings.model_validate(settings | options), Egress())


def unit(text: str, dimension: int = DIMENSION) -> np.ndarray:
    vector = vector_of(text, dimension)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("base64", [True, False])
def test_vectors_belong_to_their_texts_in_batches(server: EmbeddingServer, base64: bool) -> None:
    server.base64 = base64
    encoder = open_encoder(server, batch=7)
    texts = [f"text number {n}" for n in range(40)]
    found = encoder.encode(texts)
    assert found.dtype == np.float32
    assert np.abs(found - np.stack([unit(text) for text in texts])).max() < 1e-5
    assert max(len(body["input"]) for body in server.requests) == 7
    assert {body["model"] for body in server.requests} == {"small"}


def test_requests_have_a_bounded_size(server: EmbeddingServer) -> None:
    encoder = open_encoder(server, max_bytes=50_000)
    found = encoder.encode(["路" * 10_000, "b" * 60_000, "c", "d" * 49_999, "e" * 50_000])
    assert found.shape == (5, DIMENSION)
    sizes = [sum(len(text.encode()) for text in body["input"]) for body in server.requests]
    assert max(sizes) <= BATCH_BYTES
    assert max(len(t.encode()) for body in server.requests for t in body["input"]) <= 50_000


def test_dimensions_are_asked_for(server: EmbeddingServer) -> None:
    encoder = open_encoder(server, dimensions=16)
    assert encoder.dimension == 16
    assert encoder.encode(["a b"])[0] == pytest.approx(unit("a b", 16), abs=1e-5)


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        status(503),
        status(429),
        status(408),
        slow,
        fewer,
        twice,
        shorter,
        truncated,
        not_finite,
        nonsense,
        hangs_up,
    ],
)
def test_passing_fault_is_tried_again(server: EmbeddingServer, fault: Fault) -> None:
    encoder = open_encoder(server, timeout=0.5)
    server.faults.extend([fault, fault])
    assert encoder.encode(["one", "two words"])[1] == pytest.approx(unit("two words"), abs=1e-5)
    assert len(server.requests) == 4  # the first was for the dimension


@pytest.mark.parametrize(
    "fault", [status(500), status(429), fewer, shorter, truncated, not_finite, nonsense, hangs_up]
)
def test_lasting_fault_is_unavailable(
    server: EmbeddingServer, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = open_encoder(server)
    monkeypatch.setitem(endpoint_encoder.PATIENCE, "query", 1.0)
    server.faults.extend([fault] * 100)
    with pytest.raises(Unavailable, match="the model's endpoint"):
        encoder.encode(["one", "two"], "query")
    assert len(server.requests) > 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for(server: EmbeddingServer, as_date: bool) -> None:
    encoder = open_encoder(server)
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    server.faults.append(status(429, Retry_After=later if as_date else "1.5"))
    encoder.encode(["one"])
    assert server.times[-1] - server.times[-2] >= 1.4


def test_long_retry_after_is_passed_on(server: EmbeddingServer) -> None:
    encoder = open_encoder(server)
    server.faults.append(status(429, Retry_After="600"))
    with pytest.raises(Unavailable) as raised:
        encoder.encode(["one"])
    assert raised.value.retry_after == 600
    assert len(server.requests) == 2


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "soon", "1e400", "9" * 400, "Tue, 99"])
def test_odd_retry_after_does_no_harm(server: EmbeddingServer, value: str) -> None:
    encoder = open_encoder(server)
    server.faults.append(status(429, Retry_After=value))
    try:
        assert encoder.encode(["one"]).shape == (1, DIMENSION)
    except Unavailable as error:
        assert error.retry_after == endpoint_encoder.MAX_RETRY_AFTER


def test_requests_per_minute_are_kept(server: EmbeddingServer) -> None:
    encoder = open_encoder(server, requests_per_minute=240, batch=1)
    encoder.encode(["a", "b", "c", "d"])
    assert min(b - a for a, b in pairwise(sorted(server.times))) > 0.15


def test_refused_texts_are_an_error_that_says_why(server: EmbeddingServer) -> None:
    encoder = open_encoder(server)

    def refuse(handler: object, body: object) -> bool:
        handler.answer({"error": {"message": f"too long; {KEY}"}}, 400)  # type: ignore[attr-defined]
        return True

    server.faults.append(refuse)
    with pytest.raises(InternalError, match="too long") as raised:
        encoder.encode(["one"])
    assert KEY not in str(raised.value)
    assert len(server.requests) == 2


def test_wrong_key_is_named_by_its_variable(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_KEY", "sk-other")
    with pytest.raises(Unavailable, match="environment variable EMBEDDING_KEY") as raised:
        open_encoder(server)
    assert "sk-" not in str(raised.value)


def test_missing_key_is_named_by_its_variable(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EMBEDDING_KEY")
    with pytest.raises(Invalid, match="environment variable EMBEDDING_KEY"):
        open_encoder(server)


def test_long_texts_are_passages_without_a_tokenizer(server: EmbeddingServer) -> None:
    limit = open_encoder(server, passage_characters=120).limit
    assert len(limit.split("One sentence. " * 100, 120, 20)) > math.ceil(1_400 / 120)
