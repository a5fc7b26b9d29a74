"""The deployment files agree with the code."""

import ast
import gzip
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from ray.serve.schema import ServeDeploySchema

from shoal.runtime.configuration import Config
from shoal.runtime.deployed_settings import find_secrets
from shoal.runtime.environment import cluster_environment
from shoal.runtime.serve_config import declarative_config
from shoal.testing.servers import RedisServer

ROOT = Path(__file__).parents[1]
RAY = Path(ray.__file__).parent
RAY_SERVICE = Path(__file__).parent / "deploy_schemas/rayservice-v1.5.1.json.gz"
CAPABILITIES = ["anomalies", "experiments", "features", "optimizer", "search"]


@pytest.fixture
def expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment that a cluster open to other machines needs."""
    for name in list(os.environ):
        if name.startswith("SHOAL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    config = Config(address="auto", host="0.0.0.0", proxy="haproxy")
    found = cluster_environment(config, tmp_path / "runtime.json")
    assert json.loads(found.pop("SHOAL_SETTINGS")) == {"host": "0.0.0.0", "proxy": "haproxy"}
    return found


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    """The Kubernetes objects, by kind."""
    text = (ROOT / "deploy/kuberay/rayservice.yaml").read_text()
    return {d["kind"]: d for d in yaml.safe_load_all(text)}


def pods(documents: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    cluster = documents["RayService"]["spec"]["rayClusterConfig"]
    return [g["template"]["spec"] for g in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


# Kubernetes


def test_the_applications_are_what_shoal_config_prints(
    documents: dict[str, dict[str, Any]], expected: dict[str, str]
) -> None:
    service = documents["RayService"]
    assert service["apiVersion"] == "ray.io/v1"
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == declarative_config(
        Config(), CAPABILITIES, host="0.0.0.0"
    )


def test_the_capabilities_are_those_that_ship() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(project["entry-points"]["shoal"]) == CAPABILITIES


def test_serve_accepts_the_applications(documents: dict[str, dict[str, Any]]) -> None:
    schema = ServeDeploySchema.model_validate(
        yaml.safe_load(documents["RayService"]["spec"]["serveConfigV2"])
    )
    assert [a.name for a in schema.applications] == ["platform", *CAPABILITIES, "console"]
    known = {a.route_prefix for a in schema.applications}
    assert known == {"/", "/platform", *(f"/{c}" for c in CAPABILITIES)}


def test_every_pod_has_the_environment_that_serve_needs(
    documents: dict[str, dict[str, Any]], expected: dict[str, str]
) -> None:
    for pod in pods(documents):
        (container,) = pod["containers"]
        found = {e["name"]: e["value"] for e in container["env"]}
        assert found.pop("RAY_SERVE_HAPROXY_BINARY_PATH") == "/usr/local/bin/haproxy"
        assert found == expected


def test_every_object_passes_its_published_schema(
    documents: dict[str, dict[str, Any]],
) -> None:
    """Kubernetes' own, strictly; KubeRay 1.5.1's from its repository (Apache-2.0),
    without the descriptions.
    """
    schema = json.loads(gzip.decompress(RAY_SERVICE.read_bytes()))
    unknown = list(unknown_fields(documents["RayService"], schema))
    assert not unknown
    jsonschema.validate(documents["RayService"], schema)
    others = documents.keys() - {"RayService"}
    assert others == {"ConfigMap", "NetworkPolicy", "PodDisruptionBudget"}
    for kind in others:
        kubernetes_validate.validate(documents[kind], "1.33", strict=True)


def unknown_fields(value: Any, schema: dict[str, Any], at: str = "") -> Iterator[str]:
    """What a schema of Kubernetes would drop: fields that it does not have."""
    if isinstance(value, dict) and "properties" in schema:
        for name, inner in value.items():
            if name in schema["properties"]:
                yield from unknown_fields(inner, schema["properties"][name], f"{at}.{name}")
            elif (at, name) != ("", "metadata") and not schema.get("additionalProperties"):
                yield f"{at}.{name}"
    elif isinstance(value, list):
        for inner in value:
            yield from unknown_fields(inner, schema.get("items", {}), f"{at}[]")


def test_the_policies_select_every_pod(documents: dict[str, dict[str, Any]]) -> None:
    cluster = documents["RayService"]["spec"]["rayClusterConfig"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    labels = [group["template"]["metadata"]["labels"].items() for group in groups]
    policy = documents["NetworkPolicy"]["spec"]
    assert all(policy["podSelector"]["matchLabels"].items() <= found for found in labels)
    budget = documents["PodDisruptionBudget"]["spec"]
    wanted = budget["selector"]["matchLabels"].items() - {("ray.io/node-type", "worker")}
    assert wanted <= labels[1] and budget["maxUnavailable"] == 1
    assert all(group["minReplicas"] > budget["maxUnavailable"] for group in groups[1:])


def test_only_the_http_port_is_open_to_everybody(documents: dict[str, dict[str, Any]]) -> None:
    rules = documents["NetworkPolicy"]["spec"]["ingress"]
    assert [r["ports"] for r in rules if "from" not in r] == [[{"protocol": "TCP", "port": 8000}]]


def test_no_secret_is_written_into_an_object(documents: dict[str, dict[str, Any]]) -> None:
    assert not list(find_secrets(documents["ConfigMap"]["data"]))
    options = documents["RayService"]["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    assert options["redisPassword"].keys() == {"valueFrom"} and "@" not in options["redisAddress"]


def test_every_pod_is_probed_limited_and_not_root(documents: dict[str, dict[str, Any]]) -> None:
    for pod in pods(documents):
        (container,) = pod["containers"]
        assert {"readinessProbe", "livenessProbe"} <= container.keys()
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        mounted = {m["name"] for m in container["volumeMounts"]}
        assert mounted == {v["name"] for v in pod["volumes"]}


def test_no_service_of_kubernetes_can_overwrite_a_setting(
    documents: dict[str, dict[str, Any]],
) -> None:
    """A service called `shoal` puts SHOAL_PORT=tcp://… into pods that ask for service
    links, as they do by default.
    """
    assert all(pod["enableServiceLinks"] is False for pod in pods(documents))


def test_the_kuberay_cluster_has_the_installed_ray_and_a_token(
    documents: dict[str, dict[str, Any]],
) -> None:
    cluster = documents["RayService"]["spec"]["rayClusterConfig"]
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["rayVersion"] == ray.__version__


def test_the_configmap_and_secret_make_a_complete_configuration(
    documents: dict[str, dict[str, Any]], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "deploy/kuberay/rayservice.yaml").read_text()
    secret = dict(re.findall(r"--from-literal=(SHOAL_\w+)=(\"[^\"]+\"|\S+)", text))
    for name, value in (documents["ConfigMap"]["data"] | secret).items():
        monkeypatch.setenv(name, "x" * 48 if "openssl" in value else value)
    config = Config.load()
    assert config.host == "0.0.0.0"
    assert config.stores is not None and config.stores.lake.startswith("s3://")
    assert config.router.internal_secret is not None


# Several machines


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))


def test_the_cluster_file_passes_rays_schema(cluster: dict[str, Any]) -> None:
    jsonschema.validate(cluster, json.loads((RAY / "autoscaler/ray-schema.json").read_text()))


@pytest.mark.parametrize("node", ["head", "worker"])
def test_every_machine_starts_with_the_environment_that_serve_needs(
    cluster: dict[str, Any], expected: dict[str, str], node: str
) -> None:
    command = cluster[f"{node}_start_ray_commands"][-1]
    before, _, start = command.partition("/opt/shoal/.venv/bin/ray start")
    assert start, "Ray must be started after the exports"
    found = dict(re.findall(r"(\w+)=(\S+?)(?=[\s;])", before.split("export", 1)[1]))
    assert found.pop("RAY_SERVE_HAPROXY_BINARY_PATH") == "/opt/shoal/haproxy"
    assert found == expected
    assert ("--head" in start) is (node == "head")


def test_the_cluster_files_settings_make_a_complete_configuration(
    expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    comment = "\n".join(
        line
        for line in (ROOT / "ray_cluster.yaml").read_text().splitlines()
        if line.startswith("#   export")
    )
    for name, value in re.findall(r"(SHOAL_\w+)=(\S+)", comment):
        monkeypatch.setenv(name, "x" * 48 if value == "…" else value)
    config = Config.load()
    assert (
        config.address == "auto"
        and config.stores is not None
        and config.router.internal_secret is not None
    )


# The image


def test_the_files_that_the_image_copies_exist() -> None:
    for line in (ROOT / "deploy/Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            *sources, _ = [w for w in line.split()[1:] if not w.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), f"{line}: there is no {source}"


# The stores

COMPOSE = ROOT / "deploy/compose.yaml"


@pytest.mark.integration
@pytest.mark.parametrize("service", ["redis-online", "redis-events", "redis-ray"])
def test_each_redis_takes_its_command_and_is_durable(service: str, tmp_path: Path) -> None:
    command = yaml.safe_load(COMPOSE.read_text())["services"][service]["command"]
    options = command.replace("--requirepass ${REDIS_PASSWORD:?}", "").split()[1:]
    assert "--requirepass ${REDIS_PASSWORD:?}" in command
    server = RedisServer(tmp_path, *options)
    try:
        asked = ("appendonly", "appendfsync", "maxmemory-policy")
        found = [next(iter(server.client.config_get(name).values())) for name in asked]
    finally:
        server.stop()
    wanted = "always" if service == "redis-events" else "everysec"
    assert found == ["yes", wanted, "noeviction"]


def test_the_stores_addresses_make_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    text = COMPOSE.read_text()
    exports = re.findall(r"^#   export (.*)$", text, re.M)
    for name, value in re.findall(r"(SHOAL_\w+)=(\S+)", "\n".join(exports)):
        monkeypatch.setenv(name, value.replace("$REDIS_PASSWORD", "x" * 24))
    stores = Config.load().stores
    assert stores is not None
    published = {
        int(port.split(":")[0])
        for service in yaml.safe_load(text)["services"].values()
        for port in service.get("ports", ())
    }
    assert {int(port) for port in re.findall(r"stores:(\d+)", "\n".join(exports))} == published


# Grafana

PANELS = ROOT / "deploy/grafana/shoal.json"


def queries(dashboard: dict[str, Any]) -> list[str]:
    return [t["expr"] for p in dashboard["panels"] for t in p.get("targets", ())]


def test_every_panel_queries_prometheus_and_has_a_unit() -> None:
    dashboard = json.loads(PANELS.read_text())
    ids = [p["id"] for p in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"] and panel["fieldConfig"]["defaults"]["unit"]
    assert "datasource" in {v["name"] for v in dashboard["templating"]["list"]}


RULES = ROOT / "deploy/prometheus/rules.yaml"


def rules() -> list[dict[str, Any]]:
    return [r for group in yaml.safe_load(RULES.read_text())["groups"] for r in group["rules"]]


def test_every_alert_has_a_summary_and_names_labels_it_has() -> None:
    assert len({r["alert"] for r in rules()}) == len(rules())
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
        assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= kept


def exported_by_shoal() -> set[str]:
    """The series that Shoal's sources make, as Prometheus sees them."""
    found = set()
    for path in (ROOT / "platform/shoal/runtime").glob("*.py"):
        for call in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
            kind = getattr(call.func, "id", None)
            if (
                kind in ("Counter", "Gauge")
                and call.args
                and isinstance(call.args[0], ast.Constant)
            ):
                total = "_total" if kind == "Counter" else ""
                found.add(f"ray_{call.args[0].value}{total}")
    return found


def test_every_series_of_panels_and_alerts_exists() -> None:
    expressions = queries(json.loads(PANELS.read_text())) + [r["expr"] for r in rules()]
    named = {m for e in expressions for m in re.findall(r"\bray_\w+", e)}
    ours = {m for m in named if m.startswith("ray_shoal_")}
    assert ours == exported_by_shoal(), "each of Shoal's series has a panel, and none is made up"
    source = "\n".join(
        p.read_text()
        for p in [
            *RAY.glob("serve/*.py"),
            *RAY.glob("serve/_private/*.py"),
            *RAY.glob("dashboard/modules/reporter/*.py"),
        ]
    )
    for metric in named - ours:
        name = re.sub(r"_(total|bucket|sum|count)$", "", metric.removeprefix("ray_"))
        template = name.replace(
            "_http_", "_{protocol_name}_"
        )  # Ray makes the names for HTTP and gRPC of one template
        written = [f'"{n}"' for n in (metric.removeprefix("ray_"), name, template)]
        assert any(w in source for w in written), f"{metric} is not in Ray {ray.__version__}"
