import json

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
