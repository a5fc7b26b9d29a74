"""The bodies of responses, as the OpenAPI document describes them."""

from typing import Literal, NotRequired

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from .views import View

Scalar = str | bool | int | float | None
FeatureValue = Scalar | list[Scalar]
"""Of the feature's type; times in RFC 3339, bytes in base64."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


@with_config(ConfigDict(extra="forbid"))
class ValueMetadata(TypedDict):
    """What is known of a value; the times only where there is one."""

    type: str
    status: Literal["present", "missing", "expired"]
    event_timestamp: NotRequired[AwareDatetime]
    created: NotRequired[AwareDatetime]
    age_seconds: NotRequired[float]


@with_config(ConfigDict(extra="allow"))
class EntityFeatures(TypedDict):
    """The features of an entity, by name; `metadata` only on request.

    One more field is the entity's id, under the join key of its type: `"user_id": "7"`.
    """

    features: dict[str, FeatureValue]
    metadata: NotRequired[dict[str, ValueMetadata]]


class BatchFeatures(_Body):
    entity: str
    results: list[EntityFeatures]


class HistoricalRows(_Body):
    rows: list[dict[str, FeatureValue]] = Field(
        description="The entity rows in their order, each with the features by name."
    )


class RegisteredDefinitions(_Body, json_schema_serialization_defaults_required=True):
    tenant: str
    views: list[View]
    services: dict[str, list[str]] = Field(description="The features of each service.")


Setting = str | int | None | list[str] | dict[str, str]


class ChangedDefinition(_Body):
    """One field of a view, feature or service that stays."""

    name: str = Field(description="`view NAME`, `view:feature` or `service NAME`.")
    field: str
    old: Setting
    new: Setting


class AppliedDefinitions(_Body):
    views: list[str]
    services: list[str]
    new: list[str] = Field(description="Features, as `view:feature`, and `service NAME`.")
    removed: list[str] = Field(description="As `new`.")
    changed: list[ChangedDefinition]


class FeatureProfile(_Body):
    """Of the feature's values when last measured."""

    null_share: float
    psi: float | None = Field(description="The drift against a week before.")


@with_config(ConfigDict(extra="forbid"))
class ViewFreshness(TypedDict):
    """The last three only of a stream view. What is unknown is null."""

    view: str
    kind: str
    newest: AwareDatetime | None
    age_seconds: float | None
    computed: AwareDatetime | None
    features: dict[str, FeatureProfile]
    lag_seconds: NotRequired[float | None]
    too_late: NotRequired[int]
    ahead_of_time: NotRequired[int]


class Freshness(_Body):
    views: list[ViewFreshness]


class AcceptedRows(_Body):
    accepted: int


class DatasetSize(_Body):
    rows: int
    answered: int = Field(description="Rows of the result.")
    parts: int = Field(description="Parts of the result.")


class RemovedFiles(_Body):
    files: int
