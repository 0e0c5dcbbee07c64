"""TNTP networks: places, units, zones that nobody passes, and files that do not fit themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from stgraph_connectors.roads.tntp import read_tntp

from stgraph.errors import DataError
from stgraph.graph import STGraph

# zones 1 and 2; 1 - 3 - 4 - 2 with a way back from 4 to 3, and 3 - 2 - 4 through zone 2
NET = """\
<NUMBER OF ZONES> 2
<NUMBER OF NODES> 4
<FIRST THRU NODE> 3
<NUMBER OF LINKS> 6
<ORIGINAL HEADER>~ Tail Head Capacity (veh/h) Length (mi) Free Flow Time (min) B Power Speed (mph)
<END OF METADATA>

~ init_node term_node capacity length free_flow_time b power speed toll link_type ;
\t1\t3\t900\t1\t2\t0.15\t4\t30\t0\t1\t;
\t3\t4\t1800\t2\t2\t0.15\t4\t60\t0\t2\t;
\t4\t3\t1800\t2\t2\t0.15\t4\t0\t0\t2\t;
\t4\t2\t900\t1\t2\t0.15\t4\t30\t0.5\t1\t;
\t3\t2\t900\t1\t2\t0.15\t4\t30\t0\t1\t;
\t2\t4\t900\t1\t2\t0.15\t4\t30\t0\t1\t;
"""
NODES = "Node\tX\tY\t;\n1\t0\t0\t;\n2\t900\t400\t;\n3\t300\t0\t;\n4\t600\t0\t;\n"
MILE = 1609.344


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A net and its nodes in local units."""
    (tmp_path / "town_net.tntp").write_text(NET)
    (tmp_path / "town_node.tntp").write_text(NODES)
    return tmp_path


def turns(graph: STGraph) -> set[str]:
    name = (graph.nodes["from_junction"].astype(str) + graph.nodes["to_junction"].astype(str)).array
    return {f"{name[a]} {name[b]}" for a, b in graph.edge_index.T}


def test_links_with_units_of_the_header(folder: Path) -> None:
    """Miles, minutes and mph, as the original header says; all columns are kept."""
    graph = read_tntp(folder / "town_net.tntp", nodes="junctions")
    assert list(graph.node_ids) == [1, 2, 3, 4]
    edges = graph.edges
    assert edges["length_m"].tolist() == pytest.approx([MILE, 2 * MILE, 2 * MILE, MILE, MILE, MILE])
    assert edges["speed_kmh"].iloc[1] == pytest.approx(60 * 1.609344)
    assert edges["speed_kmh"].iloc[2] == pytest.approx(60 * 1.609344)  # says 0; from the time
    assert not edges["speed_imputed"].any()
    assert edges["capacity"].tolist() == [900, 1800, 1800, 900, 900, 900]
    assert edges["toll"].iloc[3] == 0.5
    assert edges["highway"].tolist() == ["1", "2", "2", "1", "1", "1"]
    assert graph.nodes["is_zone"].tolist() == [True, True, False, False]


def test_zones_are_not_passed(folder: Path) -> None:
    """3 - 2 - 4 is a way only if one may pass through zones."""
    assert turns(read_tntp(folder / "town_net.tntp")) == {
        "13 34",
        "13 32",
        "34 42",
        "43 32",
        "24 43",
    }
    through = read_tntp(folder / "town_net.tntp", through_zones=True)
    assert turns(through) == {"13 34", "13 32", "34 42", "43 32", "32 24", "24 43"}
    # 4 - 2 - 4 is a way back
    assert "42 24" in turns(read_tntp(folder / "town_net.tntp", through_zones=True, u_turns=True))


def test_local_units_are_no_place_on_earth(folder: Path) -> None:
    """Without a CRS the numbers are kept as they are, and it is said; with one they are there."""
    local = read_tntp(folder / "town_net.tntp", nodes="junctions")
    assert local.nodes.crs.name == "local units"
    assert "names no CRS" in str(local.report)
    placed = read_tntp(folder / "town_net.tntp", nodes="junctions", crs="EPSG:25832")
    assert placed.nodes.crs.to_epsg() == 25832
    assert "no CRS" not in str(placed.report)


def test_lengths_without_a_unit_are_measured(folder: Path) -> None:
    """In metres where there is a CRS, in units of the coordinates where there is none."""
    path = folder / "town_net.tntp"
    path.write_text(NET.replace(" (mi)", "").replace(" (mph)", ""))
    local = read_tntp(path, nodes="junctions")
    assert local.edges["length_m"].tolist() == pytest.approx([300, 300, 300, 500, 721.1, 500], 1e-3)
    assert "in units of their coordinates, not metres" in str(local.report)
    placed = read_tntp(path, nodes="junctions", crs="EPSG:25832")
    assert "nothing says the unit of `length`" in str(placed.report)
    assert "made from length and `free_flow_time`" not in str(local.report)
    given = read_tntp(path, nodes="junctions", length_unit="km", time_unit="min")
    assert given.edges["length_m"].tolist() == [1000, 2000, 2000, 1000, 1000, 1000]
    assert "nothing says the unit of `speed`" in str(given.report)
    assert given.edges["speed_kmh"].tolist() == [30, 60, 60, 30, 30, 30]  # from time and length
    spoken = read_tntp(path, nodes="junctions", speed_unit="km/h")
    assert spoken.edges["speed_kmh"].iloc[0] == 30


def test_ids_do_not_depend_on_the_order_of_links(folder: Path) -> None:
    """Sorted otherwise, every link keeps its id; parallel links have one each."""
    lines = NET.splitlines()
    lines[3] = "<NUMBER OF LINKS> 7"
    rows = [*lines[8:], "\t1\t3\t100\t1\t2\t0.15\t4\t10\t0\t3\t;"]
    one = folder / "one_net.tntp"
    one.write_text("\n".join(lines[:8] + rows))
    other = folder / "other_net.tntp"
    other.write_text("\n".join(lines[:8] + rows[3:] + rows[:3]))
    frames = [
        read_tntp(path, coordinates=folder / "town_node.tntp", nodes="junctions").edges
        for path in (one, other)
    ]
    ids = [set(zip(f["segment_id"], f["init_node"], f["term_node"], strict=True)) for f in frames]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 7


def test_coordinates_of_other_kinds(folder: Path) -> None:
    """CSV and GeoJSON; a file that names its CRS needs none."""
    csv = folder / "places.csv"
    csv.write_text("id,x,y\n1,0,0\n2,900,400\n3,300,0\n4,600,0\n")
    assert read_tntp(folder / "town_net.tntp", coordinates=csv, crs="local").n_nodes == 6
    points = [
        f'{{"type": "Feature", "properties": {{"id": {i}}}, "geometry": '
        f'{{"type": "Point", "coordinates": [{x}, 50]}}}}'
        for i, x in enumerate([9, 9.1, 9.2, 9.3], 1)
    ]
    path = folder / "places.geojson"
    path.write_text(f'{{"type": "FeatureCollection", "features": [{", ".join(points)}]}}')
    assert read_tntp(folder / "town_net.tntp", coordinates=path).nodes.crs.to_epsg() == 4326


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("LINKS> 6", "LINKS> 7", "<NUMBER OF LINKS> is 7 but there are 6 rows"),
        ("NODES> 4", "NODES> 3", "line 10: a link from node 3 to 4, but <NUMBER OF NODES> is 3"),
        ("LINKS> 6", "LINKS> six", "<NUMBER OF LINKS> is 'six', no number"),
        ("0.15\t4\t60", "o.15\t4\t60", "line 10, column `b`: 'o.15' is no number"),
        ("\t2\t4\t900\t1\t2\t0.15\t4\t30\t0\t1\t;", "\t2\t4\t900", "has 3 fields.*looks cut off"),
        ("\t4\t2\t900", "\t4.5\t2\t900", "line 12: a link from node 4.5 to 2"),
        ("<NUMBER OF ZONES> 2", "<TOTAL OD FLOW> 9", "is a file of trips, not of a network"),
        ("init_node term_node", "left right", "they are called init_node and term_node"),
    ],
)
def test_files_that_do_not_fit_themselves(folder: Path, old: str, new: str, match: str) -> None:
    """With the line where there is one."""
    assert old in NET
    (folder / "town_net.tntp").write_text(NET.replace(old, new))
    with pytest.raises(DataError, match=match):
        read_tntp(folder / "town_net.tntp")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("4\t600\t0\t;\n", "", r"1 nodes of links have no coordinates: \[4\]"),
        ("3\t300\t0", "4\t300\t0", "1 nodes are there twice"),
        ("3\t300\t0", "3\t300\tnorth", "line 4, column `y`: 'north' is no number"),
        ("900\t400", "9\t4", None),
        ("Node\tX\tY", "Node\tX\tZ", r"has no column \['y'\]"),
    ],
)
def test_nodes_that_do_not_fit(folder: Path, old: str, new: str, match: str | None) -> None:
    """A place is a number, and every node of a link has one."""
    (folder / "town_node.tntp").write_text(NODES.replace(old, new))
    if match is None:
        assert read_tntp(folder / "town_net.tntp").n_nodes == 6
        return
    with pytest.raises(DataError, match=match):
        read_tntp(folder / "town_net.tntp")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"length_unit": "miles"}, "unknown unit 'miles'"),
        ({"time_unit": "mins"}, "unknown unit 'mins'.*did you mean 'min'"),
        ({"crs": 4326}, r"\(0, 0\) cannot be degrees"),
        ({"crs": "EPSG:77777777"}, "is no CRS"),
        ({"coordinates": "no.tntp"}, r"no\.tntp: no such file"),
        ({"nodes": "links"}, "`nodes`: is 'links'"),
    ],
)
def test_options_that_cannot_be_used(folder: Path, options: dict[str, Any], match: str) -> None:
    """Names of units and systems."""
    with pytest.raises(DataError, match=match):
        read_tntp(folder / "town_net.tntp", **options)


def test_nobody_pretends_degrees(folder: Path) -> None:
    """Small numbers may be degrees or not: the user says."""
    (folder / "town_node.tntp").write_text(NODES.replace("00\t", "\t"))
    with pytest.raises(DataError, match="look like degrees; say crs=4326 if they are, or crs='l"):
        read_tntp(folder / "town_net.tntp")
    assert read_tntp(folder / "town_net.tntp", crs="local").nodes.crs.name == "local units"
    assert read_tntp(folder / "town_net.tntp", crs=4326).nodes.crs.to_epsg() == 4326


def test_missing_files(folder: Path) -> None:
    """No net, no nodes, an empty one."""
    (folder / "town_nodes.geojson").write_text("{}")
    (folder / "town_node.tntp").unlink()
    with pytest.raises(DataError, match=r"coordinates=, such as \['town_nodes\.geojson'\]"):
        read_tntp(folder / "town_net.tntp")
    with pytest.raises(DataError, match=r"did you mean 'town_net\.tntp'"):
        read_tntp(folder / "towns_net.tntp")
    (folder / "town_net.tntp").write_text("<NUMBER OF LINKS> 0\n<END OF METADATA>\n")
    with pytest.raises(DataError, match="has no rows"):
        read_tntp(folder / "town_net.tntp")


# ---------------------------------------------------------------- real networks


@pytest.mark.data
def test_sioux_falls(data_dir: Path) -> None:
    """24 nodes and 76 links; lengths fit those that AequilibraE gives for the same links."""
    path = data_dir / "transport-networks/SiouxFalls/SiouxFalls_net.tntp"
    graph = read_tntp(path, crs=4326, time_unit="0.01 h", nodes="junctions")
    assert (graph.n_nodes, graph.n_edges) == (24, 76)
    published = pd.read_csv(path.with_name("SiouxFalls_net.csv"))
    assert (graph.node_ids[graph.edge_index[0]] == published["A"]).all()
    assert (graph.node_ids[graph.edge_index[1]] == published["B"]).all()
    first = graph.edges.iloc[0]
    assert first["length_m"] == pytest.approx(4840, rel=0.005)
    assert first["travel_time_s"] == pytest.approx(6 * 36)
    local = read_tntp(path, coordinates=path.with_name("SiouxFalls_node.csv"), nodes="junctions")
    assert local.nodes.crs.name == "local units"


@pytest.mark.data
def test_anaheim(data_dir: Path) -> None:
    """416 nodes, 914 links; feet, minutes and feet per minute agree with each other."""
    folder = data_dir / "transport-networks/Anaheim"
    options: dict[str, Any] = {"coordinates": folder / "anaheim_nodes.geojson"}
    graph = read_tntp(folder / "Anaheim_net.tntp", nodes="junctions", **options)
    assert (graph.n_nodes, graph.n_edges) == (416, 914)
    assert int(graph.nodes["is_zone"].sum()) == 38
    ratio = graph.edges["travel_time_s"] / 60 / graph.edges["free_flow_time"]
    assert np.abs(ratio - 1).max() < 0.01
    closed = read_tntp(folder / "Anaheim_net.tntp", **options)
    free = read_tntp(folder / "Anaheim_net.tntp", through_zones=True, **options)
    assert free.n_edges > closed.n_edges
