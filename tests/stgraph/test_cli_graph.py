"""`stgraph graph`: from any connector or job to layers, and what the graph is like."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import shapely
from road_graphs import make_roads
from stgraph_connectors.graph_file import read_graph
from stgraph_connectors.sinks.graph_file import write_graph

from stgraph.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder with four stations and three hours of readings."""
    monkeypatch.chdir(tmp_path)
    Path("stations.csv").write_text(
        "id,lat,lon\na,52.50,13.40\nb,52.51,13.40\nc,52.52,13.40\nd,52.53,13.41\n"
    )
    time = pd.date_range("2024-05-01", periods=3, freq="h", name="time")
    pd.DataFrame([[1, 2, 3, 4]] * 3, time, list("abcd")).to_csv("readings.csv")
    Path("job.toml").write_text(
        '[data]\nstations = "stations.csv"\nreadings = "readings.csv"\n[graph]\nk = 1\n'
    )


STATIONS = ["stations", "stations=stations.csv", "readings=readings.csv"]


def test_a_connector_becomes_layers(capsys: Capture) -> None:
    """Options as KEY=VALUE, edges by a builder with an option of its own."""
    more = ["--neighbours", "knn", "--set", "graph.k=2", "--out", "s.gpkg", "-q"]
    assert main(["graph", "build", *STATIONS, *more]) == 0
    out, err = capsys.readouterr()
    assert out == "s.gpkg: 4 nodes, 8 directed edges, 1 component(s)\n"
    assert "not in the graph file" in err  # the readings
    assert read_graph("s.gpkg").n_edges == 8
    assert main(["graph", "build", *STATIONS, *more, "--force", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"outputs": ["s.gpkg"], "nodes": 4, "edges": 8, "components": 1}


def test_without_edges_the_next_step_is_said(capsys: Capture) -> None:
    assert main(["graph", "build", *STATIONS]) == 0
    assert "there are no edges; make some with --neighbours knn" in capsys.readouterr().out
    assert Path("graph.gpkg").is_file()


def test_a_job_becomes_layers(capsys: Capture) -> None:
    """[data] and [graph] of a file; `--set` changes them, paths are those of the file."""
    assert main(["graph", "build", "job.toml", "--out", "j.gpkg"]) == 0
    assert read_graph("j.gpkg").n_edges == 4
    assert main(["graph", "build", "job.toml", "--out", "k.gpkg", "--set", "graph.k=3"]) == 0
    assert read_graph("k.gpkg").n_edges == 12
    capsys.readouterr()
    assert main(["graph", "info", "job.toml", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["steps"], answer["components"]) == (3, 1)
    assert answer["time"] == "2024-05-01T00:00:00+00:00 to 2024-05-01T02:00:00+00:00 (UTC)"


def test_info_tells_what_a_road_graph_is_like(capsys: Capture) -> None:
    """Sizes, degrees, lengths, speeds and findings, of a file as it is now."""
    write_graph(make_roads(), "city.gpkg")
    assert main(["graph", "info", "city.gpkg", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    expected = {
        "nodes": 4,
        "node kinds": {"junction": 4},
        "edges": 6,
        "CRS": "EPSG:4326 WGS 84",
        "extent (west, south, east, north)": [7.418, 43.729, 7.4224, 43.731],
        "components": 1,
        "largest components (nodes)": [4],
        "isolated nodes": 0,
        "edges out of a node": "1 to 2, mean 1.5",
        "loops": 1,
        "parallel edges": 0,
        "total length (km)": 0.986,
        "imputed speeds (%)": 66.7,
        "forbidden turns": 1,
        "signal": "none",
        "findings": [],
    }
    assert expected.items() <= facts.items()
    assert main(["graph", "info", "city.gpkg"]) == 0
    out = capsys.readouterr().out
    assert "total length (km) │ 0.986" in out


def test_values_are_toml_or_text(capsys: Capture) -> None:
    """Numbers, lists and tables as TOML; what is none is text."""
    more = ["zone=Europe/Berlin", 'roles={value="observed"}', "missing=zero", "step_minutes=60"]
    assert main(["graph", "info", *STATIONS, *more, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["time"].endswith("(Europe/Berlin)")


def test_a_file_of_roads_needs_no_connector(capsys: Capture) -> None:
    """What exists, or is called like roads, is read by the connector `roads`."""
    write_streets()
    Path("streets.gpkg").rename("lines.gpkg")
    gpd.read_file("lines.gpkg").to_file("streets.geojson", engine="pyogrio")
    assert main(["graph", "info", "streets.geojson", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["node kinds"] == {"segment": 4}
    assert main(["graph", "info", "streets.geojson", "nodes=junctions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["node kinds"] == {"junction": 4}


BAD = {
    "a file of roads that is missing": (["monaco.osm.gz"], "monaco.osm.gz: no such file"),
    "a table": (["stations.csv"], "write: stations stations=stations.csv"),
    "an option of a builder": (
        [*STATIONS, "k=4"],
        "`k` is no option of stations but of the graph builder knn; write: --neighbours knn --set "
        "graph.k=4",
    ),
    "an option of the builder that is asked for": (
        [*STATIONS, "radius_m=500", "--neighbours", "gaussian"],
        "of the graph builder gaussian; write: --set graph.radius_m=500",
    ),
    "an unknown connector": (["osmm"], "no connector is called 'osmm'"),
    "an unknown option": (
        [*STATIONS, "zon=UTC"],
        "command line, [data] `zon`: is an unknown key (did you mean 'zone'?)",
    ),
    "no option": ([*STATIONS, "zone"], "'zone' is not KEY=VALUE; write it as in path=city.osm.pbf"),
    "a secret in place of an option": (
        [*STATIONS, "postgresql://me:hush@host/db?a=b"],
        "'postgresql' is not KEY=VALUE",
    ),
    "a wrong type": ([*STATIONS, "step_minutes=soon"], "`step_minutes`: cannot be 'soon'; give"),
    "a missing option": (["stations"], "`stations`: is missing; add `stations = ...`"),
    "a missing file": (["stations", "stations=no.csv"], "no.csv"),
    "a missing job": (["no.toml"], "there is no such file"),
    "options of a job": (["job.toml", "zone=UTC"], "change it with --set data.zone=..."),
    "an unknown builder": ([*STATIONS, "--neighbours", "knnn"], "cannot be 'knnn' (did you mean"),
    "an unknown option of a builder": (
        [*STATIONS, "--neighbours", "knn", "--set", "graph.kk=1"],
        "[graph] `kk`: is an unknown key",
    ),
    "no graph file": (["none.gpkg"], "there is no file"),
    "another GeoPackage": (["other.gpkg"], "was not written by stgraph"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["build", "info"])
def test_bad_input_is_one_message(capsys: Capture, command: str, name: str) -> None:
    """Exit code 2, what and what to do, no traceback, no file, no secret."""
    arguments, message = BAD[name]
    if "other.gpkg" in arguments:
        make_roads().nodes.to_file("other.gpkg")
    before = set(Path().iterdir())
    assert main(["graph", command, *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err.replace("\n", " ")
    assert "Traceback" not in err
    assert "hush" not in out + err
    assert set(Path().iterdir()) == before


def test_an_existing_file_is_not_replaced_by_accident(capsys: Capture) -> None:
    """Somebody may have edited it for hours."""
    Path("graph.gpkg").write_text("precious")
    assert main(["graph", "build", *STATIONS]) == 2
    assert "already there" in capsys.readouterr().err
    assert Path("graph.gpkg").read_text() == "precious"
    assert main(["graph", "build", *STATIONS, "--out", "a.shp"]) == 2
    assert "does not end in .gpkg" in capsys.readouterr().err


def test_a_target_that_cannot_be_written_is_refused_before_anything_is_read(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A city takes minutes to read."""
    monkeypatch.setattr("stgraph.pipeline.connect_graph", lambda job: pytest.fail("it was read"))
    for name, message in (("a.shp", "does not end in .gpkg"), ("no/a.gpkg", "folder 'no' does")):
        assert main(["graph", "build", *STATIONS, "--out", name]) == 2
        assert message in capsys.readouterr().err


# ---------------------------------------------------------------- stgraph graph snap


def write_streets() -> None:
    """Two roads 10 m apart at 52.51 north, both ways, where the stations b and c are."""
    ends = [[(13.39, y), (13.41, y)] for y in (52.51, 52.5101)]
    lines = gpd.GeoDataFrame({"way": ["E", "E"]}, geometry=shapely.linestrings(ends), crs=4326)
    lines.to_file("streets.gpkg")
    Path("near.csv").write_text(
        "id,lat,lon,way\na,52.51,13.40,E\nb,52.51005,13.40,E\nc,52.6,13.4,W\n"
    )


def test_stations_on_roads_become_layers(capsys: Capture) -> None:
    """Where each was put, and lines to all that was weighed: options as those of the builder."""
    write_streets()
    assert main(["graph", "snap", "near.csv", "streets.gpkg", "--out", "s.gpkg", "-q"]) == 0
    out = capsys.readouterr().out
    assert "s.gpkg: 3 stations: 1 snapped, 1 ambiguous, 1 too far" in out
    stations = gpd.read_file("s.gpkg", layer="stations").set_index("station")
    assert stations["status"].to_dict() == {"a": "snapped", "b": "ambiguous", "c": "too far"}
    assert stations["direction"].tolist()[0] == "unknown"
    candidates = gpd.read_file("s.gpkg", layer="candidates")
    assert candidates["station"].tolist() == ["a", "b", "b", "b", "b"]
    assert set(candidates.geom_type) == {"LineString"}
    more = ["--set", "graph.heading_column=way", "--set", "graph.max_snap_m=2", "--json"]
    assert main(["graph", "snap", "near.csv", "streets.gpkg", *more, "-q"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["outputs"] == ["snapping.gpkg"]
    assert answer["status"] == {"too far": 2, "snapped": 1}
    assert gpd.read_file("snapping.gpkg", layer="stations")["direction"][0] == "heading"
    assert sorted(path.name for path in Path().glob(".*")) == []


@pytest.mark.parametrize(
    "tables",
    [
        '[graph]\nmethod = "network"\nroads = "streets.gpkg"\nmax_snap_m = 6\nk = 1\n',
        '[graph]\nmethod = "none"\n[roads]\nsource = "streets.gpkg"\nmax_snap_m = 6\n',
    ],
)
def test_a_job_snaps_as_it_would(capsys: Capture, tables: str) -> None:
    """The roads and options of [graph], or else of [roads]."""
    write_streets()
    Path("near.toml").write_text(f'[data]\nstations = "near.csv"\n{tables}')
    assert main(["graph", "snap", "near.toml", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == {
        "snapped": 1, "ambiguous": 1, "too far": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["near.csv"], "the roads are missing; write: stgraph graph snap near.csv ROADS"),
        (["job.toml"], "this job has no roads: neither a table [roads] nor"),
        (["job.toml", "streets.gpkg"], "says which roads it has; leave 'streets.gpkg' out"),
        (["near.csv", "none.gpkg"], "none.gpkg: no such file"),
        (["near.csv", "streets.gpkg", "--set", "graph.max_snap_m=-1"], "`max_snap_m` is -1"),
        (["near.csv", "streets.gpkg", "--out", "a.shp"], "does not end in .gpkg"),
    ],
)
def test_stations_that_cannot_be_snapped(
    capsys: Capture, arguments: list[str], message: str
) -> None:
    write_streets()
    before = set(Path().iterdir())
    assert main(["graph", "snap", *arguments]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert set(Path().iterdir()) == before


def test_help_and_the_group_itself(capsys: Capture) -> None:
    assert main(["graph", "--help"]) == 0
    assert "build" in capsys.readouterr().out
    assert main(["graph"]) == 2
