"""GMNS folders: units, uses, lines stored apart, movements, and files that do not fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import shapely
from stgraph_connectors.roads.gmns import read_gmns

from stgraph.errors import DataError
from stgraph.graph import STGraph

# a - b - c in a row, b - d to the north; a-b is open both ways, w is a footway beside b-c
FILES = {
    "config": "dataset_name,long_length,speed,crs\nvillage,mile,mph,EPSG:25832\n",
    "node": (
        "node_id,name,x_coord,y_coord,ctrl_type\n"
        "1,a,500000,5400000,\n2,b,500100,5400000,signal\n3,c,500300,5400000,\n4,d,500100,5400050,\n"
    ),
    "link": (
        "link_id,name,from_node_id,to_node_id,directed,geometry_id,dir_flag,length,facility_type,"
        "free_speed,lanes,allowed_uses\n"
        '10,Main,1,2,false,,,0.0621,arterial,30,1,"auto,bike"\n'
        "20,Main,2,3,true,7,1,0.1243,arterial,40,2,all\n"
        "21,Main,3,2,true,7,-1,0.1243,arterial,40,1,motor\n"
        "30,North,2,4,1,,,,local,,,\n"
        "31,North,4,2,1,,,,local,,,\n"
        "40,Path,2,3,0,,,,path,3,,walk\n"
    ),
    "geometry": (
        "geometry_id,geometry\n"
        '7,"LINESTRING (500100 5400000, 500200 5400001, 500300 5400000)"\n'
    ),
    "use_group": "use_group,uses\nmotor,\"auto, truck\"\nroad,motor;bike\n",
    "movement": (
        "mvmt_id,node_id,ib_link_id,ob_link_id,type,allowed_uses\n"
        "1,2,10,20,thru,\n2,2,21,10,thru,auto\n3,2,21,30,right,bike\n"
    ),
}  # fmt: skip
MILE = 1609.344


def write(folder: Path, **changes: tuple[str, str] | str | None) -> Path:
    """Write the village; of a file a text may be replaced, and None leaves it out."""
    for name, text in FILES.items():
        change = changes.get(name, ("", ""))
        if change is None:
            continue
        if isinstance(change, tuple):
            assert change[0] in text
            text = text.replace(*change) if change[0] else text
        else:
            text = change
        (folder / f"{name}.csv").write_text(text)
    return folder


def turns(graph: STGraph) -> set[str]:
    link = graph.nodes["link_id"].to_numpy()
    return {f"{link[a]} {link[b]}" for a, b in graph.edge_index.T}


def test_a_folder_becomes_a_road_graph(tmp_path: Path) -> None:
    """Miles and mph, a link open both ways, lines of a file of their own, the footway left out."""
    graph = read_gmns(write(tmp_path), nodes="junctions")
    assert list(graph.node_ids) == [1, 2, 3, 4]
    assert graph.nodes["ctrl_type"].fillna("").tolist() == ["", "signal", "", ""]
    edges = graph.edges
    assert edges["link_id"].tolist() == ["10", "10", "20", "21", "30", "31"]
    assert graph.edge_index.T.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1], [1, 3], [3, 1]]
    expected = [0.0621 * MILE, 0.0621 * MILE, 0.1243 * MILE, 0.1243 * MILE, 50, 50]
    assert edges["length_m"].tolist() == pytest.approx(expected)
    assert edges["speed_kmh"].iloc[:3].tolist() == pytest.approx([48.28, 48.28, 64.37], abs=0.01)
    assert edges["speed_imputed"].tolist() == [False] * 4 + [True] * 2
    assert edges["oneway"].tolist() == [False, False, True, True, True, True]
    assert edges["highway"].iloc[0] == "arterial"
    assert shapely.get_num_coordinates(edges.geometry.to_numpy()).tolist() == [2, 2, 3, 3, 2, 2]
    # the line that two links share runs from the first node of each
    assert shapely.get_coordinates(edges.geometry.iloc[3])[0].tolist() == [500300, 5400000]
    assert "1 of 6 links are not for 'auto'" in str(graph.report)


def test_movements_forbid_the_others_of_their_link(tmp_path: Path) -> None:
    """10 and 21 have movements, 31 has none and may turn anywhere; a movement for bikes is none."""
    folder = write(tmp_path)
    assert turns(read_gmns(folder)) == {"10 20", "21 10", "31 10", "31 20"}
    (folder / "movement.csv").unlink()
    assert turns(read_gmns(folder)) == {"10 20", "10 30", "21 10", "21 30", "31 10", "31 20"}


def test_uses_and_groups_of_uses(tmp_path: Path) -> None:
    """Groups hold uses and groups; links that name no use are for all."""
    folder = write(tmp_path, movement=None)
    links = {
        use: sorted(set(read_gmns(folder, use=use).nodes["link_id"].astype(int)))
        for use in ("auto", "truck", "bike", "walk", "all", None)
    }
    assert links["auto"] == [10, 20, 21, 30, 31]
    assert links["truck"] == [20, 21, 30, 31]
    assert links["bike"] == [10, 20, 30, 31]
    assert links["walk"] == [20, 30, 31, 40]
    assert links["all"] == links[None] == [10, 20, 21, 30, 31, 40]


def test_units_are_found_out_where_nobody_says_them(tmp_path: Path) -> None:
    """Lengths tell their unit by what the lines measure; speeds are taken, and it is said."""
    folder = write(tmp_path, config=None)
    graph = read_gmns(folder, nodes="junctions", crs="EPSG:25832")
    assert graph.edges["length_m"].iloc[0] == pytest.approx(0.0621 * MILE)
    assert "nothing says its unit; it fits mi" in str(graph.report)
    assert "taken as mph" in str(graph.report)
    metric = read_gmns(folder, nodes="junctions", crs="EPSG:25832", length_unit="km")
    assert metric.edges["length_m"].iloc[0] == pytest.approx(62.1)
    assert metric.edges["speed_kmh"].iloc[0] == 30


def test_a_config_that_the_lengths_do_not_fit(tmp_path: Path) -> None:
    """The networks that come with the specification say mile and have feet."""
    config = FILES["config"].replace("mile", "foot")
    graph = read_gmns(write(tmp_path, config=config), nodes="junctions")
    assert graph.edges["length_m"].iloc[0] == pytest.approx(0.0621 * MILE)
    assert "says ft, but the lengths are what the lines measure in mi" in str(graph.report)
    insisted = read_gmns(tmp_path, nodes="junctions", length_unit="ft")
    assert insisted.edges["length_m"].iloc[0] == pytest.approx(0.0621 * 0.3048)


def test_ids_are_those_of_the_links_where_each_is_one_way(tmp_path: Path) -> None:
    """And the same whatever the order of rows."""
    text = FILES["link"].replace("1,2,false", "1,2,true")
    one = read_gmns(write(tmp_path, link=text, movement=None))
    assert list(one.node_ids) == [10, 20, 21, 30, 31]
    lines = FILES["link"].splitlines()
    whole = read_gmns(write(tmp_path, movement=None))
    turned = read_gmns(write(tmp_path, link="\n".join([lines[0], *lines[:0:-1]]), movement=None))
    assert set(whole.node_ids) == set(turned.node_ids)


def test_named_nodes_get_numbers(tmp_path: Path) -> None:
    """Text ids are kept in `node_id`; the file of links may be named in place of the folder."""
    node = FILES["node"].replace("\n1,", "\nA,")
    link = FILES["link"].replace("Main,1,2", "Main,A,2")
    folder = write(tmp_path, node=node, link=link)
    graph = read_gmns(folder / "link.csv", nodes="junctions")
    assert graph.nodes["node_id"].tolist() == ["A", "2", "3", "4"]
    assert graph.nodes.index.is_unique


def test_degrees_without_a_config(tmp_path: Path) -> None:
    """As converters from OSM write it: no config, longitudes and latitudes, dir_flag alone."""
    (tmp_path / "node.csv").write_text("node_id,x_coord,y_coord\n1,9.0,50.0\n2,9.01,50.0\n")
    (tmp_path / "link.csv").write_text(
        "link_id,from_node_id,to_node_id,dir_flag,length,free_speed,geometry\n"
        '1,1,2,1,716.7,50,"LINESTRING (9 50, 9.01 50)"\n'
    )
    graph = read_gmns(tmp_path, nodes="junctions")
    assert graph.nodes.crs.to_epsg() == 4326
    assert graph.edges["length_m"].tolist() == [716.7]
    assert graph.edges["speed_kmh"].tolist() == [50]
    assert "taken as longitude and latitude" in str(graph.report)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"node": None}, r"node\.csv: is not in"),
        ({"link": None}, r"link\.csv: is not in"),
        ({"node": ("x_coord", "longitude")}, r"node\.csv: has no column \['x_coord'\]"),
        ({"link": ("to_node_id", "to_node")}, r"link\.csv: has no column \['to_node_id'\]"),
        ({"link": ("Main,1,2", "Main,9,2")}, "'9' is no node of node.csv .1 such links"),
        ({"link": ("20,Main", "10,Main")}, "1 links have no id, or one that an earlier one has"),
        ({"link": ("0.0621", "short")}, "column `length`, line 2: 'short' is no number"),
        ({"link": (",false,", ",perhaps,")}, "'perhaps' is neither true nor false"),
        ({"node": ("500300", "east")}, "'east' is no number"),
        ({"node": ("3,c,500300", "2,c,500300")}, "1 nodes have an id twice"),
        ({"node": ("3,c,500300", "3,c,")}, "1 nodes have no place"),
        ({"config": ("25832", "99999999")}, "is no CRS"),
        ({"config": ("25832", "4326")}, "cannot be of WGS 84, these look like metres"),
        ({"config": None}, "nothing names a CRS, and these are no degrees"),
        ({"link": FILES["link"].splitlines()[0] + "\n"}, "there is a header but no rows"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    """With file, column and line."""
    with pytest.raises(DataError, match=match):
        read_gmns(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"use": "ship"}, None),
        ({"length_unit": "mile"}, "unknown unit 'mile'.*did you mean 'mi'"),
        ({"speed_unit": "kmh"}, "unknown unit 'kmh'"),
        ({"crs": 4326}, r"config\.csv says ETRS89 / UTM zone 32N but crs= says WGS 84"),
        ({"nodes": "node"}, "`nodes`: is 'node'"),
    ],
)
def test_options_that_cannot_be_used(
    tmp_path: Path, options: dict[str, Any], match: str | None
) -> None:
    """A use that no link names leaves those that are for all."""
    folder = write(tmp_path)
    if match is None:
        assert len(read_gmns(folder, **options).nodes) == 3
        return
    with pytest.raises(DataError, match=match):
        read_gmns(folder, **options)


def test_a_use_that_no_link_is_for(tmp_path: Path) -> None:
    """It says which uses there are."""
    text = "\n".join(FILES["link"].splitlines()[:2]) + "\n"
    with pytest.raises(DataError, match=r"no link is for 'rail'; there are .*auto,bike"):
        read_gmns(write(tmp_path, link=text), use="rail")


def test_swapped_coordinates(tmp_path: Path) -> None:
    """Latitudes as x and longitudes above 90 as y cannot be anywhere."""
    (tmp_path / "node.csv").write_text("node_id,x_coord,y_coord\n1,-36.8,174.7\n2,-36.9,174.7\n")
    (tmp_path / "link.csv").write_text("link_id,from_node_id,to_node_id,directed\n1,1,2,1\n")
    with pytest.raises(DataError, match="latitude and longitude look swapped; swap x_coord and"):
        read_gmns(tmp_path)


def test_shapes_and_movements_that_do_not_fit(tmp_path: Path) -> None:
    """A line that is none becomes straight, a movement of nowhere is left out; both are told."""
    folder = write(tmp_path, geometry=("LINESTRING", "LINE"), movement=("3,2,21,30", "3,2,21,99"))
    report = str(read_gmns(folder).report)
    assert "is no LINESTRING (2 such); a straight line is taken in its place" in report
    assert "1 movements name a node or link that is not there" in report
    assert "no such folder (did you mean" in str(_refusal(folder.with_name(folder.name + "x")))


def _refusal(folder: Path) -> BaseException:
    with pytest.raises(DataError) as error:
        read_gmns(folder)
    return error.value
