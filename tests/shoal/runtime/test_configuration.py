import json
from pathlib import Path

import pytest

from shoal import Invalid
from shoal.runtime.configuration import Config


def test_an_invalid_configuration_is_reported_without_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOAL_STORES__ONLINE", "redis://:topsecret@host:6379")
    with pytest.raises(Invalid) as invalid:
        Config.load()
    locations = [fault["location"] for fault in invalid.value.errors]
    assert locations == ["stores.vectors", "stores.lake"]
    assert "topsecret" not in f"{invalid.value} {invalid.value.errors} {invalid.value.__cause__}"


def test_a_dumped_configuration_can_be_loaded_again() -> None:
    config = Config(
        stores={"online": "redis://:secret@host:1/0", "vectors": "http://host:2", "lake": "/lake"},
        router={"internal_secret": "s" * 48},
    )
    assert Config(**json.loads(json.dumps(config.dump_with_secrets()))) == config


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_named_file_must_be_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_CONFIG", str(tmp_path / name))
    with pytest.raises(Invalid, match="is not a file") as invalid:
        Config.load()
    assert str(tmp_path / name) in invalid.value.detail


@pytest.mark.parametrize("text", [b"port = 8000\npassword = topsecret\n", b"port = 8000\n# \xff\n"])
def test_a_file_that_is_not_toml_is_named_with_the_line(
    text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "shoal.toml"
    file.write_bytes(text)
    monkeypatch.setenv("SHOAL_CONFIG", str(file))
    with pytest.raises(Invalid, match="Invalid configuration") as invalid:
        Config.load()
    [fault] = invalid.value.errors
    assert fault["location"] == str(file)
    assert "line 2" in fault["message"]
    assert "topsecret" not in fault["message"]
