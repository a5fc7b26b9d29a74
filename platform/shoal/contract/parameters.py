"""Parameters: declared once as a pydantic model; experiments vary them, studies search
them, tenants keep winners.
"""

from pydantic import BaseModel, ConfigDict


class Parameters(BaseModel):
    """Base of a capability's parameters. Every field needs a default: the defaults are
    what runs.

    Bounds (`ge`, `le`, `Literal`) are what an experiment's overrides are checked
    against, what a study searches, and what the console draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
