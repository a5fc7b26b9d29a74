"""What real collectors send, through the real Router."""

import gzip
import json
import math
import time

import cramjam
import httpx
import pytest
from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from shoal import Malformed
from shoal.router.snappy_body import inflated_size
from shoal_anomalies import otlp, prometheus
from shoal_anomalies.intake import MAX_POINTS
from shoal_anomalies.points import parse_point
from shoal_anomalies.readings import CounterReadings

PROTOBUF = {"content-type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def app(shoal_app):
    yield shoal_app("anomalies")


@pytest.fixture
def tenant(request):
    return "t" + str(abs(hash(request.node.name)))[:12]


@pytest.fixture
def http(app, tenant):
    headers = {"authorization": f"Bearer {app.key(tenant)}"}
    with httpx.Client(base_url=f"{app.address}/anomalies", headers=headers) as client:
        yield client


def stored(app, tenant):
    """The points that were appended: (metric, labels, kind) → values."""
    context, found = app.context(tenant, "anomalies"), {}

    async def read():
        return [event async for _, event in context.stores.events.read()]

    for event in app.run(read()):
        data = event.data
        series = data["metric"], tuple(sorted(data["labels"].items())), data["kind"]
        found.setdefault(series, []).append(data["value"])
    return found


def write_request(*series, types=None):
    """A remote write's body: (labels, [(value, milliseconds)])."""
    message = prometheus.write_request()()
    for labels, samples in series:
        added = message.timeseries.add()
        for name, value in labels.items():
            added.labels.add(name=name, value=value)
        for value, at in samples:
            added.samples.add(value=value, timestamp=at)
    for name, kind in (types or {}).items():
        message.metadata.add(metric_family_name=name, type=kind)
    return message.SerializeToString()


def milliseconds(ago=0.0):
    return int((time.time() - ago) * 1000)


def test_telegraf_writes_gzip_and_hears_of_bad_lines(app, tenant, http):
    lines = b'cpu,host=a usage=1\nbroken\ncpu,host=b usage=2i,name="x"\ncpu usage=1e400\n'
    headers = {"content-encoding": "gzip", "content-type": "text/plain; charset=utf-8"}
    answer = http.post("/write?db=telegraf", content=gzip.compress(lines), headers=headers)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error.startswith("partial write: line 2: ") and error.endswith(" dropped=2")
    assert stored(app, tenant) == {
        ("cpu.usage", (("host", "a"),), "gauge"): [1.0],
        ("cpu.usage", (("host", "b"),), "gauge"): [2.0],
    }
    plain = http.post("/write", content=b"cpu usage=3", headers={"content-type": "text/plain"})
    assert plain.status_code == 204


def test_influxdb_1_clients_find_what_they_ask_at_start(http):
    ping = http.get("/ping")
    assert ping.status_code == 204 and ping.headers["x-influxdb-version"].startswith("1.")
    assert http.head("/ping").status_code == 204
    made = http.post("/query", params={"q": 'CREATE DATABASE "telegraf"'})
    assert made.json()["results"][0]["statement_id"] == 0
    form = http.post("/query", data={"q": "SHOW DATABASES"}).json()["results"][0]
    assert form["series"][0]["values"] == [["shoal"]]
    refused = http.get("/query", params={"q": "SELECT * FROM cpu"})
    assert refused.status_code == 400 and "GET /anomalies/series" in refused.json()["error"]


def test_influxdb_2s_own_client_writes_by_its_token(app, tenant):
    address, key = f"{app.address}/anomalies", app.key(tenant)
    with InfluxDBClient(url=address, token=key, org="o", enable_gzip=True) as client:
        write = client.write_api(write_options=SYNCHRONOUS)
        line = f"cpu,host=a usage=1 {int(time.time())}"
        write.write("bucket", record=[line], write_precision="s")
        with pytest.raises(ApiException) as failure:
            write.write("bucket", record=["cpu,host=b usage=2", "cpu"])
        assert failure.value.status == 400 and "partial write" in failure.value.message
    assert sorted(stored(app, tenant).values()) == [[1.0], [2.0]]


def test_prometheus_writes_snappy_and_hears_of_bad_samples(app, tenant, http):
    now, old = milliseconds(), milliseconds(ago=100 * 86_400)
    body = write_request(
        ({"__name__": "up", "job": "a"}, [(1.0, now), (math.nan, now)]),
        ({"__name__": "hits_total"}, [(7.0, now)]),
        ({"__name__": "size"}, [(3.0, now), (4.0, old)]),
        ({"__name__": "flow"}, [(5.0, now)]),
        types={"flow": 1},
    )
    headers = PROTOBUF | {"content-encoding": "snappy"}
    packed = bytes(cramjam.snappy.compress_raw(body))
    answer = http.post("/api/v1/write", content=packed, headers=headers)
    assert answer.status_code == 422 and "older than 90 days" in answer.text
    assert stored(app, tenant) == {
        ("up", (("job", "a"),), "gauge"): [1.0],
        ("hits_total", (), "counter"): [7.0],
        ("size", (), "gauge"): [3.0],
        ("flow", (), "counter"): [5.0],
    }
    v2 = PROTOBUF["content-type"] + ";proto=io.prometheus.write.v2.Request"
    newer = http.post("/api/v1/write", content=b"", headers={"content-type": v2})
    assert newer.status_code == 415


def test_a_snappy_bomb_is_refused_before_it_is_inflated(http):
    bomb = b"\xff\xff\xff\xff\x0f" + b"\x00a"
    headers = PROTOBUF | {"content-encoding": "snappy"}
    assert http.post("/api/v1/write", content=bomb, headers=headers).status_code == 413
    large = bytes(cramjam.snappy.compress_raw(bytes(prometheus.MAX_BYTES + 1)))
    assert http.post("/api/v1/write", content=large, headers=headers).status_code == 413
    for corrupt in (b"", b"\xff" * 9, b"\x05abc", large[:-2]):
        answer = http.post("/api/v1/write", content=corrupt, headers=headers)
        assert answer.status_code == 400, answer.text


def test_a_snappy_length_is_read_as_the_format_says():
    for size in (0, 1, 127, 128, 300, 2**21):
        assert inflated_size(bytes(cramjam.snappy.compress_raw(bytes(size)))) == size
    with pytest.raises(Malformed):
        inflated_size(b"\x80")


@pytest.mark.parametrize("compression", [Compression.Gzip, Compression.NoCompression])
@pytest.mark.parametrize(
    "temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA]
)
def test_opentelemetrys_own_exporter_sends_every_instrument(app, tenant, compression, temporality):
    exporter = OTLPMetricExporter(
        f"{app.address}/anomalies/v1/metrics",
        headers={"authorization": f"Bearer {app.key(tenant)}"},
        compression=compression,
        preferred_temporality={Counter: temporality, Histogram: temporality},
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
    resource = Resource({"service.name": "shop", "process.pid": 7})
    provider = MeterProvider([reader], resource=resource)
    meter = provider.get_meter("m")
    meter.create_counter("orders").add(5, {"paid": True})
    meter.create_up_down_counter("queue").add(-3)
    meter.create_histogram("seconds").record(0.25)
    meter.create_gauge("load").set(0.5)
    assert provider.force_flush()
    provider.shutdown()
    found, shop = stored(app, tenant), ("service.name", "shop")
    assert found["queue", (shop,), "gauge"][0] == -3.0
    assert found["load", (shop,), "gauge"][0] == 0.5
    paid = (("paid", "true"), shop)
    if temporality == AggregationTemporality.CUMULATIVE:
        assert found["orders", paid, "counter"][0] == 5.0
        assert found["seconds.count", (shop,), "counter"][0] == 1.0
        assert found["seconds.sum", (shop,), "counter"][0] == 0.25
    else:  # a rate per second, since some milliseconds ago
        assert found["orders", paid, "gauge"][0] > 5.0
        assert found["seconds.count", (shop,), "gauge"][0] > 1.0


def test_opentelemetrys_json_is_taken_and_bad_points_are_counted(app, tenant, http):
    now = str(time.time_ns())
    points = [{"timeUnixNano": now, "asDouble": 1.5}, {"timeUnixNano": "1", "asInt": "3"}]
    metric = {"name": "load", "gauge": {"dataPoints": points}}
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    answer = http.post("/v1/metrics", json=body)
    partial = answer.json()["partialSuccess"]
    assert partial["rejectedDataPoints"] == "1" and "older than 90 days" in partial["errorMessage"]
    assert stored(app, tenant) == {("load", (), "gauge"): [1.5]}
    for junk in (b"\xff\xff", b"[1", b'{"resourceMetrics": 7}', b"[" * 10_000):
        is_json = junk[:1] in b"[{"
        headers = {"content-type": "application/json"} if is_json else PROTOBUF
        assert http.post("/v1/metrics", content=junk, headers=headers).status_code == 400


def test_points_beyond_the_limit_are_refused():
    samples = [(1.0, milliseconds())] * 3
    body = write_request(({"__name__": "m"}, samples))
    assert len(prometheus.read_samples(body, 3).accepted) == 3
    with pytest.raises(Exception, match="more than 2 samples"):
        prometheus.read_samples(body, 2)
    assert MAX_POINTS * 10 < prometheus.MAX_BYTES == otlp.MAX_BYTES


def test_a_delta_without_its_start_is_rejected():
    point = {"timeUnixNano": str(time.time_ns()), "asInt": "3"}
    data = {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]}
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "sum": data}]}]}]}
    batch = otlp.read_metrics(json.dumps(body).encode(), 10, is_json=True)
    assert "the time it began at" in batch.rejected[0]


def test_opentelemetrys_start_time_is_a_counters_restart(app, tenant, http):
    now, second = time.time_ns(), 1_000_000_000

    def point(ago, value, start):
        times = {"timeUnixNano": now - ago * second, "startTimeUnixNano": now - start * second}
        return {"asDouble": value} | {name: str(when) for name, when in times.items()}

    data = [point(180, 100, 240), point(120, 160, 240), point(60, 300, 90), point(0, 360, 90)]
    total = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": data}
    metrics = [{"name": "orders", "sum": total}]
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}
    assert http.post("/v1/metrics", json=body).status_code == 200
    context, readings, rates = app.context(tenant, "anomalies"), CounterReadings(), []

    async def read():
        return [event async for _, event in context.stores.events.read()]

    for event in app.run(read()):
        point_read = parse_point({**event.data, "time": event.time})
        start = point_read.start.timestamp()
        rates += readings.add(point_read.time.timestamp(), point_read.value, start)
    assert [rate for _, rate in rates] == pytest.approx([1.0, 5.0, 1.0])
