"""Where the stores are."""

import os
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .redis_address import parse_address

VECTORS = ("http://", "https://", "tcp://", "s3://", "/")
UNSUITABLE = frozenset("%[]\\\0")
"""Characters that Delta Lake does not take in the name of a folder."""


class StoreConfig(BaseModel):
    """URIs of the four stores; it can be pickled, and its repr shows no secret.

    `online` and `events` are Redis: see `redis_address` for the URIs of a server, a
    Redis Cluster and Sentinels; `events` is `online` where it is not given. What is
    appended to `events` is as durable as that server's `appendfsync` makes it: use
    `always`. `vectors` is Milvus (`http://host:19530`) with `token`, or, as
    `lake`, a folder or `s3://bucket/prefix?endpoint_override=…&region=…`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    online: str = Field(repr=False)
    vectors: str = Field(min_length=1, repr=False)
    lake: str = Field(min_length=1)
    events: str = Field("", repr=False)
    token: str = Field("", repr=False)
    """Milvus's token (`user:password`, or an API key)."""
    replicas: int = Field(0, ge=0, le=10)
    """Replicas of the events' Redis that must have an event before it is accepted.

    With 0 a failover may lose what was accepted in its last moments. A master needs
    more replicas than this, or it accepts nothing while one of them is unavailable.
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.events:
            object.__setattr__(self, "events", self.online)
        if "://" not in self.vectors:
            object.__setattr__(self, "vectors", os.path.abspath(self.vectors))
        if bad := UNSUITABLE & set(self.lake):
            raise ValueError(f"lake: {min(bad)!r} cannot be part of the name")
        if "://" not in self.lake:
            object.__setattr__(
                self, "lake", os.path.abspath(self.lake)
            )  # it travels to workers elsewhere
        elif not (uri := urlsplit(self.lake)).hostname or uri.scheme != "s3" or uri.username:
            raise ValueError(
                "lake: expected a folder, or s3://bucket/prefix without credentials,"
                " which belong in the environment"
            )
        for name in ("online", "events"):
            try:
                parse_address(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if not self.vectors.startswith(VECTORS):
            raise ValueError(
                f"vectors: expected a URI that begins with one of {', '.join(VECTORS)}"
            )
        return self
