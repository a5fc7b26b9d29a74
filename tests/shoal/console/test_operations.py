"""How an operation is told in a few words."""

import pytest

from shoal.console.operations import curl_command, describe_type


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": "string", "format": "date-time"}, "date-time"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Item"}}, "list of Item"),
        ({"enum": ["a", "b"]}, "one of a, b"),
        ({}, "any JSON"),
    ],
)
def test_types_are_described_in_words(schema: dict, words: str) -> None:
    assert describe_type(schema) == words


def test_the_curl_command_has_verb_body_and_required_parameters() -> None:
    assert curl_command("get", "/search", ["q"], False).endswith('"$SHOAL_ADDRESS/search?q=..."')
    assert "-X POST" in curl_command(
        "post", "/search/items", [], True
    ) and "@body.json" in curl_command("post", "/search/items", [], True)
