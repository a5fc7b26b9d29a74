"""Settings reach the processes of other machines, and secrets do not travel."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.contract.errors import Invalid
from shoal.runtime.configuration import SETTINGS, Config
from shoal.runtime.deployed_settings import deployed_environment, deployed_settings
from shoal.runtime.haproxy_launcher import limits_by_environment
from shoal.runtime.serve_config import declarative_config

SECRET = "s3cr3t-" * 7
FILE = """
workers = 3
replicas = 2
timezone = "Europe/Warsaw"
disabled = ["optimizer"]
data = "/srv/head"

[stores]
lake = "s3://lake/shoal"
vectors = "http://milvus:19530"

[ingress]
per_address = 7
exempt = ["10.1.0.0/16"]

[router.limits]
seconds = 45

[router.cors.origins]
acme = ["https://b.example.com", "https://a.example.com"]

[capabilities.search]
language = "german"

[capabilities.anomalies.email]
host = "mail.internal"
sender = "shoal@example.com"
"""
SECRETS = {
    "SHOAL_STORES__ONLINE": f"rediss://:{SECRET}@redis.internal:6379/0",
    "SHOAL_STORES__TOKEN": SECRET,
    "SHOAL_ROUTER__INTERNAL_SECRET": SECRET,
    "SHOAL_EGRESS__PROXY": f"http://user:{SECRET}@proxy:3128",
    "SHOAL_CAPABILITIES__ANOMALIES__EMAIL__PASSWORD": SECRET,
}


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The head's configuration. Its file is gone afterwards, as on another machine."""
    (tmp_path / "shoal.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    config = Config.load(address="auto")
    (tmp_path / "shoal.toml").unlink()
    return config


def test_another_machine_reads_what_the_head_was_given(
    head: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = deployed_environment(head)[SETTINGS]
    assert "s3cr3t" not in sent
    monkeypatch.setenv(SETTINGS, sent)
    there = Config.load()
    own = {"address", "data"}
    assert there.model_dump(exclude=own) == head.model_dump(exclude=own)
    assert there.data == Path(".shoal") and there.address is None
    assert limits_by_environment() == {"per_address": 7, "exempt": ["10.1.0.0/16"]}
    monkeypatch.setenv("SHOAL_WORKERS", "5")
    monkeypatch.setenv("SHOAL_INGRESS__PER_ADDRESS", "9")
    assert Config.load().workers == 5
    assert limits_by_environment()["per_address"] == 9


@pytest.mark.parametrize("variable", SECRETS)
def test_a_secret_in_the_file_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    place = variable.removeprefix("SHOAL_").lower().split("__")
    table, name = ".".join(place[:-1]), place[-1]
    text = f'[{table}]\n{name} = "{SECRETS[variable]}"\n'
    if place[0] == "stores":
        text += 'lake = "/lake"\nvectors = "/vectors"\n'
        monkeypatch.setenv("SHOAL_STORES__ONLINE", "redis://redis:6379/0")
    if variable == "SHOAL_STORES__ONLINE":
        monkeypatch.delenv(variable)
    (tmp_path / "shoal.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Invalid, match=variable) as refused:
        deployed_settings(Config.load())
    (tmp_path / "shoal.toml").unlink()
    assert "s3cr3t" not in str(refused.value)


names = st.sampled_from(["url", "model", "password", "api_key", "smtp_password", "keys", "secret"])
texts = st.sampled_from(["", "plain", "https://host/path", f"https://u:{SECRET}@host", SECRET])
tables = st.recursive(
    st.dictionaries(names, texts | st.lists(texts, max_size=2), max_size=3),
    lambda inner: st.dictionaries(names, inner | st.lists(inner, max_size=2), max_size=3),
    max_leaves=6,
)


def has_secret(value: Any, name: str = "") -> bool:
    """Read from the strategies: a value with the secret, below a name or in a URI."""
    if isinstance(value, dict):
        return any(has_secret(inner, key) for key, inner in value.items())
    if isinstance(value, list):
        return any(has_secret(inner, name) for inner in value)
    return value != "" and (name not in ("url", "model", "keys") or "@" in value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables)
def test_no_table_of_a_capability_carries_a_secret(
    table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(capabilities={"example": table})
    if not has_secret(table):
        assert deployed_settings(config) == {"capabilities": {"example": table}}
        return
    with pytest.raises(Invalid, match="SHOAL_CAPABILITIES__EXAMPLE__"):
        deployed_settings(config)
    with monkeypatch.context() as environment:
        environment.setenv("SHOAL_CAPABILITIES", json.dumps({"example": table}))
        assert not has_secret(deployed_settings(config))


def test_the_printed_applications_bring_the_files_settings(head: Config) -> None:
    for application in declarative_config(head, ["search"])["applications"]:
        sent = json.loads(application["runtime_env"]["env_vars"][SETTINGS])
        assert sent["capabilities"]["search"] == tomllib.loads(FILE)["capabilities"]["search"]
        assert sent["disabled"] == ["optimizer"] and "data" not in sent


def test_settings_too_long_for_a_variable_are_refused() -> None:
    with pytest.raises(Invalid, match="longer than"):
        deployed_environment(Config(capabilities={"example": {"text": "x" * 70_000}}))
