"""The base of all bodies of requests and responses."""

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A JSON object without other fields than these.

    In a response, fields that have a default may be absent.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Deleted(Body):
    deleted: str
    """The id of what was deleted."""
