"""What the operations answer, for OpenAPI. Times are RFC 3339 text."""

from typing import Annotated, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, with_config
from typing_extensions import TypedDict

from .alerts import State
from .maintenance import MaintenanceWindow
from .parameters import AnomalyParameters
from .rules import Priority, Rule

Method = Literal["statistical", "seasonal", "multivariate"]
Kind = Literal["gauge", "counter"]
Interval = tuple[str, str]
Secret = Literal["set"]
"""Stands for a secret, which is never shown."""


class Body(BaseModel):
    """An answer, which has no other fields."""

    model_config = ConfigDict(extra="forbid")


class SeriesInfo(Body):
    series: str
    metric: str
    labels: dict[str, str]
    kind: Kind


class SeriesList(Body):
    series: list[SeriesInfo]


class SeriesPoints(SeriesInfo):
    """Lists of equal length; a number that is unknown is null."""

    times: list[str]
    values: list[float | None]
    scores: list[float | None]
    expected: list[float | None]
    lower: list[float | None]
    upper: list[float | None]


class InfluxTable(Body):
    name: str
    columns: list[str]
    values: list[list[str]]


class InfluxResult(Body):
    statement_id: int
    series: list[InfluxTable] = []


class InfluxResults(Body):
    """What InfluxDB answers to a statement."""

    results: list[InfluxResult]


class Driver(Body):
    metric: str
    share: float
    z: float


class Explanation(Body):
    """Why a point is an anomaly, see `explanation.Explanation`."""

    metric: str
    value: float
    time: str
    score: float
    methods: list[Method]
    signals: dict[str, float]
    expected: float | None
    lower: float | None
    upper: float | None
    z: float | None
    one_in: float | None
    since: str | None
    with_it: list[str]
    drivers: list[Driver]
    sentence: str


class FeedbackRecord(Body):
    anomaly: bool
    note: str
    by: str | None
    time: str


class Anomaly(Explanation):
    id: str
    series: str
    labels: dict[str, str]
    feedback: FeedbackRecord | None


class Anomalies(Body):
    anomalies: list[Anomaly]
    cursor: str | None


class FeedbackGiven(Body):
    id: str
    feedback: FeedbackRecord


class MissedAnomaly(Body):
    id: str
    series: str
    start: str = Field(..., alias="from")
    end: str = Field(..., alias="to")
    note: str
    by: str | None
    time: str


class LabelledSeries(Body):
    """Points, and the times in which they were anomalous, and were not (`denied`)."""

    name: str
    times: list[str]
    values: list[float | None]
    windows: list[Interval]
    denied: list[Interval]


class Labels(Body):
    series: list[LabelledSeries]


class Suggested(Body):
    """Scores of the suggested and the current parameters, and what they come from."""

    parameters: AnomalyParameters | None
    score: float
    current: float
    windows: int
    denied: int
    time: str


class Suggestion(Body):
    suggestion: Suggested | None


class Member(Body):
    """A rule on a series that fired within an alert, see `alerts.Member`."""

    rule: str
    rule_name: str
    condition: str
    limit: float | None
    series: str
    metric: str
    labels: dict[str, str]
    priority: Priority
    since: str
    fired: str
    first_value: float | None
    time: str
    value: float | None
    others: dict[str, float]
    sentence: str
    detail: Explanation | None
    cleared: str | None
    acknowledged: bool
    told: list[str]


class Told(Body):
    """When a channel was told of an alert first and last, and how often."""

    first: str
    last: str
    notices: int
    resolved: bool


class Alert(Body):
    """An incident, see `alerts.Alert`. `notified` is when somebody was told first."""

    id: str
    state: State
    priority: Priority
    sentence: str
    opened: str
    updated: str
    resolved: str | None
    reopened: int
    acknowledged: str | None
    acknowledged_by: str | None
    suppressed_by: list[str]
    inhibited_by: str | None
    notified: str | None
    told: dict[str, Told]
    members: list[Member]


class Alerts(Body):
    alerts: list[Alert]
    cursor: str | None


class Delivery(Body):
    """An attempt to deliver a notice; a failed one is made again."""

    key: str
    channel: str
    time: str
    attempt: int
    outcome: Literal["sent", "failed", "given up"]
    detail: str


class Deliveries(Body):
    deliveries: list[Delivery]
    waiting: int


class Rules(Body):
    rules: dict[str, Rule]


class NamedRule(Rule):
    id: str


class StoredRule(NamedRule):
    """A rule, and the number of known series that it covers."""

    matches: int


class Window(MaintenanceWindow):
    active: bool


class Windows(Body):
    maintenance: dict[str, Window]


class StoredWindow(Window):
    id: str


@with_config(ConfigDict(extra="forbid"))
class _Shown(TypedDict):
    id: NotRequired[str]
    enabled: bool


@with_config(ConfigDict(extra="forbid"))
class ShownWebhook(_Shown):
    """Of its URL only the host is shown."""

    type: Literal["webhook"]
    url: str
    secret: NotRequired[Secret]


@with_config(ConfigDict(extra="forbid"))
class ShownSlack(_Shown):
    type: Literal["slack"]
    token: Secret


@with_config(ConfigDict(extra="forbid"))
class ShownTeams(_Shown):
    type: Literal["teams"]
    host: str
    workflow: str
    signature: Secret


@with_config(ConfigDict(extra="forbid"))
class ShownEmail(_Shown):
    type: Literal["email"]
    to: list[str]


@with_config(ConfigDict(extra="forbid"))
class ShownPagerDuty(_Shown):
    type: Literal["pagerduty"]
    routing_key: Secret
    region: Literal["us", "eu"]


@with_config(ConfigDict(extra="forbid"))
class ShownOpsgenie(_Shown):
    type: Literal["opsgenie"]
    api_key: Secret
    region: Literal["us", "eu"]


@with_config(ConfigDict(extra="forbid"))
class ShownTelegram(_Shown):
    type: Literal["telegram"]
    bot_token: Secret
    chat_id: str


@with_config(ConfigDict(extra="forbid"))
class ShownDiscord(_Shown):
    type: Literal["discord"]
    webhook_id: str
    token: Secret


AnyChannel = (
    ShownWebhook
    | ShownSlack
    | ShownTeams
    | ShownEmail
    | ShownPagerDuty
    | ShownOpsgenie
    | ShownTelegram
    | ShownDiscord
)


class ShownChannel(RootModel[Annotated[AnyChannel, Discriminator("type")]]):
    """A channel without its secrets, of which it says that they are set.

    A list has the channels by their ids.
    """


class Channels(Body):
    channels: dict[str, ShownChannel]
