"""The definitions of the sample workspace: what its users do, as Feast objects.

The user of an event is its `data.user_id`, else `data.user`, else its `subject`.
"""

from datetime import timedelta

from feast import (
    BatchFeatureView,
    Entity,
    FeatureService,
    Field,
    FileSource,
    PushSource,
    StreamFeatureView,
    ValueType,
)
from feast.aggregation import Aggregation
from feast.types import Float64, Int64, String

tenant = Entity(name="tenant", join_keys=["tenant_id"], value_type=ValueType.STRING)
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)


def events(name: str, types: str) -> FileSource:
    return FileSource(
        name=name,
        path=f"shoal://events/{types}",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )


def as_stream(source: FileSource) -> PushSource:
    return PushSource(name=f"{source.name}_stream", batch_source=source)


actions = "item.*,board.*,update.*,automation.*"
key = [Field(name="tenant_id", dtype=String), Field(name="user_id", dtype=String)]

user_boards = BatchFeatureView(
    name="user_boards",
    entities=[tenant, user],
    source=events("boards_created", "board.created"),
    ttl=timedelta(days=7),
    schema=[*key, Field(name="boards_30d", dtype=Int64, description="boards created in 30 days")],
    aggregations=[
        Aggregation(column="*", function="count", time_window=timedelta(days=30), name="boards_30d")
    ],
    online=True,
    offline=True,
)

user_automations = BatchFeatureView(
    name="user_automations",
    entities=[tenant, user],
    source=events("automations_created", "automation.created"),
    ttl=timedelta(days=7),
    schema=[
        *key,
        Field(name="automation_count", dtype=Int64, description="automations created in a year"),
    ],
    aggregations=[
        Aggregation(
            column="*", function="count", time_window=timedelta(days=365), name="automation_count"
        )
    ],
    online=True,
    offline=True,
)

user_sessions = BatchFeatureView(
    name="user_sessions",
    entities=[tenant, user],
    source=events("sessions_ended", "session.ended"),
    ttl=timedelta(days=7),
    schema=[
        *key,
        Field(
            name="avg_session_duration",
            dtype=Float64,
            description="mean length of a session in 30 days, in seconds",
        ),
    ],
    aggregations=[
        Aggregation(
            column="duration",
            function="mean",
            time_window=timedelta(days=30),
            name="avg_session_duration",
        )
    ],
    online=True,
    offline=True,
)

user_activity = StreamFeatureView(
    name="user_activity",
    entities=[tenant, user],
    source=as_stream(events("user_actions", actions)),
    timestamp_field="event_timestamp",
    schema=[
        *key,
        Field(name="actions_5min", dtype=Int64, description="actions in the last five minutes"),
        Field(name="actions", dtype=Int64, description="actions in the last day"),
        Field(name="last_action_type", dtype=String, description="type of the latest action"),
    ],
    aggregations=[
        Aggregation(
            column="*", function="count", time_window=timedelta(minutes=5), name="actions_5min"
        ),
        Aggregation(column="*", function="count", time_window=timedelta(days=1), name="actions"),
        Aggregation(column="type", function="last", name="last_action_type"),
    ],
    online=True,
    offline=True,
)

user_place = StreamFeatureView(
    name="user_place",
    entities=[tenant, user],
    source=as_stream(events("boards_used", "board.created,board.opened,item.*")),
    timestamp_field="event_timestamp",
    schema=[
        *key,
        Field(name="current_board", dtype=String, description="the board that the user is on"),
    ],
    aggregations=[Aggregation(column="board_id", function="last", name="current_board")],
    online=True,
    offline=True,
)

user_profile = FeatureService(
    name="user_profile",
    features=[user_boards, user_automations, user_sessions, user_activity, user_place],
)
