"""What may be varied, tuned and promoted; and what is set once where the capability
runs.
"""

from typing import Literal
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field

from shoal import Parameters


class SearchParameters(Parameters):
    """How the three parts of a score are made and weighed. All of them act at query
    time: none needs a new index.
    """

    semantic_weight: float = Field(default=0.7, ge=0, le=1)
    keyword_weight: float = Field(default=0.2, ge=0, le=1)
    recency_weight: float = Field(default=0.1, ge=0, le=1)
    half_life_days: float = Field(default=30.0, ge=1, le=3650)
    """The age at which an item's recency is one half."""
    bm25_k1: float = Field(default=0.9, ge=0, le=3)
    """How soon repetitions of a word stop counting."""
    bm25_b: float = Field(default=0.4, ge=0, le=1)
    """How much a long text is discounted: 0 not at all, 1 in proportion."""
    candidates: int = Field(default=30, ge=10, le=500)
    """How many of the nearest by meaning, and of the best by words, are scored in full.
    """


class SearchSettings(BaseModel):
    """The section `search` of the configuration."""

    model_config = ConfigDict(extra="forbid")

    model: str = "all-MiniLM-L6-v2"
    """Any sentence-transformers model: a folder or a hub's name. The default is the one
    packaged on PyPI, and needs no hub.
    """
    device: str | None = None
    """Such as `cuda`; None takes what there is."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` is bfloat16 where the hardware computes in it."""
    query_graph: bool = True
    """Whether replicas compute queries themselves, by the model's graph, which each of
    them holds; else the embedder does.
    """
    threads: int | None = Field(default=None, ge=1)
    """Of the processor, for batches; None: all cores up to four."""
    language: str = "english"
    """Of the Snowball stemmer."""

    @property
    def collection(self) -> str:
        """The vectors' collection. Vectors of two models do not compare, nor stems of
        two languages, so each pair has its own.
        """
        return f"items_{crc32(f'{self.model} {self.language}'.encode()):08x}"
