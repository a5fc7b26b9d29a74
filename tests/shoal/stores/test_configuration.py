"""Where the stores are."""

import os
import pickle

import pytest
from pydantic import ValidationError

from shoal.stores.configuration import StoreConfig


def make(**given: str) -> StoreConfig:
    return StoreConfig(
        **{"online": "redis://:secret@h/0", "vectors": "http://h:19530", "lake": "/lake", **given}
    )


def test_the_log_is_in_the_online_redis_by_default():
    assert make().events == "redis://:secret@h/0"
    assert make(events="redis://other/0").events == "redis://other/0"


def test_a_config_pickles_to_itself():
    assert pickle.loads(pickle.dumps(make())) == make()


def test_secrets_are_not_shown():
    shown = repr(make(token="root:Milvus", events="redis://:hidden@h"))
    assert not any(word in shown for word in ("secret", "Milvus", "hidden"))


def test_a_relative_lake_path_becomes_absolute():
    assert make(lake="lake").lake == os.path.abspath("lake")
    assert make(lake="s3://bucket/lake").lake == "s3://bucket/lake"


@pytest.mark.parametrize(
    "given",
    [
        {"online": "mysql://h"},
        {"vectors": "file:///x"},
        {"events": "kafka://h"},
        {"lake": ""},
        {"lake": "a%20b"},
        {"lake": "gs://bucket/lake"},
        {"lake": "s3://key:secret@bucket/lake"},
        {"lakes": "x"},
    ],
)
def test_an_invalid_uri_is_refused(given: dict[str, str]):
    with pytest.raises(ValidationError):
        make(**given)
