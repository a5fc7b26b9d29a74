"""The commands, on a capability that is served."""

import secrets
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from shoal import Client, Invalid
from shoal.router.credentials import mint_internal
from shoal.testing.app import SECRET
from shoal_features import commands


@pytest.fixture
def run(shoal_app: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    app, tenant = shoal_app("features"), f"acme-{secrets.token_hex(4)}"
    app.key(tenant)
    monkeypatch.setattr(
        commands,
        "operator_client",
        lambda name: Client(app.address, mint_internal(SECRET, name, "admin")),
    )
    monkeypatch.setattr(commands, "_run_job", lambda *_, **__: {"rows": 0})

    def invoke(*arguments: str, catch: bool = False) -> Any:
        arguments = (*arguments, "--tenant", tenant)
        return CliRunner().invoke(commands.commands(), arguments, catch_exceptions=catch)

    return invoke


def plain(done: Any) -> str:
    """The output without the frame that it is printed in."""
    return " ".join(done.output.replace("│", " ").split())


def test_a_result_without_rows_is_a_file_without_rows(run: Any, tmp_path: Any) -> None:
    output = tmp_path / "out.parquet"
    done = run("as-of", "2026-01-01", str(output), "--features", "boards_30d,current_board")
    assert done.exit_code == 0, done.output
    table = pq.read_table(output)
    names = ["user_id", "event_timestamp", "boards_30d", "current_board"]
    assert (table.num_rows, table.column_names) == (0, names)
    assert table.schema.field("boards_30d").type == pa.int64()


def test_input_that_cannot_be_read_is_said_plainly(run: Any, tmp_path: Any) -> None:
    output, text = str(tmp_path / "out.parquet"), tmp_path / "rows.txt"
    text.write_text("user_id,event_timestamp")
    missing = run("historical", str(tmp_path / "none"), output, "--features", "boards_30d")
    assert missing.exit_code == 2 and "does not exist" in plain(missing)
    wrong = run("historical", str(text), output, "--features", "boards_30d", catch=True)
    assert isinstance(wrong.exception, Invalid) and "not a Parquet file" in str(wrong.exception)
    nowhere = run("as-of", "2026-01-01", str(tmp_path / "a" / "b"), "--features", "boards_30d")
    assert nowhere.exit_code == 2 and "no folder" in plain(nowhere)


def test_plan_shows_and_prune_removes(run: Any, tmp_path: Any) -> None:
    pytest.importorskip("feast")
    head = """
from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Int64
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
source = FileSource(name="s", path="shoal://s", timestamp_field="time")
"""
    view = """
v = FeatureView(
    name="v", entities=[user], source=PushSource(name="p", batch_source=source),
    schema=[Field(name="n", dtype=Int64)],
)
"""
    file, empty = tmp_path / "definitions.py", tmp_path / "empty.py"
    file.write_text(head + view)
    empty.write_text(head)
    assert "+ v:n" in run("plan", str(file)).output
    assert run("apply", str(file)).exit_code == 0
    assert run("plan", str(file)).output == "no changes\n"
    assert "- v:n" in run("plan", str(empty)).output
    refused = run("apply", str(empty), catch=True)
    assert "v:n" in str(refused.exception) and "--prune" in str(refused.exception)
    assert run("apply", str(empty), "--prune").exit_code == 0
    assert "+ v:n" in run("plan", str(file)).output
