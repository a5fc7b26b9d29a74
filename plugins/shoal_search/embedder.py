"""The backend that embeds texts, and items passage by passage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shoal import Egress

from .encoder import Encoder, Kind
from .endpoint_encoder import EndpointEncoder
from .onnx_encoder import OnnxModel
from .parameters import SearchSettings
from .passages import passages
from .sentence_encoder import SentenceEncoder

TitleAndText = tuple[str, str]
EmbedRequest = tuple[Kind, Sequence[str]] | tuple[Literal["item"], Sequence[TitleAndText]]
"""Texts of one kind, of which the model reads as much as it can; or titles and texts,
of which it reads everything, passage by passage.
"""
BATCH_ITEMS, BATCH_CHARACTERS = 64, 65_536
"""Items in one request: a query waits for at most these. One item may be longer."""


@dataclass(frozen=True, slots=True)
class EmbeddedItem:
    """A text's passages with their vectors.

    Attributes:
        passages: Where each begins and ends in the text, in characters.
        vectors: float32 of shape (passages, dimension), each row of length 1.
    """

    passages: list[tuple[int, int]]
    vectors: np.ndarray


class Embedder:
    """Embeds texts with the configured model.

    Args:
        settings: The model.
        egress: Clients for a model at an endpoint.
        export: Whether to offer the model for queries in other processes as well.
    """

    def __init__(
        self,
        settings: SearchSettings | None = None,
        egress: Egress | None = None,
        *,
        export: bool = False,
    ) -> None:
        self.encoder = open_encoder(settings or SearchSettings(), egress, export=export)
        self.dimension = self.encoder.dimension

    def embed(self, requests: Sequence[EmbedRequest]) -> list[Any]:
        """Embed the texts of several requests together.

        Returns:
            For each request of texts an array, float32 of shape (texts, dimension),
            whose rows have length 1; for each of items, a list of `EmbeddedItem`.
        """
        split = [
            [passages(title, text, self.encoder.limit) for title, text in request[1]]
            if request[0] == "item"
            else None
            for request in requests
        ]
        texts = [
            list(map(str, request[1]))
            if items is None
            else [passage.embedded for item in items for passage in item]
            for request, items in zip(requests, split, strict=True)
        ]
        vectors = self._encode_all([request[0] for request in requests], texts)
        return [
            found if items is None else list(_embedded_items(items, found))
            for items, found in zip(split, vectors, strict=True)
        ]

    def encode(self, texts: Sequence[str], kind: Kind = "document") -> np.ndarray:
        """Embed texts; see `Encoder.encode`."""
        return self.encoder.encode(texts, kind)

    def embed_items(self, items: Sequence[TitleAndText]) -> list[EmbeddedItem]:
        """Embed titles and texts, passage by passage."""
        found: list[EmbeddedItem] = self.embed([("item", items)])[0]
        return found

    def onnx_model(self) -> OnnxModel | None:
        """The model for queries in other processes; None where there is none."""
        return self.encoder.onnx_model()

    def _encode_all(self, kinds: Sequence[str], texts: Sequence[list[str]]) -> list[np.ndarray]:
        """The vectors of each request's texts; all of a kind are encoded together."""
        found = [np.empty((0, self.dimension), np.float32)] * len(texts)
        for kind in ("document", "query"):
            chosen = [i for i, name in enumerate(kinds) if (name == "query") == (kind == "query")]
            together = [text for i in chosen for text in texts[i]]
            if not together:
                continue
            vectors = self.encode(together, kind)
            at = 0
            for i in chosen:
                found[i] = vectors[at : at + len(texts[i])]
                at += len(texts[i])
        return found


def open_encoder(
    settings: SearchSettings, egress: Egress | None = None, *, export: bool = False
) -> Encoder:
    """The configured model.

    Args:
        settings: Its name, and what that stands for.
        egress: Clients for a model at an endpoint.
        export: Whether to offer the model for queries in other processes as well.

    Raises:
        Invalid: An endpoint's key is missing.
        Unavailable: An endpoint does not answer as it should.
    """
    model = settings.models.get(settings.model)
    if model is not None and model.endpoint is not None:
        return EndpointEncoder(model, egress or Egress())
    return SentenceEncoder(settings, export=export)


def item_batches(items: Sequence[TitleAndText]) -> Iterator[Sequence[TitleAndText]]:
    """Split items into requests of a bounded size."""
    start = size = 0
    for at, (title, text) in enumerate(items):
        size += len(title) + len(text)
        if at > start and (at - start == BATCH_ITEMS or size > BATCH_CHARACTERS):
            yield items[start:at]
            start, size = at, len(title) + len(text)
    if start < len(items):
        yield items[start:]


def _embedded_items(items: Sequence[Any], vectors: np.ndarray) -> Iterator[EmbeddedItem]:
    at = 0
    for found in items:
        places = [(passage.start, passage.end) for passage in found]
        yield EmbeddedItem(places, vectors[at : at + len(found)])
        at += len(found)
