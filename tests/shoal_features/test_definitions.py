import inspect
import re
from pathlib import Path
from textwrap import dedent

import pytest

from shoal_features.definitions import compile_objects, load_definitions
from shoal_features.errors import RegistryError, UnknownFeature
from shoal_features.registry import Registry
from shoal_features.unsupported import DONE, FOR_PEOPLE
from shoal_features.views import Feature, View

from .shared import REGISTRY

pytest.importorskip("feast")
pytestmark = pytest.mark.filterwarnings("ignore")

HEAD = """
from datetime import timedelta
from feast import (
    BatchFeatureView, Entity, FeatureService, FeatureView, Field, FileSource, PushSource,
    StreamFeatureView, ValueType,
)
from feast.aggregation import Aggregation
from feast.types import Float64, Int32, Int64, String
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
source = FileSource(
    name="s", path="shoal://events/a.b, c.*", timestamp_field="event_timestamp"
)
def batch(
    name="v", features=(("n", Int64),), aggregations=(("*", "count", 30, "n"),),
    entities=(user,), source=source, **options,
):
    return BatchFeatureView(
        name=name, entities=list(entities), source=source,
        schema=[Field(name=n, dtype=t) for n, t in features],
        aggregations=[
            Aggregation(column=c, function=f, time_window=d and timedelta(days=d), name=n)
            for c, f, d, n in aggregations
        ],
        online=True,
        **options,
    )
"""
LINE = HEAD.count("\n") + 1


@pytest.fixture
def file(tmp_path):
    def write(body: str):
        path = tmp_path / "definitions.py"
        path.write_text(HEAD + dedent(body))
        return path

    return write


def load_errors(path) -> dict[str, str]:
    with pytest.raises(RegistryError) as caught:
        load_definitions(path)
    return {e["location"]: e["message"] for e in caught.value.errors}


def test_the_shipped_registry_is_the_shipped_definitions_compiled(workspace):
    assert load_definitions(workspace) == REGISTRY


def test_the_shared_definitions_have_the_documented_features(workspace):
    names = {f.name for _, f in load_definitions(workspace).resolve("user", ["user_profile"])}
    assert names >= {
        "boards_30d",
        "automation_count",
        "avg_session_duration",
        "actions_5min",
        "current_board",
        "last_action_type",
    }


def test_a_view_is_compiled_with_all_its_options(file):
    view = load_definitions(
        file("v = batch(ttl=timedelta(days=2), description='d', owner='o', tags={'k': 'v'})")
    ).view("v")
    assert view == View(
        "v",
        "user",
        "user_id",
        "batch",
        (Feature("n", "int64", "count", "", 30 * 86_400),),
        2 * 86_400,
        ("a.b", "c.*"),
        ("data.user_id", "data.user", "subject"),
        "d",
        "o",
        {"k": "v"},
    )


def test_a_field_mapping_locates_the_entity(file):
    body = """
    mapped = FileSource(
        name="m", path="shoal://events/a", timestamp_field="event_timestamp",
        field_mapping={"data.actor.id": "user_id"},
    )
    v = batch(source=mapped)
    """
    assert load_definitions(file(body)).view("v").fields[0] == "data.actor.id"


def test_the_tenant_is_not_compiled_as_an_entity(file):
    body = """
    tenant = Entity(name="tenant", join_keys=["tenant_id"], value_type=ValueType.STRING)
    v = batch(entities=(tenant, user))
    """
    assert load_definitions(file(body)).view("v").entity == "user"


def test_a_repeated_feature_name_is_refused(file):
    assert (
        "already has a feature of this name in v"
        in load_errors(file("v = batch()\nw = batch(name='w')"))["views.w.n"]
    )


def test_a_repeated_view_name_is_refused(file):
    assert load_errors(file("v = batch()\nw = batch()"))["views.v"] == "two views have this name"


def test_a_view_made_from_itself_is_refused_with_the_loop(file):
    body = """
    a = batch(name="a")
    b = BatchFeatureView(
        name="b", entities=[user], source=[a], schema=[Field(name="m", dtype=Int64)],
        sink_source=source, mode="python", udf=len, udf_string="len",
    )
    a.source_views = [b]
    """
    assert load_errors(file(body))["views.a"] == "it is made from itself: a → b → a"


@pytest.mark.parametrize(
    ("body", "location", "message"),
    [
        (
            "v = batch(aggregations=(('x', 'median', 30, 'n'),))",
            "views.v.n",
            "'median' is not one of count",
        ),
        (
            "v = batch(aggregations=(('x', 'sum', None, 'n'),))",
            "views.v.n",
            "it needs a time window",
        ),
        (
            "v = batch(aggregations=(('x', 'sum', 400, 'n'),))",
            "views.v.n",
            "not between a minute and a year",
        ),
        (
            "v = batch(aggregations=(('x', 'mean', 30, 'n'),))",
            "views.v.n",
            "mean gives one of float32, float64, not int64",
        ),
        ("v = batch(aggregations=(('', 'sum', 30, 'n'),))", "views.v.n", "sum needs a column"),
        (
            "v = batch(features=(('n', String),))",
            "views.v.n",
            "count gives one of int32, int64, not string",
        ),
        (
            "v = batch(features=(('n', Int64), ('m', Int64)))",
            "views.v.m",
            "the Field has no Aggregation of its name",
        ),
        (
            "v = batch(aggregations=(('*', 'count', 30, 'n'), ('*', 'count', 7, 'm')))",
            "views.v.m",
            "no Field of its name",
        ),
        (
            "v = batch(entities=(user, Entity(name='x', join_keys=['x'])))",
            "views.v",
            "one entity besides the tenant",
        ),
        (
            "v = batch(source=FileSource(name='f', path='x.parquet', timestamp_field='t'))",
            "views.v",
            "begins with shoal://events/",
        ),
        ("1 / 0", f"definitions.py:{LINE}", "ZeroDivisionError"),
        ("def", f"definitions.py:{LINE}", "SyntaxError"),
    ],
)
def test_an_error_has_its_location(file, body, location, message):
    assert message in load_errors(file(body))[location]


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RegistryError, match="cannot be read"):
        load_definitions(tmp_path / "none.py")


def test_all_errors_are_reported_at_once(file):
    body = """
    v = batch(aggregations=(('x', 'median', 30, 'n'),))
    w = batch(name='w', features=(('n', Int32),))
    """
    assert set(load_errors(file(body))) == {"views.v.n", "views.w.n"}


def test_a_changed_type_is_an_error_unlike_a_new_feature():
    old = Registry((View("v", "user", "user_id", "plain", (Feature("a", "int64"),)),))
    added = Registry(
        (View("v", "user", "user_id", "plain", (Feature("a", "int64"), Feature("b", "string"))),)
    )
    changed = Registry((View("w", "user", "user_id", "plain", (Feature("a", "string"),)),))
    moved = Registry((View("v", "item", "item_id", "plain", (Feature("a", "int64"),)),))
    assert added.replacement_errors(old) == []
    assert [e["location"] for e in changed.replacement_errors(old)] == ["views.w.a"]
    assert [e["location"] for e in moved.replacement_errors(old)] == ["views.v"]


def test_an_unknown_feature_suggests_the_nearest():
    registry = REGISTRY
    with pytest.raises(UnknownFeature) as caught:
        registry.resolve("user", ["boards_30", "actions", "user_boards:actions"])
    assert caught.value.nearest["boards_30"] == ["boards_30d"]
    assert set(caught.value.nearest) == {"boards_30", "user_boards:actions"}


def test_compiling_nothing_is_an_empty_registry():
    assert compile_objects([]) == Registry()


@pytest.mark.parametrize("milliseconds", [400, 1_500])
def test_times_of_part_of_a_second_are_refused(file, milliseconds):
    time = f"timedelta(milliseconds={milliseconds})"
    errors = load_errors(
        file(
            f"""
            a = batch("a", ttl={time})
            b = BatchFeatureView(
                name="b", entities=[user], source=source, online=True,
                schema=[Field(name="n", dtype=Int64)],
                aggregations=[
                    Aggregation(column="*", function="count", time_window={time}, name="n")
                ],
            )
            """
        )
    )
    assert set(errors) == {"views.a", "views.b.n"}
    assert all("whole seconds" in message for message in errors.values())


SET = {
    "FeatureView": {
        "online": "False",
        "mode": "'pandas'",
        "enable_validation": "True",
        "version": "'v2'",
        "enabled": "False",
    },
    "BatchFeatureView": {
        "online": "False",
        "batch_engine": "{'a': 1}",
        "enable_validation": "True",
        "version": "'v2'",
    },
    "StreamFeatureView": {
        "online": "False",
        "timestamp_field": "'paid_at'",
        "stream_engine": "{'a': 1}",
        "enable_tiling": "True",
        "tiling_hop_size": "timedelta(minutes=1)",
        "enable_validation": "True",
        "version": "'v2'",
    },
    "Field": {
        "vector_index": "True",
        "vector_length": "3",
        "vector_search_metric": "'L2'",
    },
    "Aggregation": {"slide_interval": "timedelta(hours=1)"},
    "FileSource": {
        "timestamp_field": "'paid_at'",
        "file_format": "feast.data_format.ParquetFormat()",
        "s3_endpoint_override": "'x'",
        "connection_ref": "feast.credentials.ConnectionRef('Secret', 'x')",
    },
    "FeatureService": {"precompute_online": "True", "logging_config": "logging_config"},
}
"""By class, an option at a value that Shoal does not do."""
IGNORED = {
    "FileSource": {"event_timestamp_column"},  # by Feast
    "FeatureView": {"sink_source"},
    "BatchFeatureView": {"sink_source"},
    "StreamFeatureView": {"sink_source"},
}


def test_every_option_of_feast_is_done_or_tried():
    import feast
    from feast.aggregation import Aggregation

    for name, tried in SET.items():
        kind = Aggregation if name == "Aggregation" else getattr(feast, name)
        rest = set(inspect.signature(kind).parameters) - DONE[name] - FOR_PEOPLE
        assert rest - IGNORED.get(name, set()) == set(tried) - DONE[name]


@pytest.mark.parametrize(
    ("kind", "option"), [(kind, option) for kind, options in SET.items() for option in options]
)
def test_what_is_not_done_is_refused_by_name(file, kind, option):
    more = {k: f"{option}={SET[k][option]}," if k == kind else "" for k in SET}
    view = kind if kind.endswith("View") else "BatchFeatureView"
    special = {
        "FeatureView": "",
        "BatchFeatureView": "aggregations=[count],",
        "StreamFeatureView": "aggregations=[count],",
    }[view]
    if view == "StreamFeatureView" and option != "timestamp_field":
        special += "timestamp_field='event_timestamp',"
    online = "" if option == "online" else "online=True,"
    time = "" if (kind, option) == ("FileSource", "timestamp_field") else "timestamp_field='time',"
    body = f"""
    import feast.credentials, feast.data_format
    from feast.feature_logging import LoggingConfig
    from feast.infra.offline_stores.file_source import FileLoggingDestination
    logging_config = LoggingConfig(destination=FileLoggingDestination(path="x"))
    source = FileSource(name="s", path="shoal://events/a", {time} {more["FileSource"]})
    if "{view}" == "StreamFeatureView":
        source = PushSource(name="p", batch_source=source)
    count = Aggregation(
        column="*", function="count", time_window=timedelta(days=1), name="n", {more["Aggregation"]}
    )
    v = {view}(
        name="v", entities=[user], source=source, {special} {online} {more[view]}
        schema=[Field(name="n", dtype=Int64, {more["Field"]})],
    )
    s = FeatureService(name="s", features=[v], {more["FeatureService"]})
    """
    errors = load_errors(file(body))
    assert any(option in message for message in errors.values()), errors
    assert set(errors) <= {"views.v", "views.v.n", "services.s"}


def test_sources_that_are_not_read_are_refused(file):
    body = """
    from feast import KafkaSource, BigQuerySource, RequestSource
    from feast.data_format import JsonFormat
    from feast.on_demand_feature_view import on_demand_feature_view
    kafka = KafkaSource(
        name="k", batch_source=source, timestamp_field="event_timestamp",
        kafka_bootstrap_servers="k:9092", topic="t", message_format=JsonFormat("a int"),
    )
    schema = [Field(name="n", dtype=Int64)]
    count = Aggregation(column="*", function="count", time_window=timedelta(days=1), name="n")
    k = StreamFeatureView(
        name="k", entities=[user], source=kafka, schema=schema, aggregations=[count],
        timestamp_field="event_timestamp",
    )
    q = FeatureView(
        name="q", entities=[user], schema=schema, source=BigQuerySource(table="t", name="b")
    )
    o = on_demand_feature_view(
        sources=[RequestSource(name="r", schema=schema)],
        schema=[Field(name="m", dtype=Int64)], mode="python",
    )(lambda inputs: {"m": inputs["n"]})
    """
    errors = load_errors(file(body))
    assert "KafkaSource is not read" in errors["views.k"]
    assert "BigQuerySource is not read" in errors["views.q"]
    assert any("OnDemandFeatureView" in message for message in errors.values())


def test_a_service_does_not_rename_its_views(file):
    body = """
    v = batch()
    s = FeatureService(name="s", features=[v.with_name("w")])
    """
    assert "name_alias" in load_errors(file(body))["services.s"]


def test_a_field_mapping_locates_a_value(file):
    body = """
    mapped = FileSource(
        name="m", path="shoal://events/a", timestamp_field="event_timestamp",
        field_mapping={"data.total.cents": "amount"},
    )
    v = batch(source=mapped, aggregations=(("amount", "sum", 30, "n"),))
    """
    assert load_definitions(file(body)).view("v").features[0].column == "data.total.cents"


def test_a_field_mapping_gives_a_value_one_field(file):
    body = """
    mapped = FileSource(
        name="m", path="shoal://events/a", timestamp_field="event_timestamp",
        field_mapping={"a": "amount", "b": "amount"},
    )
    v = batch(source=mapped, aggregations=(("amount", "sum", 30, "n"),))
    """
    assert "several fields" in load_errors(file(body))["views.v.n"]


def test_only_users_are_named_by_the_subject(file):
    body = """
    board = Entity(name="board", join_keys=["board_id"], value_type=ValueType.STRING)
    mapped = FileSource(
        name="m", path="shoal://events/a", timestamp_field="time",
        field_mapping={"subject": "board_id"},
    )
    u = batch()
    b = batch(name="b", entities=(board,))
    m = batch(name="m", entities=(board,), source=mapped, aggregations=(("*", "count", 30, "m"),),
              features=(("m", Int64),))
    """
    registry = load_definitions(file(body))
    assert registry.view("v").fields[-1] == "subject"
    assert registry.view("b").fields == ("data.board_id", "data.board")
    assert registry.view("m").fields[0] == "subject"


def test_the_documentations_views_can_be_registered(tmp_path):
    page = Path(__file__).parents[2] / "docs" / "features.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    file = tmp_path / "features.py"
    file.write_text("\n".join(block for block in blocks if "from feast" in block))
    views = {view.name: view for view in load_definitions(file).views}
    assert {n: v.kind for n, v in views.items()} == {"user_spend": "batch", "spend_1h": "stream"}
    assert all(view.types == ("invoice.paid",) for view in views.values())


WRONG = {
    "column of every field": {"features": ({"column": "*"},)},
    "column of all below": {"features": ({"column": "x.*"},)},
    "column of a backslash": {"features": ({"column": "\\"},)},
    "empty part at the end": {"features": ({"column": "a."},)},
    "empty part at the start": {"features": ({"column": ".a"},)},
    "empty part": {"features": ({"column": "a..b"},)},
    "no fields": {"fields": ()},
    "wildcard field": {"fields": ("data.*",)},
    "feature named as its entity": {"features": ({"name": "user"},)},
    "quote in the join key": {"join_key": 'a" b'},
    "empty join key": {"join_key": ""},
    "reserved join key": {"join_key": "event_timestamp"},
    "no type": {"types": ("",)},
    "blank in a type": {"types": (" h.x",)},
    "wildcard at the start": {"types": ("*.x",)},
    "several types in one": {"types": ("h.x,h.y",)},
    "unknown field": {"TTL": 5},
    "true as a TTL": {"ttl": True},
    "text as a window": {"features": ({"window": "60"},)},
    "unknown field of a feature": {"features": ({"windw": 60},)},
}


def registry_with(changes: dict) -> dict:
    """A registry as JSON, with changes to its one view and that view's feature."""
    feature = {"name": "n", "dtype": "int64", "function": "count", "column": "x", "window": 86_400}
    feature |= changes.get("features", ({},))[0]
    view = {"name": "v", "entity": "user", "join_key": "user_id", "kind": "stream"}
    view |= {"types": ["a.b"], "fields": ["data.user_id"]}
    return {"views": [{**view, **changes, "features": [feature]}]}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_what_could_not_be_computed_is_refused(changes):
    assert not Registry.from_dict(registry_with({})).replacement_errors(Registry())
    with pytest.raises(RegistryError):
        errors = Registry.from_dict(registry_with(changes)).replacement_errors(Registry())
        raise RegistryError(errors) if errors else AssertionError("accepted")


@pytest.mark.parametrize("services", [{"s": []}, {"": ["v:n"]}, {"a,b": ["v:n"]}])
def test_services_without_a_name_or_features_are_refused(services):
    registry = Registry.from_dict({**registry_with({}), "services": services})
    assert registry.replacement_errors(Registry())


def test_an_entity_has_one_join_key():
    [one] = registry_with({})["views"]
    features = [{**one["features"][0], "name": "m"}]
    other = {**one, "name": "w", "join_key": "id", "features": features}
    assert Registry.from_dict({"views": [one, other]}).replacement_errors(Registry())
