"""Texts as vectors, by an endpoint that speaks OpenAI's protocol.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

import base64
import binascii
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import numpy as np
import orjson

from shoal import Egress, EgressRefused, InternalError, Invalid, Unavailable

from .encoder import Kind
from .parameters import ModelSettings
from .passages import PassageLimit

CONCURRENT = 4
"""Requests at a time, from one process."""
BATCH_BYTES = 128 * 2**10
"""UTF-8 bytes of the texts in one request: a word piece has one byte or more."""
MAX_RESPONSE_BYTES = 64 * 2**20
PATIENCE = {"query": 8.0, "document": 45.0}
"""Seconds until a text's vector is given up, with all attempts."""
LONGEST_BACKOFF = 8.0
MAX_RETRY_AFTER = 86_400.0


class EndpointEncoder:
    """A model behind `POST {endpoint}/embeddings`.

    Args:
        model: The endpoint and its limits, from the operator's configuration.
        egress: Clients for connections that leave the platform.

    Raises:
        Invalid: The environment variable that should hold the key is not set.
        Unavailable: The endpoint does not answer as it should.
    """

    def __init__(self, model: ModelSettings, egress: Egress) -> None:
        self._model = model
        self._url = f"{str(model.endpoint).rstrip('/')}/embeddings"
        self._key = _read_key(model)
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        self._http = egress.client(
            trusted=[self._url],
            timeout=model.timeout,
            max_bytes=MAX_RESPONSE_BYTES,
            headers=headers,
        )
        self._threads = ThreadPoolExecutor(CONCURRENT, "embeddings")
        self._pace = Pace(model.requests_per_minute)
        self.limit = PassageLimit(model.passage_characters)
        self.dimension = model.dimensions or 0
        self.dimension = self.encode(["."]).shape[1]

    def encode(self, texts: Sequence[str], kind: Kind = "document") -> np.ndarray:
        """Embed texts; of a longer text the first `max_bytes` are read.

        Returns:
            float32 of shape (texts, dimension), each row of length 1.

        Raises:
            Unavailable: The endpoint gave no valid answer in time.
            InternalError: It refuses the texts.
        """
        deadline = time.monotonic() + PATIENCE[kind]
        cut = [_cut(text, self._model.max_bytes) for text in texts]
        batches = list(_batches(cut, self._model.batch))
        if len(batches) == 1:
            found = [self._vectors(batches[0], deadline)]
        else:
            found = list(self._threads.map(lambda batch: self._vectors(batch, deadline), batches))
        vectors = np.concatenate(found)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(length > 0, length, 1)

    def onnx_model(self) -> None:
        """No model that could run elsewhere."""

    def _vectors(self, texts: Sequence[str], deadline: float) -> np.ndarray:
        """The vectors of one request, with further attempts until the deadline."""
        body: dict[str, Any] = {"model": self._model.model, "input": texts}
        body["encoding_format"] = "base64"  # a third of the size; some ignore it
        if self._model.dimensions:
            body["dimensions"] = self._model.dimensions
        content = orjson.dumps(body)
        backoff = 0.25
        while True:
            wait: float | None = None
            self._pace.wait(deadline)
            try:
                answer = self._http.post(
                    self._url, content=content, headers={"content-type": "application/json"}
                )
                if answer.status_code == 200:
                    return read_vectors(answer.content, len(texts), self.dimension)
                fault = self._fault(answer)
                wait = _retry_after(answer)
            except EgressRefused as error:
                raise Unavailable(f"the model's endpoint is refused: {error}") from error
            except httpx.HTTPError as error:
                fault = f"does not answer ({type(error).__name__})"
            except ValueError as error:
                fault = f"gave an invalid response: {error}"
            if wait is None:
                wait = backoff * random.uniform(0.5, 1)
                backoff = min(backoff * 2, LONGEST_BACKOFF)
            if time.monotonic() + wait >= deadline:
                raise Unavailable(f"the model's endpoint {fault}", retry_after=max(wait, 1.0))
            time.sleep(wait)

    def _fault(self, answer: httpx.Response) -> str:
        """What a response means that may be another one later; raises if it may not."""
        status = answer.status_code
        if status in (401, 403):
            variable = f"the environment variable {self._model.key}" if self._model.key else "key"
            raise Unavailable(
                f"the model's endpoint refuses the key ({status}): set {variable}", retry_after=60
            )
        if status in (408, 409, 425, 429) or status >= 500:
            return f"answers {status}"
        detail = answer.text[:300]
        if self._key:
            detail = detail.replace(self._key, "…")
        raise InternalError(f"the model's endpoint refuses the texts ({status}): {detail}")


class Pace:
    """Spreads requests evenly over each minute."""

    def __init__(self, per_minute: int | None) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, deadline: float) -> None:
        """Wait for this request's turn.

        Raises:
            Unavailable: It does not come before the deadline.
        """
        if not self._interval:
            return
        with self._lock:
            turn = max(self._next, time.monotonic())
            if turn >= deadline:
                raise Unavailable(
                    "more texts than `requests_per_minute` lets through", retry_after=60
                )
            self._next = turn + self._interval
        time.sleep(max(turn - time.monotonic(), 0))


def read_vectors(body: bytes, count: int, dimension: int) -> np.ndarray:
    """The vectors of a response, in the order of the texts.

    Args:
        body: JSON, each vector a list of numbers or float32 in base64.
        count: How many there must be.
        dimension: Their length; 0 is any.

    Raises:
        ValueError: The response is not what it must be.
    """
    try:
        rows = sorted(orjson.loads(body)["data"], key=lambda row: row["index"])
        if [row["index"] for row in rows] != list(range(count)):
            raise ValueError(f"{len(rows)} vectors for {count} texts")
        vectors = np.stack([_read_vector(row["embedding"]) for row in rows])
    except (LookupError, TypeError, binascii.Error, orjson.JSONDecodeError) as error:
        raise ValueError(f"not embeddings as JSON ({type(error).__name__})") from None
    if vectors.ndim != 2 or (dimension and vectors.shape[1] != dimension):
        raise ValueError(f"vectors of {vectors.shape[1:]} numbers instead of {dimension}")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector has numbers that are not finite")
    return vectors


def _read_vector(value: Any) -> np.ndarray:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
    return np.array(value, np.float32)


def _read_key(model: ModelSettings) -> str | None:
    if not model.key:
        return None
    if not (key := os.environ.get(model.key, "").strip()):
        raise Invalid(f"the environment variable {model.key} must hold the key of {model.endpoint}")
    return key


def _cut(text: str, size: int) -> str:
    if len(text) * 4 <= size:
        return text
    return text.encode()[:size].decode(errors="ignore") or "."


def _batches(texts: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    start = size = 0
    for at, text in enumerate(texts):
        length = len(text.encode())
        if at > start and (at - start == most or size + length > BATCH_BYTES):
            yield texts[start:at]
            start, size = at, 0
        size += length
    yield texts[start:]


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds that a response asks to wait, given as such or as a time."""
    value = answer.headers.get("retry-after", "")
    try:
        if value.isdecimal() or value.replace(".", "", 1).isdecimal():
            return min(float(value), MAX_RETRY_AFTER)
        later = parsedate_to_datetime(value).timestamp() - time.time()
        return min(max(later, 0.0), MAX_RETRY_AFTER)
    except (ValueError, OverflowError):
        return None
