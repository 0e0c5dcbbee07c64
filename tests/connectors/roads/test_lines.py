"""Layers of lines as road networks: what joins, which way, how fast, and what cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from stgraph_connectors.roads.lines import read_road_lines

from stgraph.errors import DataError
from stgraph.graph import STGraph

CRS = "EPSG:25832"
X, Y = 500_000.0, 5_400_000.0


def layer(*wkt: str, crs: Any = CRS, shift: bool = True, **columns: Any) -> gpd.GeoDataFrame:
    """Return lines with coordinates in metres from a place in Germany."""
    shapes = [None if text is None else shapely.from_wkt(text) for text in wkt]
    if shift:
        shapes = [
            shape
            if shape is None or shape.is_empty
            else shapely.transform(shape, move, include_z=bool(shape.has_z))
            for shape in shapes
        ]
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=crs)


def move(xy: np.ndarray) -> np.ndarray:
    return xy + np.array([X, Y, 0.0])[: xy.shape[1]]


# A - B - C in a row, and a road from B to the north
TEE = ("LINESTRING (0 0, 100 0)", "LINESTRING (100 0, 300 0)", "LINESTRING (100 0, 100 50)")


def ends(graph: STGraph) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return where the edges of a primal graph begin and end, in metres from the place."""
    xy = shapely.get_coordinates(np.asarray(graph.nodes.geometry)) - [X, Y]
    return [(tuple(xy[u]), tuple(xy[v])) for u, v in graph.edge_index.T]


def test_a_layer_becomes_junctions_and_directed_segments() -> None:
    """Three two-way roads that meet: four junctions, six segments, lengths in metres."""
    graph = read_road_lines(layer(*TEE), nodes="junctions")
    assert graph.n_nodes == 4
    a, b, c, d = (0, 0), (100, 0), (300, 0), (100, 50)
    assert ends(graph) == [(a, b), (b, a), (b, c), (c, b), (b, d), (d, b)]
    assert graph.edges["length_m"].tolist() == [100, 100, 200, 200, 50, 50]
    assert graph.edges["bearing_deg"].tolist() == [90, 270, 90, 270, 0, 180]
    assert "all lines are open both ways" in str(graph.report)


def test_segments_turn_but_not_back() -> None:
    """The dual: each of the six goes on to the others at B, none turns back."""
    graph = read_road_lines(layer(*TEE))
    assert (graph.n_nodes, graph.n_edges) == (6, 6)
    assert read_road_lines(layer(*TEE), u_turns=True).n_edges == 12


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["yes", "no", "-1"], [1, 2, -1]),
        ([True, False, True], [1, 2, 1]),
        ([1, 0, -1], [1, 2, -1]),
        ([1.0, None, -1.0], [1, 2, -1]),
        (["FT", "", "TF"], [1, 2, -1]),
        (["F", "B", "T"], [1, 2, -1]),
        (["forward", "both", "backward"], [1, 2, -1]),
    ],
)
def test_directions_in_many_words(values: list[Any], expected: list[int]) -> None:
    """1: along the line only, -1: against it, 2: both; the column is found by its name."""
    graph = read_road_lines(layer(*TEE, ONEWAY=values), nodes="junctions")
    found = ends(graph)
    a, b, c, d = (0, 0), (100, 0), (300, 0), (100, 50)
    for (start, stop), ways in zip(((a, b), (b, c), (b, d)), expected, strict=True):
        assert ((start, stop) in found) == (ways != -1)
        assert ((stop, start) in found) == (ways != 1)
    assert "direction from `ONEWAY`" in str(graph.report)


def test_lines_against_their_direction_are_turned() -> None:
    """The line of a segment runs from its source to its target."""
    graph = read_road_lines(layer(TEE[0], oneway=["-1"]), nodes="junctions")
    assert ends(graph) == [((100, 0), (0, 0))]
    start = shapely.get_coordinates(graph.edges.geometry.iloc[0])[0] - [X, Y]
    assert start.tolist() == [100, 0]
    assert graph.edges["oneway"].tolist() == [True]


def test_closed_lines_are_left_out() -> None:
    """N beside FT and TF is closed both ways."""
    graph = read_road_lines(layer(*TEE, oneway=["FT", "N", "TF"]), nodes="junctions")
    assert graph.n_edges == 2
    assert "1 lines are closed both ways" in str(graph.report)


def test_words_of_ones_own_for_directions() -> None:
    """A layer's own codes need oneway_values; a column `direction` is not guessed into use."""
    roads = layer(*TEE, direction=["A", "Z", "X"])
    free = read_road_lines(roads, nodes="junctions")
    assert free.n_edges == 6
    assert "the column was not used" in str(free.report)
    words = {"A": "forward", "z": "backward", "X": "both"}
    graph = read_road_lines(
        roads, nodes="junctions", oneway_column="direction", oneway_values=words
    )
    assert graph.n_edges == 4


def test_lines_with_a_twin_are_one_direction_each() -> None:
    """As in exports of models: every direction has its line."""
    back = "LINESTRING (100 0, 0 0)"
    graph = read_road_lines(layer(TEE[0], back), nodes="junctions")
    assert graph.n_edges == 2
    assert "oneway='both' says otherwise" in str(graph.report)


def test_speeds_in_units_and_words() -> None:
    """Plain numbers have the unit of the option or of the name; text says its own."""
    roads = layer(*TEE, maxspeed=["50", "30 mph", None], limit_mph=[30, 0, 60])
    kmh = read_road_lines(roads, nodes="junctions", oneway="forward").edges
    assert kmh["speed_kmh"].tolist()[:2] == pytest.approx([50, 48.28032])
    assert kmh["speed_imputed"].tolist() == [False, False, True]
    mph = read_road_lines(roads, nodes="junctions", oneway="forward", speed_column="limit_mph")
    assert mph.edges["speed_kmh"].tolist()[::2] == pytest.approx([48.28032, 96.56064])
    assert mph.edges["speed_imputed"].tolist() == [False, False, False]  # `maxspeed` fills in
    metric = read_road_lines(
        roads, nodes="junctions", oneway="forward", speed_column="limit_mph", speed_unit="m/s"
    )
    assert metric.edges["speed_kmh"].iloc[0] == pytest.approx(108)


def test_types_names_lanes_and_all_other_columns_are_kept() -> None:
    """Columns that have a name of ours are renamed, none is lost."""
    roads = layer(
        *TEE, fclass=["primary", "service", "x"], street=["A", "B", "C"], lanes=[2, 4, 1],
        length_m=[1.0, 2.0, 3.0], owner=["c", "c", "p"], oneway=[1, 0, 0],
    )  # fmt: skip
    edges = read_road_lines(roads, nodes="junctions", speeds_kmh={"service": 7}).edges
    assert edges["highway"].tolist() == ["primary", *["service"] * 2, *["x"] * 2]
    assert edges["name"].tolist() == ["A", "B", "B", "C", "C"]
    assert edges["lanes"].tolist() == [2, 2, 2, 1, 1]  # four of both directions are two each
    assert edges["length_m"].tolist() == [100, 200, 200, 50, 50]
    assert edges["length_m_source"].tolist() == [1, 2, 2, 3, 3]
    assert edges["owner"].tolist() == ["c", "c", "c", "p", "p"]
    assert edges["speed_kmh"].iloc[1] == 7


@pytest.mark.parametrize("names", [("{}_ab", "{}_ba"), ("{}_AB", "{}_BA"), ("AB_{}", "BA_{}")])
def test_columns_of_both_directions_give_each_its_own(names: tuple[str, str]) -> None:
    """Lanes that are told by direction are not halved, and both speeds are in the unit given."""
    ahead, back = names
    values = {"lanes": (3, 1), "speed": (50, 30)}
    columns = {n.format(key): [v[i]] for key, v in values.items() for i, n in enumerate(names)}
    graph = read_road_lines(
        layer(TEE[0], **columns), nodes="junctions", speed_unit="mph",
        lanes_column=ahead.format("lanes"), speed_column=ahead.format("speed"),
    )  # fmt: skip
    assert back.format("lanes") in graph.edges
    assert graph.edges["lanes"].tolist() == [3, 1]
    assert graph.edges["speed_kmh"].tolist() == pytest.approx([80.4672, 48.28032])


def test_guessed_speeds_of_a_layer_of_ours_stay_guesses() -> None:
    """What was written with `speed_imputed` is not taken for a measurement."""
    roads = layer(*TEE[:2], speed_kmh=[50.0, 30.0], speed_imputed=[True, False])
    edges = read_road_lines(roads, nodes="junctions", oneway="forward").edges
    assert edges["speed_kmh"].tolist() == [50, 30]
    assert edges["speed_imputed"].tolist() == [True, False]


def test_a_layer_written_twice_keeps_the_columns_of_both() -> None:
    """A column of ours beside one that was kept before: neither takes the place of the other."""
    roads = layer(TEE[0], length_m=[7.0], length_m_source=[8.0])
    edges = read_road_lines(roads, nodes="junctions", oneway="forward").edges
    assert edges["length_m"].tolist() == [100]
    assert edges[["length_m_source", "length_m_source_source"]].to_numpy().tolist() == [[8, 7]]


def test_ids_do_not_depend_on_the_order_of_rows() -> None:
    """Reading the rows in any order gives the same ids of segments and junctions."""
    roads = layer(*TEE, key=["x", "y", "z"])
    shuffled = roads.iloc[[2, 0, 1]].reset_index(drop=True)
    for options in ({}, {"id_column": "key"}):
        one, other = (read_road_lines(r, nodes="junctions", **options) for r in (roads, shuffled))
        for graph in (one, other):
            assert graph.edges["segment_id"].is_unique
        places = [g.nodes.geometry.to_wkt().sort_index().to_dict() for g in (one, other)]
        assert places[0] == places[1]
        shapes = [
            dict(zip(g.edges["segment_id"], g.edges.geometry.to_wkt(), strict=True))
            for g in (one, other)
        ]
        assert shapes[0] == shapes[1]


def test_whole_numbers_of_one_way_lines_are_the_ids() -> None:
    """So that readings by link id find their segment; with two ways they cannot be."""
    roads = layer(*TEE, link=[7, 8, 9])
    assert list(read_road_lines(roads, oneway="forward", id_column="link").node_ids) == [7, 8, 9]
    assert read_road_lines(roads, id_column="link").n_nodes == 6


def test_given_junctions_are_taken() -> None:
    """from_column and to_column say what joins, also where lines cross at an end."""
    roads = layer(*TEE, u=[1, 2, 5], v=[2, 3, 4])
    graph = read_road_lines(roads, nodes="junctions", from_column="u", to_column="v")
    assert sorted(graph.node_ids) == [1, 2, 3, 4, 5]
    assert "the network falls into 2 parts" in str(graph.report)
    named = read_road_lines(
        roads.assign(u=["a", "b", "b"], v=["b", "c", "d"]),
        nodes="junctions", from_column="u", to_column="v",
    )  # fmt: skip
    assert named.nodes["junction"].tolist() == ["a", "b", "c", "d"]


def test_junctions_whose_lines_end_apart_are_told() -> None:
    """Swapped columns or lines drawn the other way: ends of one junction are far apart."""
    roads = layer(*TEE, u=[2, 2, 2], v=[1, 3, 4])
    graph = read_road_lines(roads, nodes="junctions", from_column="u", to_column="v")
    assert "lines end up to 100 m apart" in str(graph.report)


def test_parts_levels_and_heights() -> None:
    """A line of several parts is several roads, heights are left out, levels part."""
    roads = layer(
        "MULTILINESTRING ((0 0, 100 0), (100 0, 200 0))", "LINESTRING Z (100 -50 5, 100 0 6)",
        "LINESTRING (100 0, 100 50)", layer=[1, 0, 0],
    )  # fmt: skip
    flat = read_road_lines(roads, nodes="junctions")
    assert (flat.n_nodes, flat.n_edges) == (5, 8)
    assert not shapely.has_z(np.asarray(flat.edges.geometry)).any()
    bridge = read_road_lines(roads, nodes="junctions", level_column="layer")
    assert (bridge.n_nodes, bridge.n_edges) == (6, 8)
    assert "1 rows have lines of several parts" in str(flat.report)
    assert "1 lines have heights" in str(flat.report)


def test_collections_rings_and_series() -> None:
    """Lines within collections, a ring, and geometry without a table."""
    ring = "LINEARRING (100 0, 200 0, 200 100, 100 0)"
    mixed = f"GEOMETRYCOLLECTION (POINT (0 0), {TEE[0]}, MULTILINESTRING ((100 0, 300 0)))"
    graph = read_road_lines(layer(mixed, ring).geometry, nodes="junctions", oneway="forward")
    assert ends(graph) == [((0, 0), (100, 0)), ((100, 0), (300, 0)), ((100, 0), (100, 0))]


def test_lines_are_cut_where_others_end_on_them() -> None:
    """A long road and a side road that ends on it."""
    roads = layer("LINESTRING (0 0, 300 0)", TEE[2], ref=["B1", "side"])
    graph = read_road_lines(roads, nodes="junctions", split_at_ends=True, oneway="forward")
    assert graph.edges["length_m"].tolist() == [100, 200, 50]
    assert graph.edges["ref"].tolist() == ["B1", "B1", "side"]
    assert "split_at_ends=True" in str(read_road_lines(roads).report)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".shp", ".fgb"])
def test_files_of_many_kinds(tmp_path: Path, suffix: str) -> None:
    """The same network from every kind of file."""
    roads = layer(*TEE, name=["A", "B", "C"]).to_crs(4326)
    path = tmp_path / f"roads{suffix}"
    if suffix == ".parquet":
        roads.to_parquet(path)
    else:
        roads.to_file(path)
    graph = read_road_lines(path, nodes="junctions")
    assert (graph.n_nodes, graph.n_edges) == (4, 6)
    length_m = sorted(graph.edges["length_m"])  # FlatGeobuf has an order of its own
    assert length_m == pytest.approx([50, 50, 100, 100, 200, 200], rel=0.01)
    assert sorted(graph.edges["name"].unique()) == ["A", "B", "C"]


# ---------------------------------------------------------------- bad input: warned of


def test_what_is_no_road_is_left_out_and_told() -> None:
    """Points among lines, empty shapes, lines without length or with NaN, copies."""
    roads = layer(
        *TEE, "POINT (3 3)", None, "LINESTRING EMPTY", "LINESTRING (5 5, 5 5)",
        "LINESTRING (0 0, 9 9)", TEE[0], name=[*"abcdefgh", "a"],
    )  # fmt: skip
    broken = np.asarray(roads.geometry).copy()
    with np.errstate(invalid="ignore"):
        broken[7] = shapely.LineString([(X, Y), (X + 9, np.nan)])
    graph = read_road_lines(roads.set_geometry(broken, crs=CRS), nodes="junctions")
    assert (graph.n_nodes, graph.n_edges) == (4, 6)
    report = str(graph.report)
    assert "1 rows hold Point among the lines" in report
    assert "2 rows have no geometry" in report
    assert "row 7: 1 lines have no length" in report
    assert "row 8: 1 lines have coordinates that are no numbers" in report
    assert "row 9: 1 lines have a copy with the same attributes" in report


def test_lines_over_each_other_that_differ_are_kept() -> None:
    """Two lines of one shape but with other attributes may be two roads; it is said."""
    graph = read_road_lines(layer(TEE[0], TEE[0], ref=["1", "2"]), id_column="ref")
    assert "1 lines lie on another one but have other attributes" in str(graph.report)
    assert graph.n_nodes == 4


def test_a_network_of_parts_is_kept_and_told() -> None:
    """Islands stay; the report has their sizes."""
    graph = read_road_lines(layer(*TEE, "LINESTRING (900 900, 901 900)"), nodes="junctions")
    assert graph.n_nodes == 6
    assert "falls into 2 parts that no road joins: 4 junctions" in str(graph.report)


def test_single_swapped_lines_are_told() -> None:
    """One of four with latitude and longitude swapped, all of them possible places."""
    lines = [f"LINESTRING (8.{i} 49, 8.{i} 49.01)" for i in range(3)]
    graph = read_road_lines(layer(*lines, "LINESTRING (49 8.1, 49.01 8.1)", crs=4326, shift=False))
    assert "would be among them if swapped (1 lines)" in str(graph.report)


# ---------------------------------------------------------------- bad input: refused


@pytest.mark.parametrize(
    ("roads", "options", "match"),
    [
        (layer("POINT (1 1)"), {}, "holds no lines but Point.*connector stations"),
        (layer("POLYGON ((0 0, 1 0, 1 1, 0 0))"), {}, "holds no lines but Polygon"),
        (layer(*TEE, crs=None), {}, "names no CRS; say which, such as crs='EPSG"),
        (layer("LINESTRING (8 49, 9 49)", crs=None, shift=False), {}, "look like degrees"),
        (layer(*TEE), {"crs": 4326}, "is in ETRS89 / UTM zone 32N but crs= says WGS 84"),
        (layer(*TEE), {"crs": "EPSG:99999999"}, "is no CRS"),
        (
            layer("LINESTRING (37 -122, 37.1 -122)", crs=4326, shift=False),
            {},
            "latitude and longitude look swapped",
        ),
        (layer(*TEE, crs=4326), {}, "outside of the globe, these look like metres"),
        (layer("LINESTRING (8 49, 9 49)", shift=False), {}, "looks like degrees, but ETRS89"),
        (layer("LINESTRING (8 8, 8 8)"), {}, "no line is left"),
        (layer(*TEE, crs=4978), {}, "is in the geocentric WGS 84"),
        (layer(*TEE), {"snap_tolerance_m": 999}, "all lines are shorter than 999 m"),
        (layer(*TEE).iloc[:0], {}, "has no rows"),
        (layer(*TEE, name=[*"abc"]), {"name_column": "names"}, "did you mean 'name'"),
        (layer(*TEE, key=[1, 1, 2]), {"id_column": "key"}, "1 lines have an id that an earlier"),
        (layer(*TEE, key=[1, None, 2]), {"id_column": "key"}, "1 lines have no id"),
        (layer(*TEE), {"id_column": "key"}, "no column 'key'"),
        (layer(*TEE, oneway=["yes", "maybe", "no"]), {}, r"values \['maybe'\] say no direction"),
        (layer(*TEE, oneway=["T", "F", "F"]), {}, r"values \['f', 't'\] say no direction"),
        (layer(*TEE), {"oneway": "foward"}, "did you mean 'forward'"),
        (
            layer(*TEE, d=[1, 1, 2]),
            {"oneway_column": "d", "oneway_values": {"2": "back"}},
            "use one of",
        ),
        (layer(*TEE, v=[900] * 3), {"speed_column": "v"}, "say their unit with speed_unit="),
        (layer(*TEE, v=[9] * 3), {"speed_column": "v", "speed_unit": "kmh"}, "mean 'km/h'"),
        (layer(*TEE), {"snap_tolerance_m": -1}, "use metres from 0 up"),
        (layer(*TEE, u=[1, 2, 3]), {"from_column": "u"}, "name both or none"),
        (
            layer(*TEE, u=[1, 2, 3], v=[2, None, 4]),
            {"from_column": "u", "to_column": "v"},
            "1 lines name no junction",
        ),
        (layer(*TEE), {"nodes": "edges"}, "`nodes`: is 'edges'"),
        (pd.DataFrame({"a": [1]}), {}, r"has no geometry; columns are \['a'\]"),
        (17, {}, "is a int"),
        (None, {}, "give a layer of lines, or `dsn` and `table`"),
        (layer(*TEE), {"dsn": "service=x"}, "and `dsn` are both given"),
        (None, {"dsn": "service=x"}, "`table`: is missing"),
    ],
)
def test_what_cannot_be_used_is_refused(roads: Any, options: dict[str, Any], match: str) -> None:
    """Every message says what is wrong and what to do."""
    with pytest.raises(DataError, match=match):
        read_road_lines(roads, **options)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """Missing, of another kind, cut off, of several layers."""
    layer(*TEE).to_file(tmp_path / "city.gpkg", layer="streets")
    layer("POINT (0 0)").to_file(tmp_path / "city.gpkg", layer="lamps")
    with pytest.raises(DataError, match=r"name one with layer=: \['streets', 'lamps'\]"):
        read_road_lines(tmp_path / "city.gpkg")
    with pytest.raises(DataError, match=r"no layer 'street' .did you mean 'streets'"):
        read_road_lines(tmp_path / "city.gpkg", layer="street")
    assert read_road_lines(tmp_path / "city.gpkg", layer="streets").n_nodes == 6
    with pytest.raises(DataError, match=r"did you mean 'city\.gpkg'"):
        read_road_lines(tmp_path / "citi.gpkg")
    (tmp_path / "cut.gpkg").write_bytes((tmp_path / "city.gpkg").read_bytes()[:5000])
    with pytest.raises(DataError, match="damaged or cut off"):
        read_road_lines(tmp_path / "cut.gpkg", layer="streets")
    (tmp_path / "roads.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"unknown kind of file '\.xlsx'"):
        read_road_lines(tmp_path / "roads.xlsx")


def test_several_problems_come_at_once() -> None:
    """One message has them all."""
    roads = layer(*TEE, key=[1, 1, 2], oneway=["?", "no", "no"])
    with pytest.raises(DataError, match="2 problem") as error:
        read_road_lines(roads, id_column="key")
    assert "oneway_values" in str(error.value)


# ---------------------------------------------------------------- a database


@pytest.mark.postgis
def test_a_table_of_postgis(database: str) -> None:
    """Names with blanks and capitals, a CRS by number, an own geometry column; a wrong name."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "My Roads"')
        connection.execute(
            'CREATE TABLE "My Roads"."Main Net" (gid int, "Street Name" text, oneway text, '
            "the_geom public.geometry(LineString, 25832))"
        )
        for i, text in enumerate(TEE):
            line = shapely.transform(shapely.from_wkt(text), move).wkt
            connection.execute(
                'INSERT INTO "My Roads"."Main Net" VALUES '
                "(%s, %s, 'no', public.st_geomfromtext(%s, 25832))",
                (i, f"Street {i}", line),
            )
        connection.execute("CREATE TABLE plain (a int)")
        connection.execute(
            "CREATE TABLE mixed AS SELECT public.st_geomfromtext('LINESTRING (0 0, 1 1)', srid) "
            "AS geom FROM (VALUES (4326), (25832)) AS both_of (srid)"
        )
    options: dict[str, Any] = {"dsn": database, "schema": "My Roads", "table": "Main Net"}
    graph = read_road_lines(**options, name_column="Street Name", nodes="junctions")
    assert graph.nodes.crs.to_epsg() == 25832
    assert graph.edges["length_m"].tolist() == [100, 100, 200, 200, 50, 50]
    assert graph.edges["name"].tolist()[::2] == ["Street 0", "Street 1", "Street 2"]
    assert "password" not in str(graph.provenance)
    with pytest.raises(DataError, match=r"did you mean 'My Roads\.Main Net'"):
        read_road_lines(dsn=database, schema="My Roads", table="MainNet")
    with pytest.raises(DataError, match="no column is a geometry"):
        read_road_lines(dsn=database, table="plain")
    with pytest.raises(DataError, match=r"mixes the SRIDs \[4326, 25832\]"):
        read_road_lines(dsn=database, table="mixed")


# ---------------------------------------------------------------- real networks


@pytest.mark.data
def test_highways_of_san_jose(data_dir: Path) -> None:
    """The published graph of the same lines: junction for junction, metre for metre."""
    folder = data_dir / "pems-bay-graph"
    graph = read_road_lines(folder / "osm_highways.gpkg", oneway="forward", nodes="junctions")
    edges, vertices = pd.read_csv(folder / "edges.csv"), pd.read_csv(folder / "vertices.csv")
    assert (graph.n_nodes, graph.n_edges) == (len(vertices), len(edges)) == (691, 848)
    published = vertices.set_index("id")[["x", "y"]].to_numpy()
    number = {tuple(xy): i + 1 for i, xy in enumerate(published.round(7))}
    xy = shapely.get_coordinates(np.asarray(graph.nodes.geometry)).round(7)
    ours = np.array([number[tuple(place)] for place in xy])[graph.edge_index]
    theirs = edges[["V1", "V2"]].to_numpy().T
    assert (np.sort(ours, axis=0) == np.sort(theirs, axis=0)).all()
    assert np.abs(graph.edges["length_m"] - edges["length"]).max() < 0.01


@pytest.mark.data
def test_links_with_given_junctions(data_dir: Path) -> None:
    """508 one-way links; what is found as the way back is what the source says it is."""
    path = data_dir / "simcity/city.gpkg"
    options: dict[str, Any] = {"layer": "links", "id_column": "link_id"}
    given = read_road_lines(path, from_column="u", to_column="v", **options)
    assert sorted(given.node_ids) == list(range(508))
    assert (given.nodes["reverse_id"] == given.nodes["reverse_link_id"]).all()
    assert (given.nodes["from_junction"] == given.nodes["u"]).all()
    assert (given.nodes["speed_kmh"] == given.nodes["speed_limit_kmh"]).all()
    noded = read_road_lines(path, **options)
    pairs = [
        {tuple(pair) for pair in graph.node_ids.to_numpy()[graph.edge_index].T}
        for graph in (given, noded)
    ]
    assert pairs[0] == pairs[1]


@pytest.mark.data
@pytest.mark.parametrize(
    ("path", "options", "size"),
    [
        ("siouxfalls-geo/network.gpkg", {"layer": "links"}, (24, 76)),
        ("transport-networks/Anaheim/anaheim.geojson", {}, (416, 914)),
    ],
)
def test_networks_of_models(
    data_dir: Path, path: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    """As many junctions and links as their publishers say."""
    graph = read_road_lines(data_dir / path, nodes="junctions", **options)
    assert (graph.n_nodes, graph.n_edges) == size
    assert "parts that no road joins" not in str(graph.report)
