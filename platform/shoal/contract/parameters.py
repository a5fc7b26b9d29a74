"""The parameters of a capability.

Experiments vary them, studies search for better values, and tenants promote values.
"""

from pydantic import BaseModel, ConfigDict


class Parameters(BaseModel):
    """The base class of a capability's parameters.

    Every field needs a default, which applies unless a tenant or an experiment
    overrides it. Bounds (`ge`, `le`, `Literal`) restrict these overrides and the values
    that a study tries, and the console displays them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
