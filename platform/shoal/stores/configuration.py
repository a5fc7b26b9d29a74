"""Where the stores are."""

import os
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMES = {
    "online": ("redis://", "rediss://", "unix://", "redis+cluster://", "rediss+cluster://"),
    "vectors": ("http://", "https://", "tcp://", "s3://", "/"),
    "events": ("redis://", "rediss://", "unix://", "redis+cluster://", "rediss+cluster://"),
}
UNSUITABLE = frozenset("%[]\\\0")
"""Characters that Delta Lake does not take in the name of a folder."""


class StoreConfig(BaseModel):
    """URIs of the four stores; it can be pickled, and its repr shows no secret.

    `online` and `events` are Redis (`redis://:password@host:port/0`, `rediss://…` with
    TLS, `redis+cluster://…`); `events` is `online` where it is not given. What is
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
        for name, schemes in SCHEMES.items():
            if not getattr(self, name).startswith(schemes):
                raise ValueError(
                    f"{name}: expected a URI that begins with one of {', '.join(schemes)}"
                )
        return self
