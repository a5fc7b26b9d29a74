"""Parameters, which experiments vary, and settings, which operators set."""

from typing import Literal
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field

from shoal import Parameters


class SearchParameters(Parameters):
    """How the parts of a score are computed and weighed, all at query time."""

    semantic_weight: float = Field(default=0.7, ge=0, le=1)
    keyword_weight: float = Field(default=0.2, ge=0, le=1)
    recency_weight: float = Field(default=0.1, ge=0, le=1)
    half_life_days: float = Field(default=30.0, ge=1, le=3650)
    """The age at which an item's recency is one half."""
    bm25_k1: float = Field(default=0.9, ge=0, le=3)
    """BM25's term-frequency saturation."""
    bm25_b: float = Field(default=0.4, ge=0, le=1)
    """BM25's length normalization: 0 is none, 1 is full."""
    candidates: int = Field(default=30, ge=10, le=500)
    """How many of the nearest by meaning, and of the best by words, are scored."""


class SearchSettings(BaseModel):
    """The section `[capabilities.search]` of the configuration."""

    model_config = ConfigDict(extra="forbid")

    model: str = "all-MiniLM-L6-v2"
    """A sentence-transformers model: a folder or a hub's name. One is packaged."""
    device: str | None = None
    """Such as `cuda`; None chooses what is available."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` is bfloat16 where the hardware computes in it."""
    query_graph: bool = True
    """Whether replicas encode queries themselves with an exported model."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads for batches; None is all cores, at most four."""
    language: str = "english"
    """A language of the Snowball stemmer."""

    @property
    def collection(self) -> str:
        """The vector collection: one for each pair of model and language."""
        return f"items_{crc32(f'{self.model} {self.language}'.encode()):08x}"
