"""README and docs say what the code does: names, options, defaults, commands, snippets, links."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import doctest
import functools
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pyogrio
import pytest
import typer.main
from learned_models import SMALL as LEARNED

from stgraph import cli, config, registry
from stgraph.configfile import read_config
from stgraph.graph import Feature, STGraph
from stgraph.joining import join_feature
from stgraph.preprocessing.gaps import fill_gaps
from stgraph.preprocessing.outliers import mask_outliers

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted(DOCS.rglob("*.md")),
]
REQUIRED = object()
FLAGS = re.MULTILINE | re.DOTALL
SMALL = "--set=train.max_epochs=1"


class Block(NamedTuple):
    """A fenced block of a page."""

    kind: str
    title: str
    text: str


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path) -> list[Block]:
    fence = re.compile(r'^```(\w*)(?: title="(.*?)")?\n(.*?)^```$', FLAGS)
    return [Block(*match.groups(default="")) for match in fence.finditer(path.read_text())]


def tables(kind: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield what every marked table of the docs is about, and its rows as cells."""
    marked = re.compile(rf"<!-- {kind}: (\S+) -->\n\n(.*?)(?:\n\n|\Z)", re.DOTALL)
    for page in PAGES:
        for match in marked.finditer(page.read_text()):
            lines = match[2].strip().splitlines()[2:]
            yield match[1], [[cell.strip() for cell in line.split(" | ")] for line in lines]


def named(cell: str) -> str:
    """Return the name that the first cell of a row has, without link and quotes."""
    found = re.search(r"`([^`]+)`", cell)
    assert found, f"no name in {cell!r}"
    return found[1]


# ---------------------------------------------------------------- names, options, defaults


@pytest.mark.parametrize("group", typing.get_args(registry.Group))
def test_every_registered_name_has_a_row(group: registry.Group) -> None:
    """A connector, sink, model or builder without docs is not finished, nor docs without it."""
    rows = dict(tables("names"))[group]
    assert sorted(named(row[0]) for row in rows) == registry.names(group)
    if group in ("connectors", "sinks"):
        for name in registry.names(group):
            assert (DOCS / group / f"{name}.md").is_file()


def parameters(function: Callable[..., Any], given: int) -> dict[str, Any]:
    """Return the options of a function with their defaults, as a config may set them."""
    listed = list(inspect.signature(function).parameters.values())[given:]
    return {
        p.name: REQUIRED if p.default is p.empty else p.default
        for p in listed
        if p.name not in config.BY_PIPELINE
    }


def fields(model: Any) -> dict[str, Any]:
    """Return the fields of a pydantic model or dataclass with their defaults."""
    if dataclasses.is_dataclass(model):
        return {f.name: f.default for f in dataclasses.fields(model)}
    return {
        name: REQUIRED if field.is_required() else field.get_default()
        for name, field in model.model_fields.items()
        if name != "options"
    }


def documented() -> dict[str, list[list[str]]]:
    """Return the rows of all option tables, those about the same thing together."""
    found: dict[str, list[list[str]]] = {}
    for about, rows in tables("options"):
        found.setdefault(about, []).extend(rows)
    return found


def expected() -> dict[str, dict[str, Any]]:
    """Return what has to be documented: table or function -> option -> default."""
    from stgraph_connectors.postgis.connect import Patience
    from stgraph_connectors.styles import Style

    wanted = {
        f"config.{name}": fields(config.RoadsConfig if name == "roads" else field.annotation)
        for name, field in config.JobConfig.model_fields.items()
        if name not in ("style", "output", "source")
    }
    wanted["config.output"] = fields(config.OutputConfig)
    wanted["config.source"] = fields(config.SourceConfig) | {"join": None}
    wanted["source.join"] = parameters(join_feature, 2)
    wanted["style"] = fields(Style)
    wanted["sinks.postgis.patience"] = fields(Patience)
    wanted["prepare.outliers"] = parameters(mask_outliers, 1)
    wanted["prepare.gaps"] = parameters(fill_gaps, 1)
    for group, given in (("connectors", 0), ("neighbours", 1), ("sinks", 2)):
        for name in registry.names(group):  # type: ignore[arg-type]
            wanted[f"{group}.{name}"] = parameters(registry.load(group, name), given)  # type: ignore[arg-type]
    for name in (*LEARNED, "ridge", "lightgbm", "ensemble", "auto"):
        wanted[f"models.{name}"] = fields(options_of_model(name))
    return wanted


def options_of_model(name: str) -> Any:
    return typing.get_type_hints(registry.load("models", name).__init__)["config"]


@pytest.mark.parametrize("about", sorted(expected()))
def test_options_and_defaults_are_those_of_the_code(about: str) -> None:
    """Every option is documented once, none that does not exist, each with its default."""
    rows, wanted = documented()[about], expected()[about]
    names = [named(row[0].removeprefix("| ")) for row in rows]
    assert sorted(names) == sorted(wanted)
    for name, row in zip(names, rows, strict=True):
        shown, default = row[1], wanted[name]
        if default is REQUIRED:
            assert shown == "required", name
        elif default is None:
            assert shown == "—", name
        elif shown.startswith("`"):
            assert shown == f"`{json.dumps(default)}`", name


def test_no_table_is_about_something_that_is_gone() -> None:
    """Option tables of a removed sink or stage go with it."""
    assert set(documented()) == set(expected())


def test_models_that_share_a_table_share_their_options() -> None:
    """docs/models.md has one table for the linear baselines, and says that the others have none."""
    linear = {options_of_model(name) for name in ("ridge", "ridge_node", "var")}
    assert len(linear) == 1
    with_table = {*LEARNED, "ridge", "ridge_node", "var", "lightgbm", "ensemble", "auto"}
    for name in set(registry.names("models")) - with_table:
        assert not fields(options_of_model(name)), f"document the options of {name}"


def known_commands() -> dict[str, set[str]]:
    """Return every command, those of groups as in "db init", with its options."""
    top: Any = typer.main.get_command(cli.app)
    found = {}
    for name, command in top.commands.items():
        inner = getattr(command, "commands", None)
        parts = {f"{name} {part}": value for part, value in inner.items()} if inner else {}
        for full, one in (parts or {name: command}).items():
            found[full] = {option for p in one.params for option in p.opts}
    return found


def test_options_of_commands_are_those_of_the_command_line() -> None:
    """docs/cli.md has a section per command with its options."""
    commands = known_commands()
    text = (DOCS / "cli.md").read_text()
    sections = dict(re.findall(r"^## stgraph ([\w ]+)\n(.*?)(?=^## |\Z)", text, FLAGS))
    assert set(sections) == set(commands)
    for name, section in sections.items():
        listed = set(re.findall(r"^\| `(--[a-z]+)", section, re.MULTILINE))
        options = commands[name]
        assert listed == {opt for opt in options if opt.startswith("--")} - {"--help"}, name


def test_order_of_modules_is_the_one_that_tests_hold() -> None:
    """docs/architecture.md lists the modules in the order that test_architecture.py checks."""
    tree = ast.parse((ROOT / "tests/stgraph/test_architecture.py").read_text())
    order = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ORDER"
    )
    table = (DOCS / "architecture.md").read_text().split("<!-- order -->\n\n")[1].split("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == order


# ---------------------------------------------------------------- commands and configs


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_in_pages_exist(page: Path) -> None:
    """No page names a command, option or make target that does not exist."""
    commands = known_commands()
    text = page.read_text()
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:^ *|`)make (\w+)", text, re.MULTILINE):
        assert target in targets
    shell = "\n".join(block.text for block in blocks(page) if block.kind == "bash")
    calls = re.findall(r"^ *(?:\S+/)?stgraph (.+)$", shell, re.MULTILINE)
    calls += re.findall(r"`stgraph (.+?)`", text)
    for call in calls:
        name, *rest = shlex.split(call, comments=True)
        if name == "--help":
            continue
        groups = {full.split()[0] for full in commands if " " in full}
        if name in groups:
            if not rest or "|" in rest[0]:
                continue  # the group itself
            name, *rest = f"{name} {rest[0]}", *rest[1:]
        known = commands[name]
        assert {word.split("=")[0] for word in rest if word.startswith("-")} <= known, call


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_configs_in_pages_are_valid(page: Path, tmp_path: Path) -> None:
    """Every config that a page shows is accepted as it stands."""
    for block in blocks(page):
        if block.kind != "toml" or block.title.startswith(("pyproject", "scenario")):
            continue  # those of scenarios are read where they are shown
        text = block.text
        if "data" not in tomllib.loads(text):
            text = '[data]\nstations = "stations.csv"\n' + text
        job = tmp_path / "job.toml"
        job.write_text(text)
        read_config(job, environment={**os.environ, "STGRAPH_DSN": "service=traffic"})


# ---------------------------------------------------------------- snippets


def compare(shown: str, given: str, page: Path) -> None:
    """Fail unless an output is as the page shows it; `...` stands for anything."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    same = doctest.OutputChecker().check_output(shown, given, flags)
    assert same, f"{page.name} shows\n{shown}\nbut it is\n{given}"


def run_page(page: Path, names: dict[str, Any]) -> None:
    """Run the Python and the commands of a page in order, and compare the outputs it shows."""
    out = err = ""
    for block in blocks(page):
        if block.kind == "text":
            compare(block.text, err if block.title == "error" else out, page)
        elif block.kind == "toml" and block.title.endswith(".toml"):
            Path(block.title).write_text(block.text)
        elif block.kind in ("python", "bash"):
            stdout, stderr = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                if block.kind == "python":
                    exec(compile(block.text, str(page), "exec"), names)
                else:
                    run_commands(block.text)
            out, err = stdout.getvalue(), stderr.getvalue()


def run_commands(text: str) -> None:
    """Run those commands of a block that are ours, with little training."""
    for line in text.splitlines():
        name, *words = shlex.split(line, comments=True) or [""]
        if name == "stgraph":
            more = [SMALL, "-q"] if words[0] in ("run", "fit") else []
            cli.main([*words, *more])


@pytest.fixture
def little_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and one epoch where a page trains with more."""
    monkeypatch.chdir(tmp_path)
    quick = functools.partial(config.TrainConfig, max_epochs=1)
    monkeypatch.setattr("stgraph.training.TrainConfig", quick)
    monkeypatch.setattr("stgraph.config.TrainConfig", lambda **_: quick())


@pytest.mark.usefixtures("little_training")
def test_readme_runs() -> None:
    """The Python of the README works on two plain files, in five lines as it says."""
    places = [f"s{i},{52.5 + i / 1000},13.4" for i in range(9)]
    Path("stations.csv").write_text("\n".join(["id,lat,lon", *places]))
    time = pd.date_range("2024-05-01", periods=300, freq="h", name="time")
    values = 50 + 30 * np.sin(2 * np.pi * np.arange(300)[:, None] / 24) + np.arange(9)
    pd.DataFrame(values, time, [f"s{i}" for i in range(9)]).to_csv("readings.csv")
    run_page(ROOT / "README.md", {})
    assert Path("forecast.gpkg").stat().st_size > 100_000
    (snippet,) = [block.text for block in blocks(ROOT / "README.md") if block.kind == "python"]
    lines = [line for line in snippet.splitlines() if line and not line.startswith("from ")]
    assert len(lines) == 5


@pytest.mark.usefixtures("little_training")
def test_getting_started_runs() -> None:
    """A reader who types all of the page gets what the page shows."""
    run_page(DOCS / "getting-started.md", {})
    assert Path("runs/job/forecast.gpkg").is_file()


@pytest.mark.usefixtures("little_training")
def test_python_pages_run() -> None:
    """The snippets of the Python overview and of the evaluation page work, one after the other."""
    names: dict[str, Any] = {}
    run_page(DOCS / "api/index.md", names)
    run_page(DOCS / "evaluation.md", names)
    assert set(names["folds"]["fold"]) == {1, 2, 3}


@pytest.mark.data
def test_demand_page_runs(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippets of the page about demand work on the files of a city."""
    monkeypatch.chdir(tmp_path)
    for name in ("city.gpkg", "od.npz"):
        Path(name).symlink_to(data_dir / "simcity" / name)
    days = np.load(data_dir / "simcity" / "days.npz")["flow_vph"][:2].reshape(-1, 508)
    flows = STGraph(
        gpd.GeoDataFrame(index=range(508), geometry=[None] * 508),
        time=pd.date_range("2026-11-16", periods=len(days), freq="5min", tz="UTC"),
        values=days[:, :, None],
        features=(Feature("flow", "veh/h"),),
    )
    names: dict[str, Any] = {"flows": flows}
    run_page(DOCS / "scenario/demand.md", names)
    assert names["fit"].held_out.n_links == 508


def test_scenario_scripts_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls and files of the page give what it shows, and the first two files the same."""
    from stgraph.scenario.scriptfile import read_scenarios

    monkeypatch.chdir(tmp_path)
    page, names = DOCS / "scenario" / "script.md", dict[str, Any]()
    for block in blocks(page):
        if block.kind == "yaml":
            Path(block.title).write_text(block.text)
    run_page(page, names)
    for name in ("bridge.yaml", "scenario.toml"):
        (scenario,) = read_scenarios(name)
        assert scenario.operations == names["works"].operations
    asked = [read_scenarios(name)[0].outputs for name in ("areas.yaml", "scenario-areas.toml")]
    assert asked[0] == asked[1]
    assert asked[0].isochrones is not None


def test_simulate_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed bridge sends cars over another one, and the page's snippet is sure of it."""
    pytest.importorskip("uxsim")
    monkeypatch.chdir(ROOT / "examples" / "scenarios")
    names: dict[str, Any] = {}
    run_page(DOCS / "scenario/simulate.md", names)
    change = names["flow"]
    assert (change.difference[names["bridges"]] > 50).all()
    assert change.significant[names["bridges"]].all()


def test_scenario_layers_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables and layers that the page names are those that are written."""
    from scenario_results import make_result

    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"result": make_result()}
    page = DOCS / "scenario/layers.md"
    run_page(page, names)
    rows = re.findall(r"^\| `(scenario\w*)` \|", page.read_text(), re.MULTILINE)
    assert rows == list(names["found"])
    assert set(rows) <= set(pyogrio.list_layers("works.gpkg")[:, 0])


def test_equilibrium_page_runs() -> None:
    """The page's snippet finds Braess' paradox."""
    names: dict[str, Any] = {}
    run_page(DOCS / "scenario/equilibrium.md", names)
    assert names["minutes"][1] > names["minutes"][0]


def test_every_python_snippet_is_run() -> None:
    """A page with Python belongs into one of the tests above."""
    run = {"README.md", "docs/getting-started.md", "docs/api/index.md", "docs/evaluation.md"}
    run |= {"docs/scenario/script.md"}  # by test_scenario_scripts_run
    run |= {"docs/scenario/layers.md"}  # by test_scenario_layers_page_runs
    run |= {"docs/scenario/demand.md"}  # by test_demand_page_runs
    run |= {"docs/scenario/equilibrium.md"}  # by test_equilibrium_page_runs
    run |= {"docs/scenario/simulate.md"}  # by test_simulate_page_runs
    assert {page_id(p) for p in PAGES if any(b.kind == "python" for b in blocks(p))} == run


# ---------------------------------------------------------------- SQL


@pytest.mark.postgis
def test_sql_of_the_guide_works(database: str, graph: STGraph) -> None:
    """Every statement of docs/postgis.md runs on what a job leaves there, and finds something."""
    graph = publish_flow(graph, database)
    asked = [block.text for block in blocks(DOCS / "postgis.md") if block.kind == "sql"]
    assert len(asked) > 8
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET search_path = public")
        for text in asked:
            for statement in filter(str.strip, text.split(";")):
                cursor = connection.execute(statement.encode())
                if cursor.description is not None:
                    assert cursor.fetchall(), statement
        columns = {"flow", "flow_q10", "flow_q90"}
        assert columns <= {feature.name for feature in graph.features}


def publish_flow(graph: STGraph, dsn: str) -> STGraph:
    """Publish a forecast of the quantity of the guide around now, with readings and errors."""
    from stgraph_connectors.postgis.schema import init_schema
    from stgraph_connectors.sinks.postgis import write_postgis

    hour = pd.Timestamp.now("UTC").floor("h")
    ids = [f"s{i}" for i in range(graph.n_nodes)]
    xy = gpd.points_from_xy(13.4 + 0.001 * np.arange(len(ids)), np.full(len(ids), 52.5))
    nodes = gpd.GeoDataFrame(geometry=xy, index=ids, crs=4326)
    time = pd.date_range(hour - pd.Timedelta(hours=9), hour, freq="h").as_unit("us")
    seen = graph.replace(nodes=nodes, time=time, features=(Feature("flow", "veh/h"),))
    names = ("flow", "flow_q10", "flow_q50", "flow_q90")
    time = pd.date_range(hour, periods=4, freq="h").as_unit("us")
    values = np.linspace(1, 2, 4 * len(ids) * 4, dtype=np.float32).reshape(4, len(ids), 4)
    issued = hour - pd.Timedelta(hours=1)
    forecast = seen.replace(
        time=time,
        values=values,
        mask=None,
        features=tuple(Feature(name, "veh/h") for name in names),
        provenance={"kind": "forecast", "issued_at": issued.isoformat(), "model": "ridge"},
    )
    steps = pd.MultiIndex.from_product([ids, range(5)], names=["node", "horizon"])
    errors = pd.DataFrame(
        {"mae": 1.0, "coverage_percent": 80.0, "skill_percent": 3.0, "n": 9}, steps
    )
    init_schema(dsn, roles=True)
    write_postgis(forecast, dsn, observations=seen, node_metrics=errors)
    return forecast


# ---------------------------------------------------------------- links and pages


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_resolve(page: Path) -> None:
    """No page links to a file or heading that is not there; mkdocs checks generated anchors."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=FLAGS)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if DOCS in page.parents:
            assert DOCS in path.parents, f"{link} leaves docs/, which is all that the site has"
        if anchor and not anchor.startswith("stgraph"):
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, link


def test_pages_build_strictly_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    """`make docs` works without network, and so do the pages that it makes."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))  # and the page for what is not found
    loads = re.compile(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//|<link[^>]+href="https?://')
    assert not [page.name for page in pages if loads.search(page.read_text())]
