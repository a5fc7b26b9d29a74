"""What every model does: texts to vectors."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from .onnx_encoder import OnnxModel
from .passages import PassageLimit

Kind = Literal["document", "query"]
"""Some models have a prompt for each kind of text."""


class Encoder(Protocol):
    """A model, wherever it runs."""

    @property
    def dimension(self) -> int:
        """The length of the vectors."""

    @property
    def limit(self) -> PassageLimit:
        """How much of a text it reads."""

    def encode(self, texts: Sequence[str], kind: Kind = "document") -> np.ndarray:
        """Embed texts: float32 of shape (texts, dimension), each row of length 1.

        Raises:
            Unavailable: The model cannot be reached.
        """

    def onnx_model(self) -> OnnxModel | None:
        """The model for queries in other processes; None where there is none."""
