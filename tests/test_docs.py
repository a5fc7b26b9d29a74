"""The documentation holds to the code: links, Python, commands, settings and
operations.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr
from typer.main import get_command

from shoal.cli import main
from shoal.contract.operations import operations
from shoal.egress.egress import Egress
from shoal.eventlog.kafka_settings import KafkaSink, KafkaSource
from shoal.router.route_guard import enforce_rights
from shoal.router.settings import RouterSettings
from shoal.runtime import plugins
from shoal.runtime.configuration import Config, IngressSettings
from shoal.stores.configuration import StoreConfig
from shoal.tenants.records import Limits
from shoal.testing.local_platform import LocalPlatform

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
CAPABILITIES = ["anomalies", "experiments", "features", "optimizer", "search"]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The fenced blocks of a page in any of these languages (`""`: without one)."""
    for language, text in re.findall(
        r"^```(\w*)[^\n]*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
    ):
        if language in languages:
            yield text


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$",
        re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE),
        re.MULTILINE,
    )
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


# Links


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name(page)}: there is no {target}"
        if anchor:
            assert anchor in anchors(found), (
                f"{name(page)}: {path or 'the page'} has no heading #{anchor}"
            )


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs/index.md").read_text()
    assert [p.name for p in DOCS if p.name != "index.md" and f"({p.name})" not in index] == []


# Python


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_compiles(page: Path) -> None:
    for number, text in enumerate(blocks(page, "python", "py")):
        if re.match(r"\s*(async )?def \w+\([^\n]*\) -> [^\n:]+\n*\Z", text):
            continue  # a signature alone
        compile(
            text.replace("…", "..."),
            f"{name(page)} block {number}",
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_imports_names_that_exist(page: Path) -> None:
    import shoal
    import shoal.testing

    for text in blocks(page, "python", "py"):
        for imported in re.findall(
            r"^from shoal import (?:\(([^)]*)\)|([^\n]+))", text, re.MULTILINE
        ):
            for word in re.findall(r"\w+", re.sub(r"#.*| as \w+", "", imported[0] or imported[1])):
                assert hasattr(shoal, word), f"{name(page)}: shoal has no {word}"
        for word in re.findall(r"\bshoal\.(?!testing\b|local\b|search\b)([A-Za-z]\w*)", text):
            assert hasattr(shoal, word) or word in CAPABILITIES, (
                f"{name(page)}: shoal has no {word}"
            )


# Commands


@pytest.fixture(scope="module")
def commands() -> Any:
    """The whole command line, those of the capabilities included."""
    own = get_command(main.app)
    for capability in plugins.installed().capabilities.values():
        if capability.name in CAPABILITIES and capability.commands is not None:
            own.commands[capability.name] = get_command(capability.commands())  # type: ignore[attr-defined]
    return own


def shoal_commands(page: Path) -> Iterator[list[str]]:
    """Each `shoal …` of a page: in shell blocks, and in backticks. A word with `<`, `…`
    or `*` in it stands for something else.
    """
    shell = "\n".join(blocks(page, "", "sh", "bash", "console", "shell"))
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = [
        *re.findall(
            r"(?:^|&&|;|\$|\|)\s*(?:\$ )?(?:\w+=\S+ )*shoal ([a-z][^\n#&|]*)", shell, re.MULTILINE
        ),
        *re.findall(r"`(?:\w+=\S+ )*shoal ([a-z][^`]*)`", prose),
    ]
    for line in lines:
        yield line.split()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_their_options_exist(page: Path, commands: Any) -> None:
    for words in shoal_commands(page):
        group, path = commands, ["shoal"]
        while words and hasattr(group, "commands"):
            word = words.pop(0).rstrip(",.")
            if any(c in word for c in "<…*|") or word.startswith("-"):
                break
            assert word in group.commands, (
                f"{name(page)}: `{' '.join(path)}` has no command {word!r}"
            )
            group = group.commands[word]
            path.append(word)
        if hasattr(group, "commands"):
            continue
        known = {o for p in group.params for o in (*p.opts, *p.secondary_opts)} | {
            "--json",
            "--data",
            "--config",
            "--help",
        }
        for option in (w.partition("=")[0].rstrip(",.") for w in words if w.startswith("-")):
            assert option in known, f"{name(page)}: `{' '.join(path)}` has no option {option}"


# Settings


@pytest.mark.parametrize(
    "model",
    [Config, IngressSettings, StoreConfig, RouterSettings, Limits, Egress, KafkaSource, KafkaSink],
    ids=lambda m: m.__name__,
)
def test_operations_explains_every_setting(model: type[BaseModel]) -> None:
    text = (ROOT / "docs/operations.md").read_text()
    section = text[text.index("## Configuration") : text.index("## Tenants, keys and limits")]
    assert [f for f in model.model_fields if f"`{f}`" not in section] == []


def test_operations_explains_no_setting_that_there_is_not() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    section = text[text.index("## Configuration") : text.index("## Tenants, keys and limits")]
    models: list[type[BaseModel]] = [
        *(Config, IngressSettings, StoreConfig, RouterSettings, Egress, KafkaSource, KafkaSink)
    ]
    known = {field for model in models for field in model.model_fields}
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) <= known


def test_operations_names_every_job() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    found = plugins.installed().capabilities
    jobs = [f"{n}.{j.name}" for n in CAPABILITIES for j in found[n].jobs]
    assert [j for j in jobs if f"`{j}`" not in text] == []


# Operations


class Bare(LocalPlatform):
    """Makes routes without models behind them: only their signatures matter."""

    def backend(self, capability: str, name: str) -> Any:
        class Nothing(SimpleNamespace):
            def __getattr__(self, method: str) -> Any:
                return None

        return Nothing()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> LocalPlatform:
    stores = StoreConfig(
        online="redis://127.0.0.1:1/0",
        vectors="http://127.0.0.1:1",
        lake=str(tmp_path_factory.mktemp("lake")),
    )
    config = Config(
        stores=stores, router=RouterSettings(internal_secret=SecretStr("x" * 32)), capabilities={}
    )
    installed = plugins.installed().capabilities
    return Bare(config, [installed[name] for name in CAPABILITIES])


def document(capability: str, process: LocalPlatform) -> dict[str, Any]:
    """The OpenAPI document of a capability."""
    routes = process.capability(capability).routes(process.services(capability))
    enforce_rights(routes)
    app = FastAPI(generate_unique_id_function=lambda route: route.name)
    app.include_router(routes, prefix=f"/{capability}")
    return app.openapi()


@pytest.mark.parametrize("capability", ["platform", *CAPABILITIES])
def test_the_page_of_rights_lists_every_operation(capability: str, process: LocalPlatform) -> None:
    actual = {
        (spec["operationId"], spec["x-shoal-right"], spec.get("x-shoal-right-for-others", ""))
        for methods in document(capability, process)["paths"].values()
        for spec in methods.values()
    }
    page = (ROOT / "docs/rights.md").read_text()
    section = page.split(f"### {capability.capitalize()}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `(\S+)`(?:; others: `(\S+)`)? \| (.+) \|$", section, re.MULTILINE)
    written = {
        (name, right, others)
        for right, others, names in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    assert written == actual


@pytest.mark.parametrize("capability", ["platform", *CAPABILITIES])
def test_the_api_page_lists_exactly_the_operations(capability: str, process: LocalPlatform) -> None:
    actual = {(o.method, o.path, o.id) for o in operations(document(capability, process)).values()}
    page = (ROOT / "docs/http-api.md").read_text()
    rows = set(re.findall(r"^\| `([A-Z]+) (/\S+)` \| `(\w+)` \|", page, re.MULTILINE))
    written = {row for row in rows if row[1].split("/")[1] == capability}
    assert written - actual == set(), "on the page, but not in the code"
    assert actual - written == set(), "in the code, but not on the page"
