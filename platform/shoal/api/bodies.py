"""The base of all request bodies."""

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A JSON object; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")
