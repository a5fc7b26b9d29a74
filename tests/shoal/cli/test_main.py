import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import shoal
from shoal.cli import main
from shoal.contract.capability import Capability
from shoal.local.private_files import write_json
from shoal.local.state import create_state
from shoal.runtime import plugins
from shoal.testing import CapabilityApp

GROUPS = [
    name for name, c in typer.main.get_command(main.app).commands.items() if hasattr(c, "commands")
]


def run(
    *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shoal.cli.main", *words],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "--data", "{}", "tenants", "list"),
        ("tenants", "--json", "--data={}", "list"),
        ("tenants", "list", "--data", "{}", "--json"),
        ("search", "load", __file__, "--data={}", "--tenant", "acme", "--board", "b", "--json"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_global_options_are_accepted_anywhere(words: tuple[str, ...], tmp_path: Path) -> None:
    Path(tmp_path / "items.ndjson").write_text("")
    folder = str(tmp_path / "none")
    done = run(
        *(w.format(folder) if w != __file__ else str(tmp_path / "items.ndjson") for w in words)
    )
    assert done.returncode == 1, done.stderr
    assert folder in json.loads(done.stdout)["detail"]


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--data"),
        ("nonsense",),
        ("tune", "--nonsense"),
        ("config", "--config", "missing.toml"),
        ("config", "--config", "/"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_status_2(words: tuple[str, ...]) -> None:
    assert run(*words).returncode == 2
    done = run(*words[:1], "--json", *words[1:])
    assert done.returncode == 2
    assert json.loads(done.stdout)["detail"], done.stderr


def test_a_missing_argument_is_json_for_scripts() -> None:
    done = run("keys", "create", "--json")
    assert done.returncode == 2
    assert "--tenant" in json.loads(done.stdout)["detail"]


DESTRUCTIVE = [
    ("tenants", "delete", "acme"),
    ("keys", "revoke", "7f3a"),
    ("roles", "delete", "auditor"),
    ("events", "replay", "--tenant", "acme", "--group", "search.index", "--after", "0"),
]


@pytest.mark.parametrize("words", DESTRUCTIVE, ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("json_output", [False, True])
def test_destructive_commands_want_yes_without_a_terminal(
    words: tuple[str, ...], json_output: bool, tmp_path: Path
) -> None:
    options = ["--data", str(tmp_path / "none"), *(["--json"] if json_output else [])]
    done = run(*words, *options)
    assert done.returncode == 2
    said = json.loads(done.stdout)["detail"] if json_output else done.stderr
    assert "confirm with --yes" in said
    agreed = run(*words, "--yes", *options)
    assert agreed.returncode == 1  # nothing runs there
    assert "none" in agreed.stdout + agreed.stderr


def test_every_destructive_command_asks() -> None:
    """A command that deletes, by its name, takes --yes."""
    for group in typer.main.get_command(main.app).commands.values():
        for name, command in getattr(group, "commands", {}).items():
            if name in ("delete", "revoke", "remove", "forget", "erase", "purge"):
                assert any("--yes" in p.opts for p in command.params), (group.name, name)


def test_commands_that_fail_to_load_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ImportError("no module [x]")

    capability = Capability("broken", "Fails.", routes=lambda services: None, commands=broken)
    installed, warnings = plugins.installed(), list[str]()
    monkeypatch.setitem(installed.capabilities, "broken", capability)
    monkeypatch.setattr(plugins, "installed", lambda: installed)
    monkeypatch.setattr(main, "warning_line", warnings.append)
    result = CliRunner().invoke(main.app, ["--help"])
    assert result.exit_code == 0 and "tenants" in result.stdout
    assert warnings == ["The commands of broken failed to load: ImportError: no module [x]"]


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"shoal {shoal.__version__}\n"
    for words in (("--json", "--version"), ("--version", "--json")):
        assert json.loads(run(*words).stdout) == {"version": shoal.__version__}


@pytest.mark.parametrize("group", [None, *GROUPS])
def test_a_group_without_a_command_is_json_for_scripts(group: str | None) -> None:
    done = run("--json", *([group] if group else []))
    said = json.loads(done.stdout)["detail"]
    assert done.returncode == 2
    assert said.startswith(f"`shoal {group}` needs" if group else "`shoal` needs")


def test_the_shell_completes_commands_of_plugins_too() -> None:
    asked = {"_SHOAL_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    found = {
        words: run(environment={**asked, "COMP_WORDS": f"shoal {words}"}).stdout.split()
        for words in ("ten", "optim")
    }
    assert found == {"ten": ["tenants"], "optim": ["optimizer"]}


def test_status_shows_the_addresses(
    shoal_app: Callable[..., CapabilityApp], tmp_path: Path
) -> None:
    config = shoal_app().platform.config.model_copy(update={"data": tmp_path})
    write_json(tmp_path / "runtime.json", config.dump_with_secrets())
    create_state(tmp_path)
    api = f"http://127.0.0.1:{config.port}"
    answer = json.loads(run("status", "--json", "--data", str(tmp_path)).stdout)
    assert answer["addresses"] == {
        "api": api,
        "console": f"{api}/console",
        "ray_client": "ray://127.0.0.1:10001",
        "ray_dashboard": "http://127.0.0.1:8265",
    }
    printed = run("status", "--data", str(tmp_path)).stdout
    assert [url for url in answer["addresses"].values() if url not in printed] == []
