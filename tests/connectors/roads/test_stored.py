"""A graph file that we wrote is a source of roads, in the reading that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from road_graphs import make_roads
from stgraph_connectors.roads.any import read_roads
from stgraph_connectors.roads.lines import read_road_lines
from stgraph_connectors.sinks.graph_file import write_graph

from stgraph.cli import main
from stgraph.errors import DataError
from stgraph.graph import STGraph
from stgraph.neighbours import build_line_graph, build_network


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A cross of two roads at (0, 0), each of two lines of 1 km that run east and north."""
    ends = [[(-1000, 0), (0, 0)], [(0, 0), (1000, 0)], [(0, -1000), (0, 0)], [(0, 0), (0, 1000)]]
    lines = gpd.GeoDataFrame(
        {"name": ["a", "a", "b", "b"]}, geometry=shapely.linestrings(ends), crs=25832
    )
    lines.to_file(tmp_path / "lines.gpkg")
    return tmp_path / "lines.gpkg"


def turns(graph: STGraph) -> set[tuple[Any, Any]]:
    """Edges as pairs of node ids."""
    return set(map(tuple, graph.node_ids.to_numpy()[graph.edge_index].T.tolist()))


def test_the_reading_that_is_stored_comes_back(tmp_path: Path, layer: Path) -> None:
    """Segments as segments, junctions as junctions, unchanged."""
    for nodes in ("segments", "junctions"):
        roads = read_road_lines(layer, oneway="forward", nodes=nodes)
        write_graph(roads, tmp_path / "city.gpkg")
        assert read_roads(tmp_path / "city.gpkg", nodes=nodes).equals(roads)


@pytest.mark.parametrize("u_turns", [False, True])
def test_junctions_become_segments(tmp_path: Path, layer: Path, u_turns: bool) -> None:
    """As if the source had been read in that way."""
    write_graph(read_road_lines(layer, nodes="junctions"), tmp_path / "city.gpkg")
    read = read_roads(tmp_path / "city.gpkg", u_turns=u_turns)
    assert turns(read) == turns(read_road_lines(layer, u_turns=u_turns))
    assert len(read.nodes) == 8


@pytest.mark.parametrize("u_turns", [False, True])
def test_segments_become_junctions(tmp_path: Path, layer: Path, u_turns: bool) -> None:
    """The way back: same ids, ends and lengths, and the same turns once turned again."""
    write_graph(read_road_lines(layer, u_turns=u_turns), tmp_path / "city.gpkg")
    read = read_roads(tmp_path / "city.gpkg", nodes="junctions")
    real = read_road_lines(layer, nodes="junctions")
    assert set(read.node_ids) == set(real.node_ids)
    for one in (read, real):
        assert one.edges is not None
    at = [dict(zip(g.edges["segment_id"], g.node_ids.to_numpy()[g.edge_index].T.tolist(),  # type: ignore[index]
                   strict=True)) for g in (read, real)]  # fmt: skip
    assert at[0] == at[1]
    places = read.nodes.geometry.loc[real.node_ids]
    assert shapely.equals(np.asarray(places), np.asarray(real.nodes.geometry)).all()
    assert read.edge_weight.tolist() == [1000] * 8
    assert "restrictions" not in read.provenance
    assert turns(build_line_graph(read)) == turns(build_line_graph(real))


def test_a_forbidden_turn_stays_forbidden(tmp_path: Path, layer: Path) -> None:
    """It is a turn without an edge, once the segments are nodes."""
    real = read_road_lines(layer, nodes="junctions")
    segments = build_line_graph(real)
    pair = segments.node_ids.to_numpy()[segments.edge_index[:, 0]].tolist()
    real = real.replace(provenance={**real.provenance, "restrictions": [pair]})
    write_graph(build_line_graph(real), tmp_path / "city.gpkg")
    read = read_roads(tmp_path / "city.gpkg", nodes="junctions")
    assert read.provenance["restrictions"] == [pair]


@pytest.mark.parametrize("nodes", ["segments", "junctions"])
def test_built_with_options_and_named_as_roads(
    tmp_path: Path, layer: Path, nodes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`oneway` is said when the file is built; [graph] names the file."""
    monkeypatch.chdir(tmp_path)
    options = [f"lines={layer.name}", "oneway=forward", f"nodes={nodes}"]
    assert main(["graph", "build", "road_lines", *options, "--out", "one.gpkg"]) == 0
    places = gpd.GeoDataFrame(
        geometry=gpd.points_from_xy([-500, 500, 2], [1, 1, 500]), index=list("abc"), crs=25832
    )
    graph = build_network(places, "one.gpkg", weight="length")
    assert turns(graph) == {("a", "b"), ("a", "c")}
    assert graph.edge_weight.tolist() == [1000, 1000]
    both = build_network(places, layer, weight="length")
    assert both.n_edges == 6


def test_what_a_graph_file_cannot_give(tmp_path: Path, layer: Path) -> None:
    """Each says what is stored and what to do."""
    city = tmp_path / "city.gpkg"
    write_graph(read_road_lines(layer), city)
    with pytest.raises(DataError, match=r"`speeds_kmh`: has no use: .* give it when the file is"):
        read_roads(city, speeds_kmh={"residential": 30})
    with pytest.raises(DataError, match=r"`network`: is 'walk', but .* the file has its own"):
        read_roads(city, network="walk")
    with pytest.raises(DataError, match=r"`u_turns`: asks for turns .* build the file with"):
        read_roads(city, u_turns=True)
    segments = read_road_lines(layer)
    nodes = segments.nodes
    write_graph(segments.replace(nodes=nodes.drop(columns="from_junction")), city)
    with pytest.raises(DataError, match=r"no column 'from_junction', .* nodes=junctions"):
        read_roads(city, nodes="junctions")
    bare = nodes.assign(to_junction=nodes["to_junction"].astype(float).where(nodes.index < 0))
    write_graph(segments.replace(nodes=bare), city)
    with pytest.raises(DataError, match=r"8 segments name no junctions"):
        read_roads(city, nodes="junctions")
    one = {"kind": ["station"]}
    places = gpd.GeoDataFrame(one, geometry=gpd.points_from_xy([0], [0]), crs=4326)
    write_graph(STGraph(nodes=places), city)
    with pytest.raises(DataError, match=r"city\.gpkg: is a graph of station; name one that was"):
        read_roads(city)


def test_a_line_that_is_missing_is_drawn_by_nobody(tmp_path: Path) -> None:
    """What cannot become segments is said with the name of the file."""
    write_graph(make_roads(), tmp_path / "city.gpkg")
    with pytest.raises(DataError, match=r"city\.gpkg: cannot build a line graph"):
        read_roads(tmp_path / "city.gpkg")


def test_styles_are_no_layer(layer: Path) -> None:
    """QGIS keeps styles in a table of the file; the one layer of lines is still the only one."""
    import pyogrio

    pyogrio.write_dataframe(pd.DataFrame({"styleName": ["x"]}), layer, layer="layer_styles")
    assert "layer_styles" in pyogrio.list_layers(layer)[:, 0]
    assert read_roads(layer, nodes="junctions").n_nodes == 5
    pyogrio.write_dataframe(gpd.read_file(layer, layer="lines"), layer, layer="more")
    with pytest.raises(DataError, match=r"holds 2 layers; name one with layer=: \['lines', 'more"):
        read_roads(layer)
