"""Parameters, which experiments vary, and settings, which operators set."""

from typing import Annotated, Literal
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field

from shoal import Invalid, Parameters


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
    candidates: int = Field(default=100, ge=10, le=500)
    """How many of the nearest by meaning, and of the best by words, are scored."""


class ModelSettings(BaseModel):
    """A model under a name of its own, or at an endpoint."""

    model_config = ConfigDict(extra="forbid")

    model: str
    """A folder or a hub's name, or what the endpoint calls it."""
    endpoint: Annotated[str, Field(pattern="^https?://")] | None = None
    """An endpoint that speaks OpenAI's protocol: its address without `/embeddings`."""
    key: str | None = None
    """The name of the environment variable that has the endpoint's key."""
    dimensions: int | None = Field(default=None, ge=1, le=16_000)
    """The length of the vectors to ask for, where the endpoint offers several."""
    max_bytes: int = Field(default=8_000, ge=100, le=100_000)
    """UTF-8 bytes of a text that the model reads for certain."""
    passage_characters: int = Field(default=400, ge=100, le=20_000)
    """Characters of a passage."""
    batch: int = Field(default=128, ge=1, le=2_048)
    """Texts in one request."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """How many requests each process sends at most; None is no limit."""
    timeout: float = Field(default=20.0, gt=0, le=600)
    """Seconds of one request."""

    @property
    def version(self) -> str:
        """Differs where vectors do."""
        named = ("endpoint", "model", "dimensions", "max_bytes", "passage_characters")
        return self.model_dump_json(include=set(named))


class SearchSettings(BaseModel):
    """The section `[capabilities.search]` of the configuration."""

    model_config = ConfigDict(extra="forbid")

    model: str = "all-MiniLM-L6-v2"
    """One of `models`, or a sentence-transformers model: a folder or a hub's name. One
    is packaged."""
    models: dict[str, ModelSettings] = Field(default_factory=dict, max_length=16)
    """More models by name, for `model` and for reindexing with another one."""
    reranker: str | None = None
    """A cross-encoder of sentence-transformers, a folder or a hub's name, that orders
    the first 50 hits; None leaves them in the order of their scores."""
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
    def names(self) -> list[str]:
        """The names of the configured models."""
        return sorted({self.model, *self.models})

    def using(self, model: str) -> "SearchSettings":
        """The same settings with another model.

        Raises:
            Invalid: The operator has not configured it.
        """
        if model not in self.names:
            raise Invalid.at(
                "arguments.model",
                f"no model {model!r} in capabilities.search.models; configured are "
                + ", ".join(self.names),
            )
        return self.model_copy(update={"model": model})

    @property
    def collection(self) -> str:
        """The vector collection: one for each version of a model and language."""
        named = self.models.get(self.model)
        model = f"{self.model} {named.version}" if named else self.model
        return f"items_{crc32(f'{model} {self.language}'.encode()):08x}"
