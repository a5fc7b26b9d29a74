"""A local server that speaks OpenAI's protocol for embeddings, with faults."""

import base64
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np

DIMENSION = 64
Fault = Callable[["Handler", dict[str, Any]], bool]
"""Answers a request itself and returns True, or leaves it to the server."""


def vector_of(text: str, dimension: int = DIMENSION) -> np.ndarray:
    """The sum of a random vector for each word."""
    vector = np.zeros(dimension, np.float32)
    for word in text.lower().split():
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4])
        vector += np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    return vector


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "EmbeddingServer"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(body)
        self.server.times.append(time.monotonic())
        if self.path != "/v1/embeddings":
            return self.answer({"error": {"message": "no such path"}}, 404)
        if self.headers.get("authorization") != f"Bearer {self.server.key}":
            return self.answer({"error": {"message": f"bad key {self.server.key}"}}, 401)
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault is None or not fault(self, body):
            self.answer(self.embeddings(body))

    def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        dimension = body.get("dimensions", DIMENSION)
        rows: list[dict[str, Any]] = []
        for index, text in enumerate(body["input"]):
            vector: Any = vector_of(text, dimension)
            if body.get("encoding_format") == "base64" and self.server.base64:
                vector = base64.b64encode(vector.astype("<f4").tobytes()).decode()
            else:
                vector = vector.tolist()
            rows.append({"object": "embedding", "index": index, "embedding": vector})
        return {"object": "list", "data": rows[::-1], "model": body["model"]}

    def answer(self, body: Any, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class EmbeddingServer(ThreadingHTTPServer):
    """The server; `requests` are the bodies it got, `faults` what it does next."""

    daemon_threads = True

    def __init__(self, key: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.key, self.base64 = key, True
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.faults: deque[Fault | None] = deque()
        self.endpoint = f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def __enter__(self) -> Self:
        return self


def status(code: int, **headers: str) -> Fault:
    """An answer with a status and an error."""

    def fault(handler: Handler, body: dict[str, Any]) -> bool:
        handler.answer({"error": {"message": "no"}}, code, **headers)
        return True

    return fault


def slow(handler: Handler, body: dict[str, Any]) -> bool:
    """An answer after the client's time."""
    time.sleep(1)
    return False


def fewer(handler: Handler, body: dict[str, Any]) -> bool:
    """One vector too few."""
    found = handler.embeddings(body)
    del found["data"][0]
    handler.answer(found)
    return True


def twice(handler: Handler, body: dict[str, Any]) -> bool:
    """One text's vector twice, and another's not at all."""
    found = handler.embeddings(body)
    found["data"][0] = found["data"][-1]
    handler.answer(found)
    return True


def shorter(handler: Handler, body: dict[str, Any]) -> bool:
    """Vectors of another dimension."""
    handler.answer(handler.embeddings({**body, "dimensions": DIMENSION - 1}))
    return True


def truncated(handler: Handler, body: dict[str, Any]) -> bool:
    """JSON that ends in the middle."""
    handler.answer(json.dumps(handler.embeddings(body)).encode()[:-100])
    return True


def not_finite(handler: Handler, body: dict[str, Any]) -> bool:
    """A vector with an infinite number."""
    found = handler.embeddings({**body, "encoding_format": "float"})
    found["data"][0]["embedding"] = base64.b64encode(
        np.full(DIMENSION, np.inf, "<f4").tobytes()
    ).decode()
    handler.answer(found)
    return True


def nonsense(handler: Handler, body: dict[str, Any]) -> bool:
    """JSON that is something else."""
    handler.answer({"data": [{"index": 0, "embedding": {"a": 1}}] * len(body["input"])})
    return True


def hangs_up(handler: Handler, body: dict[str, Any]) -> bool:
    """No answer at all."""
    handler.close_connection = True
    handler.connection.close()
    return True
