"""`stgraph graph`: build a graph without a job, as layers to look at, and say what it is like."""

# ruff: noqa: ARG001  # --debug and --quiet are options that `stgraph.cli.main` reads

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stgraph import registry
from stgraph.errors import ConfigError, InputError, OutputError, nearest_name

if TYPE_CHECKING:  # the commands import what they need, so that `stgraph --help` is quick
    import geopandas as gpd

    from stgraph.config import JobConfig
    from stgraph.neighbours.snapping import Snapping

graph = typer.Typer(no_args_is_help=True, help="Build a graph as layers, and say what it is like.")

# endings of files that are given in place of a connector
_ROADS = (".osm", ".osm.gz", ".osm.bz2", ".pbf", ".graphml", ".graphml.gz", ".net.xml", ".tntp")
_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".h5", ".hdf5", ".npz")

What = Annotated[
    str,
    typer.Argument(
        metavar="CONNECTOR|FILE",
        help="Name of a connector, the TOML file of a job, a graph or roads.",
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Options of the connector, values as in TOML."),
]
Neighbours = Annotated[
    str | None,
    typer.Option("--neighbours", metavar="METHOD", help="Make these edges: knn, radius, ..."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Use this value, as in graph.k=8."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")]
Debug = Annotated[bool, typer.Option("--debug", help="More messages, and tracebacks.")]


@graph.command()
def build(
    what: What,
    options: Options = None,
    out: Annotated[Path, typer.Option("--out", help="File to write, .gpkg.")] = Path("graph.gpkg"),
    neighbours: Neighbours = None,
    changes: Set = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read a source and write its nodes and edges as layers that open coloured in QGIS."""
    from stgraph import pipeline, terminal
    from stgraph.description import component_sizes

    job = _job(what, options or [], neighbours, changes or [])
    _check_target(out, force=force)
    built = pipeline.connect_graph(job)
    write = registry.load("sinks", "graph")
    write(built, out, overwrite=force)
    parts = len(component_sizes(built))
    if json:
        sizes = {"nodes": built.n_nodes, "edges": built.n_edges, "components": parts}
        terminal.print_json({"outputs": [str(out)], **sizes})
        return
    counted = f"{built.n_nodes:,} nodes, {built.n_edges:,} directed edges, {parts:,} component(s)"
    terminal.print_line(f"{out}: {counted}")
    warnings = len(built.report.warnings)
    if warnings:
        terminal.print_line(f"{warnings} warning(s); see them with: stgraph graph info {out}")
    if not built.n_edges:
        terminal.print_line("there are no edges; make some with --neighbours knn")


@graph.command()
def info(
    what: What,
    options: Options = None,
    neighbours: Neighbours = None,
    changes: Set = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show sizes, extent, components, degrees, lengths, signal and findings of a graph."""
    from stgraph import pipeline, terminal
    from stgraph.description import describe_graph

    built = pipeline.connect_graph(_job(what, options or [], neighbours, changes or []))
    facts = describe_graph(built)
    if json:
        findings = built.report.to_frame().to_dict(orient="records")
        terminal.print_json({**facts, "findings": findings})
        return
    terminal.print_pairs(facts, title=what)
    if len(built.report):
        terminal.print_findings(built.report, title="What was found")


@graph.command()
def snap(
    stations: Annotated[
        str, typer.Argument(metavar="STATIONS|JOB", help="File of stations, or the TOML of a job.")
    ],
    roads: Annotated[
        str | None, typer.Argument(metavar="[ROADS]", help="File of roads; a job has its own.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="File to write, .gpkg.")] = Path(
        "snapping.gpkg"
    ),
    changes: Set = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Put stations onto roads as a job would, and write where, and what else was near."""
    from stgraph import terminal

    job = _snapping_job(stations, roads, changes or [])
    _check_target(out, force=force)
    snapping = _snap(job)
    layers = {
        "stations": snapping.stations.reset_index(names="station"),
        "candidates": snapping.candidates,
    }
    write_layers(layers, out)
    counted = layers["stations"]["status"].value_counts()
    counts = {str(status): int(n) for status, n in counted.items()}
    if json:
        findings = snapping.report.to_frame().to_dict(orient="records")
        sizes = {"stations": len(layers["stations"]), "status": counts}
        terminal.print_json({"outputs": [str(out)], **sizes, "findings": findings})
        return
    words = ", ".join(f"{n:,} {status}" for status, n in counts.items())
    terminal.print_line(f"{out}: {len(layers['stations']):,} stations: {words}")
    if len(snapping.report):
        terminal.print_findings(snapping.report, title="What was found")


def _snapping_job(stations: str, roads: str | None, changes: list[str]) -> JobConfig:
    """Return the job that names stations and roads, or that is made of both files."""
    from stgraph.configfile import check_tables, read_config

    if stations.lower().endswith(".toml"):
        if roads is not None:
            raise ConfigError(
                f"{stations} says which roads it has; leave {roads!r} out, or use others with "
                "--set graph.roads=... or --set roads.source=..."
            )
        return read_config(stations, overrides=changes)
    if roads is None:
        raise ConfigError(f"the roads are missing; write: stgraph graph snap {stations} ROADS")
    return check_tables(
        {
            "data": {"connector": "stations", "stations": stations},
            "graph": {"method": "network", "roads": roads},
        },
        name="command line",
        title=f"{stations} and {roads} cannot be used like this",
        folder=Path.cwd(),
        overrides=changes,
    )


def _snap(job: JobConfig) -> Snapping:
    """Return where the stations of a job lie on its roads: those of [graph], or of [roads]."""
    from stgraph import pipeline
    from stgraph.config import GraphConfig, reveal
    from stgraph.neighbours.snapping import snap_stations

    options: dict[str, Any]
    if job.graph.method == "network":
        options = dict(job.graph.options)
        name, where = "roads", {"source": options["roads"], "nodes": "junctions"}
        where |= {"network": options.get("network")}
    elif job.roads is not None:
        options = dict(job.roads)
        name, where = job.roads.connector, reveal(job.roads.options)
    else:
        raise ConfigError(
            "this job has no roads: neither a table [roads] nor [graph] with method = 'network'; "
            "write: stgraph graph snap STATIONS ROADS"
        )
    max_snap_m = options.get("max_snap_m", 50.0)
    if not max_snap_m > 0:
        raise ConfigError(f"`max_snap_m` is {max_snap_m!r}; use metres above 0")
    bare = {"graph": GraphConfig(method="none"), "source": ()}
    places = pipeline.connect_graph(job.model_copy(update=bare))
    network = registry.load("connectors", name)(**where)
    return snap_stations(
        places,
        network,
        max_distance_m=max_snap_m,
        heading_column=options.get("heading_column"),
        road_column=options.get("road_column"),
        side=options.get("side"),
    )


def write_layers(layers: Mapping[str, gpd.GeoDataFrame], out: Path) -> None:
    """Write tables as layers of a GeoPackage, which appears complete or not at all."""
    import pyogrio

    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=out.parent) as folder:
            aside = Path(folder) / out.name
            for name, layer in layers.items():
                layer.to_file(aside, layer=name, driver="GPKG", engine="pyogrio")
            aside.replace(out)
    except (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.FeatureError) as error:
        raise OutputError(
            f"cannot write {str(out)!r}: {error}; check free space and permissions, nothing was "
            "left behind"
        ) from error


def _check_target(out: Path, *, force: bool) -> None:
    """Refuse a file that cannot be written, before minutes go into a graph for it."""
    if out.suffix.lower() != ".gpkg":
        raise InputError(f"--out {str(out)!r} does not end in .gpkg; write for example 'city.gpkg'")
    if not out.parent.is_dir():
        raise OutputError(f"the folder {str(out.parent)!r} does not exist; create it first")
    if out.exists() and not force:
        raise OutputError(f"{out} is already there; choose another name, or replace it: --force")


def _job(what: str, options: list[str], neighbours: str | None, changes: list[str]) -> JobConfig:
    """Return the job that the arguments of a command ask for, checked like a file."""
    from stgraph.configfile import check_tables, read_config

    wanted = [*changes] if neighbours is None else [f"graph.method={neighbours}", *changes]
    for option in options:
        if "=" not in option.lstrip("=") or "://" in option.split("=")[0]:
            shown = option.split("://")[0]
            raise ConfigError(f"{shown!r} is not KEY=VALUE; write it as in path=city.osm.pbf")
    if what.lower().endswith(".toml"):
        if options:
            first = options[0].split("=")[0]
            raise ConfigError(
                f"{what} says where its data comes from; change it with --set data.{first}=..."
            )
        return read_config(what, overrides=wanted)
    data = _data_of(what)
    _check_keys(str(data["connector"]), options, neighbours)
    tables: dict[str, Any] = {"data": data, "graph": {"method": "given"}}
    return check_tables(
        tables,
        name="command line",
        title=f"{what} cannot be read like this",
        folder=Path.cwd(),
        overrides=[*(f"data.{option}" for option in options), *wanted],
    )


def _data_of(what: str) -> dict[str, str]:
    """Return the table [data] for the name of a connector or of a file of roads or a graph."""
    if what.lower().endswith(".gpkg"):
        return {"connector": "graph", "path": what}
    if what in registry.names("connectors"):
        return {"connector": what}
    if Path(what).suffix.lower() in _TABLES:
        raise ConfigError(
            f"{what} is a table, and only you know of what; for stations write: stations "
            f"stations={what}"
        )
    if Path(what).exists() or what.lower().endswith(_ROADS):
        return {"connector": "roads", "source": what}
    known = registry.names("connectors")
    raise ConfigError(
        f"no connector is called {what!r}{nearest_name(what, known)}; there are {known}; "
        "or give the TOML file of a job, a .gpkg that this command wrote, or a file of roads"
    )


def _check_keys(connector: str, options: list[str], neighbours: str | None) -> None:
    """Refuse options that are those of a graph builder, and say how they are given."""
    own = inspect.signature(registry.load("connectors", connector)).parameters
    builders = [neighbours] if neighbours else ["knn", *registry.names("neighbours")]
    for option in options:
        key = option.split("=")[0]
        if key in own:
            continue
        for builder in builders:
            if builder not in registry.names("neighbours"):
                continue
            if key in list(inspect.signature(registry.load("neighbours", builder)).parameters)[1:]:
                asked = "" if neighbours else f"--neighbours {builder} "
                raise ConfigError(
                    f"`{key}` is no option of {connector} but of the graph builder {builder}; "
                    f"write: {asked}--set graph.{option}"
                )
