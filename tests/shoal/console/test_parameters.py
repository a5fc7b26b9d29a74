"""Any pydantic model of parameters can be drawn from its JSON schema."""

from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from shoal import Parameters
from shoal.console.parameters import ParameterForm, describe_bounds, parse_json, resolve_field


class Colour(Enum):
    red = "red"
    blue = "blue"


class Inner(BaseModel):
    depth: int = 1


class Many(Parameters):
    share: float = Field(0.5, ge=0, le=1)
    days: Annotated[float, Field(gt=0)] = 30
    limit: int | None = Field(None, ge=1, le=500)
    mode: Literal["a", "b"] = "a"
    colour: Colour = Colour.red
    inner: Inner = Inner()
    words: list[str] = Field(["the"])
    on: bool = True


SCHEMA = Many.model_json_schema()


def field(name: str) -> dict:
    return resolve_field(SCHEMA["properties"][name], SCHEMA)


def test_an_optional_field_has_its_inner_type() -> None:
    assert (
        field("limit")["type"] == "integer"
        and field("limit")["nullable"]
        and field("limit")["default"] is None
    )


def test_references_are_followed() -> None:
    assert field("colour")["enum"] == ["red", "blue"]
    assert field("inner")["type"] == "object"


@pytest.mark.parametrize(
    ("name", "words"), [("share", "0 to 1"), ("days", "above 0"), ("limit", "1 to 500"), ("on", "")]
)
def test_bounds_are_described_in_words(name: str, words: str) -> None:
    assert describe_bounds(field(name)) == words


def test_only_values_unlike_the_default_are_own_values() -> None:
    form = ParameterForm(SCHEMA, {"share": 0.9})
    assert form.own_values() == {"share": 0.9}
    form.values["mode"] = "b"
    form.values["share"] = 0.5
    assert form.own_values() == {"mode": "b"}
    form.reset()
    assert form.own_values() == {}


def test_invalid_json_is_passed_on_as_text() -> None:
    assert parse_json('["a"]') == ["a"]
    assert parse_json("[a") == "[a"
