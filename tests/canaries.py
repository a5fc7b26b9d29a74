"""Strings that are looked for afterwards, in the bytes of files."""

import base64
import contextlib
import gzip
import re
import secrets
import string
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


class Canary:
    """Makes strings with one random word in common, and finds that word again."""

    def __init__(self) -> None:
        self.word = "".join(secrets.choice(string.ascii_lowercase) for _ in range(14))
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        return f"{self.word}{self.made}"

    def forms(self) -> set[bytes]:
        """How the word may be written, in lower case."""
        word = self.word
        found = {word.encode(), word.encode("utf-16-le"), word.encode("utf-16-be")}
        found.add(word.encode().hex().encode())
        found.add("".join(f"%{ord(c):02x}" for c in word).encode())
        for start in range(3):  # where the word may begin in a base64 group
            text = base64.b64encode(b"\0" * start + word.encode())
            found.add(text[4 if start else 0 : -4].lower())
        return found

    def is_in(self, data: bytes) -> bool:
        lower = data.lower()
        return any(form in lower for form in self.forms())

    def files(self, folder: Path) -> list[str]:
        """The files below a folder that have the word, compressed or not."""
        found = []
        for path in sorted(folder.rglob("*")):
            with contextlib.suppress(FileNotFoundError):  # a server has removed it
                if path.is_file() and any(map(self.is_in, contents(path))):
                    found.append(str(path.relative_to(folder)))
        return found


def contents(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield str(path).encode()
    yield data
    if path.suffix == ".parquet":
        with contextlib.suppress(Exception):  # unfinished, or no Parquet
            yield repr(pq.ParquetFile(path).read().to_pylist()).encode()
    elif data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data[:1_000_000]):
        with contextlib.suppress(zlib.error):
            yield zlib.decompressobj().decompress(data[start.start() :], 1_000_000)


def body(schema: Mapping[str, Any], document: Mapping[str, Any], canary: Canary) -> Any:
    """A value that fits a schema of an OpenAPI document, all free strings canaries."""
    return _value(schema, document, canary, 0)


def _value(
    schema: Mapping[str, Any], document: Mapping[str, Any], canary: Canary, deep: int
) -> Any:
    if ref := schema.get("$ref"):
        target: Any = document
        for part in ref.removeprefix("#/").split("/"):
            target = target[part]
        return _value(target, document, canary, deep)
    for key in ("allOf", "anyOf", "oneOf"):
        for one in schema.get(key, ()):
            if one.get("type") != "null":
                return _value(one, document, canary, deep)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            given = {
                name: _value(one, document, canary, deep + 1)
                for name, one in schema.get("properties", {}).items()
                if deep < 6
            }
            more = schema.get("additionalProperties")
            if not given and more not in (None, False):
                one = more if isinstance(more, dict) and more else {"type": "string"}
                given[canary()] = _value(one, document, canary, deep + 1)
            return given
        case "array":
            return [_value(schema.get("items", {}), document, canary, deep + 1)]
        case "integer" | "number":
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
            return schema.get("default") or least + 1
        case "boolean":
            return True
        case "string":
            return _string(schema, canary)
    return canary()


def _string(schema: Mapping[str, Any], canary: Canary) -> str:
    if schema.get("format") == "date-time":
        return "2026-11-20T10:00:00Z"
    if schema.get("format") == "date":
        return "2026-11-20"
    text = canary()
    return text[: schema.get("maxLength", len(text))]


def request_bodies(document: Mapping[str, Any]) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    """Method, path and JSON schema of each operation with a body."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            for kind, media in content.items():
                if "json" in kind and "ndjson" not in kind and "schema" in media:
                    yield method.upper(), path, media["schema"]
                    break
