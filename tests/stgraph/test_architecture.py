"""Who may import whom, read from the syntax trees, and what an import loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# a module of stgraph may import only modules named before it: no cycles, one direction
ORDER = [
    "errors",
    "report",
    "_optional",
    "allocator",
    "registry",
    "_canonical",
    "graph",
    "neighbours",
    "joining",
    "description",
    "convert",
    "binding",
    "config",
    "preprocessing",
    "configfile",
    "classification",
    "evaluation",
    "inputs",
    "layout",
    "windows",
    "calibration",
    "tensor_files",
    "models",
    "forecasting",
    "checkpoint",
    "shrinkage",
    "blending",
    "footprint",
    "selection",
    "learning",
    "kriging",
    "training",
    "transferring",
    "backtesting",
    "scenario",
    "results",
    "segments",
    "outputs",
    "preflight",
    "pipeline",
    "published",
    "information",
    "terminal",
    "demonstration",
    "serving",
    "cli_benchmark",
    "cli_db",
    "cli_graph",
    "cli_runs",
    "cli_scenario",
    "cli",
]

# third-party packages that only some modules may import when they are themselves imported
ONLY_IN = {
    "torch": {
        "windows",
        "models",
        "footprint",
        "learning",
        "training",
        "transferring",
        "checkpoint",
        "forecasting",
        "calibration",
        "shrinkage",
        "blending",
        "selection",
        "kriging",
    }
    | {"tensor_files"},
    "torch_geometric": {"models"},
    "torch_geometric_temporal": set[str](),
    "lightning": {"learning"},
    "safetensors": {"checkpoint", "tensor_files", "learning"},
    "networkx": {"convert"},
    "xarray": set[str](),
    "matplotlib": set[str](),
    "typer": {"cli", "cli_benchmark", "cli_db", "cli_graph", "cli_scenario"},
    "fastapi": {"serving"},
    "sqlalchemy": set[str](),
    "psycopg": set[str](),
}

# modules with torch in a package without, which others import only inside functions
LATE = {"stgraph/scenario/speed_network.py", "stgraph/scenario/learned.py"}

# what connectors and sinks may use of stgraph
FOR_CONNECTORS = {"graph", "neighbours", "errors", "report", "_optional"}


def _imports(node: ast.AST, *, nested: bool) -> Iterator[str]:
    """Yield the dotted names that a file imports, those inside functions only if asked for."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "write absolute imports"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
        return
    elif nested or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, nested=nested)


def _names(path: Path, *, nested: bool) -> list[list[str]]:
    return [name.split(".") for name in _imports(ast.parse(path.read_text()), nested=nested)]


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _module(path: Path, package: str) -> str:
    """Return the name of the module or subpackage of a package that a file belongs to."""
    return path.relative_to(ROOT / package).parts[0].removesuffix(".py")


def _ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", _files("stgraph"), ids=_ids)
def test_modules_import_downwards(path: Path) -> None:
    """Protects the direction of dependencies inside stgraph, and keeps it free of connectors."""
    module = _module(path, "stgraph")
    names = _names(path, nested=True)
    assert not [name for name in names if name[0] == "stgraph_connectors"]
    if module == "__init__":
        return
    assert module in ORDER, f"give the new module {module!r} its place in ORDER"
    ours = {name[1] for name in names if name[0] == "stgraph" and len(name) > 1}
    below = {*ORDER[: ORDER.index(module)], module, "__version__"}
    assert ours <= below, f"{module} imports {sorted(ours - below)}, which lie above it"


@pytest.mark.parametrize("path", _files("stgraph"), ids=_ids)
def test_heavy_packages_stay_where_they_belong(path: Path) -> None:
    """Protects a fast start: torch and its like load only with the modules that need them."""
    module = _module(path, "stgraph")
    names = _names(path, nested=False)
    late = {f"{'/'.join(name[:3])}.py" for name in names} & LATE
    if _ids(path) in LATE:
        return
    assert not late, f"import {sorted(late)} only inside functions: they load torch"
    packages = {name[0] for name in names}
    wrong = {package for package in packages if module not in ONLY_IN.get(package, {module})}
    assert not wrong, f"{module} may import {sorted(wrong)} only inside functions"


@pytest.mark.parametrize("path", _files("connectors/stgraph_connectors"), ids=_ids)
def test_connectors_use_the_data_type_only(path: Path) -> None:
    """Protects connectors against models: they know graphs, neighbours, errors and reports."""
    names = _names(path, nested=True)
    used = {name[1] for name in names if name[0] == "stgraph"}
    assert used <= FOR_CONNECTORS, f"imports {sorted(used - FOR_CONNECTORS)} of stgraph"
    assert "torch" not in {name[0] for name in names}


def _loaded(code: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after some code."""
    code += "\nimport sys; sys.stderr.write(' '.join({m.split('.')[0] for m in sys.modules}))"
    run = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_import_loads_nothing_it_need_not() -> None:
    """Protects `import stgraph`: not even numpy, until a name is used."""
    loaded = _loaded("import stgraph; stgraph.__version__; dir(stgraph)")
    assert "stgraph" in loaded
    assert not loaded & {"numpy", "pandas", "geopandas", "torch", "lightning", "networkx"}


def test_graphs_and_neighbours_load_no_torch() -> None:
    """Protects people who use the data type alone."""
    code = "import stgraph; stgraph.STGraph; stgraph.build_knn; import stgraph.convert"
    assert not _loaded(code) & {"torch", "lightning", "torch_geometric", "matplotlib", "xarray"}


def test_help_loads_no_torch() -> None:
    """Protects the wait for `stgraph --help`."""
    code = (
        "import sys; sys.argv = ['stgraph', '--help']\n"
        "from stgraph.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code"
    )
    assert not _loaded(code) & {"torch", "lightning", "torch_geometric", "matplotlib"}
