"""The rules of the architecture that a test can check."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted((ROOT / "plugins").glob("shoal_*"))


def test_import_rules_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_import_cycle_between_modules() -> None:
    graph = grimp.build_graph("shoal", exclude_type_checking_imports=True, cache_dir=None)
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    try:
        tuple(graphlib.TopologicalSorter(imports).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_a_plugin_imports_no_internals_of_shoal_or_ray(plugin: Path) -> None:
    offences = []
    for file in plugin.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                inside = name.startswith("shoal.")
                internal = name.startswith("ray.") and not name.startswith(("ray.data", "ray.tune"))
                if inside or internal or name == "ray":
                    offences.append(f"{file.relative_to(ROOT)}:{node.lineno} imports {name}")
    assert not offences, "\n".join(offences)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_importing_a_plugin_is_light(plugin: Path) -> None:
    heavy = (
        "torch,sentence_transformers,feast,prophet,pyod,statsmodels,ortools,ray,nicegui,duckdb,"
        "polars"
    )
    code = (
        f"import sys, {plugin.name}; print([m for m in {heavy.split(',')!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_importing_shoal_is_light() -> None:
    heavy = ["ray", "pymilvus", "pyarrow", "nicegui", "torch", "numpy"]
    code = f"import sys, shoal; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_public_names_are_sorted_and_complete() -> None:
    import shoal

    assert shoal.__all__ == sorted(shoal.__all__)
    public = {n for n in vars(shoal) if not n.startswith("_")}
    modules = {n for n in public if type(getattr(shoal, n)).__name__ == "module"}
    assert public - modules == set(shoal.__all__)


def test_every_hook_is_documented_with_its_exact_signature() -> None:
    source = (ROOT / "platform/shoal/contract/hookspecs.py").read_text()
    docs = (ROOT / "docs/plugins.md").read_text()
    hooks = [
        n
        for n in ast.parse(source).body
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.decorator_list
    ]
    assert hooks
    for hook in hooks:
        prefix = "async def" if isinstance(hook, ast.AsyncFunctionDef) else "def"
        signature = f"{prefix} {hook.name}({ast.unparse(hook.args)}) -> {ast.unparse(hook.returns)}"  # type: ignore[arg-type]
        assert signature in docs, f"docs/plugins.md lacks: {signature}"


def test_nothing_committed_names_a_machine_or_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\0")
    words = [
        b"/" + b"work/main",
        b"/" + b"tmp/shoal/",
        b"find" + b"-links =",
        b"extra-index" + b"-url",
    ]
    found = []
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            found += [f"{name}: {word.decode()}" for word in words if word in content]
    assert not found, "\n".join(found)
