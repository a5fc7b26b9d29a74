"""The environment of the cluster's processes."""

from pathlib import Path

import pytest

from shoal.runtime.configuration import Config
from shoal.runtime.environment import cluster_environment


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def auth(folder: Path, config: Config) -> dict[str, str]:
    found = cluster_environment(config, folder / "runtime.json")
    return {name: value for name, value in found.items() if name.startswith("RAY_AUTH_")}


def test_rays_ports_ask_for_the_token_of_the_data_folder(tmp_path: Path) -> None:
    assert auth(tmp_path, Config()) == {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "ray_token"),
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"RAY_AUTH_TOKEN": "x"}, {"RAY_AUTH_MODE": "token"}),
        (
            {"RAY_AUTH_TOKEN_PATH": "/run/token"},
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/run/token"},
        ),
    ],
)
def test_the_operators_token_takes_precedence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    expected: dict[str, str],
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert auth(tmp_path, Config()) == expected


def test_another_cluster_has_its_own_settings(tmp_path: Path) -> None:
    assert auth(tmp_path, Config(address="auto")) == {}
