"""Edges by the distance along directed roads, with the answers of little networks written out."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from stgraph import STGraph, build_line_graph, build_network, registry
from stgraph.errors import GraphError
from stgraph.neighbours._contraction import contract, link_nodes
from stgraph.neighbours._routes import search

Point = tuple[float, float]
EAST, NORTH = 500_000.0, 5_400_000.0  # the origin of the little networks, in UTM zone 32N


def make_roads(
    corners: dict[str, Point],
    streets: Sequence[str],
    *,
    forbidden: Sequence[tuple[str, str]] = (),
    **columns: Any,
) -> STGraph:
    """Return roads between named corners; "ab" is one-way, "a-b" goes both ways.

    Segments are numbered 10, 20, 30, ...; forbidden turns name two segments ("ab", "bc").
    """
    ways = [pair for text in streets for pair in ([text] if "-" not in text else _both(text))]
    at = {name: (EAST + x, NORTH + y) for name, (x, y) in corners.items()}
    names = list(corners)
    ids = {way: 10 * (i + 1) for i, way in enumerate(ways)}
    lines = [shapely.LineString([at[a], at[b]]) for a, b in ways]
    return STGraph(
        nodes=gpd.GeoDataFrame(geometry=shapely.points(list(at.values())), crs=32632),
        edge_index=np.array([[names.index(a), names.index(b)] for a, b in ways]).T,
        edges=gpd.GeoDataFrame(
            {"segment_id": list(ids.values()), **columns}, geometry=lines, crs=32632
        ),
        provenance={"restrictions": [[ids[one], ids[two]] for one, two in forbidden]},
    )


def _both(text: str) -> list[str]:
    a, b = text.split("-")
    return [a + b, b + a]


def make_stations(places: dict[str, Point], **columns: Any) -> gpd.GeoDataFrame:
    points = [shapely.Point(EAST + x, NORTH + y) for x, y in places.values()]
    return gpd.GeoDataFrame(columns, index=list(places), geometry=points, crs=32632)


def lengths(graph: STGraph) -> dict[str, float]:
    """Return {"source target": metres} of a graph whose stations have one-letter names."""
    assert graph.edges is not None
    ids = graph.node_ids.to_numpy()[graph.edge_index]
    return {
        f"{a}{b}": round(float(metres), 3)
        for a, b, metres in zip(*ids, graph.edges["length_m"], strict=True)
    }


# a square of one-way streets, 1 km each, driven counter-clockwise: a -> b -> c -> d -> a
SQUARE: dict[str, Point] = {"a": (0, 0), "b": (1000, 0), "c": (1000, 1000), "d": (0, 1000)}
LOOP = make_roads(SQUARE, ["ab", "bc", "cd", "da"])
# a street a - b - c - d of 1 km pieces, and a crossing one e - b - f
CROSS: dict[str, Point] = {
    "a": (0, 0),
    "b": (1000, 0),
    "c": (2000, 0),
    "d": (3000, 0),
    "e": (1000, -1000),
    "f": (1000, 1000),
}


# ---------------------------------------------------------------- distances by hand


def test_one_way_loop() -> None:
    """400 m ahead is 3,600 m the other way; nobody drives backwards."""
    stations = make_stations({"x": (300, 0), "y": (700, 0), "z": (1000, 500)})
    graph = build_network(stations, LOOP, weight="length")
    expected = {"xy": 400, "yx": 3600, "xz": 1200, "zx": 2800, "yz": 800, "zy": 3200}
    assert lengths(graph) == expected
    assert graph.weight_unit == "m"
    assert graph.edge_weight.tolist() == list(lengths(graph).values())
    near = build_network(stations, LOOP, weight="length", max_length_m=1200)
    assert lengths(near) == {"xy": 400, "xz": 1200, "yz": 800}


def test_lengths_are_those_of_the_segments() -> None:
    """Where a segment says it is twice as long as its line, so are the ways along it."""
    roads = make_roads(SQUARE, ["ab", "bc", "cd", "da"], length_m=[2000.0, 1000.0, 1000.0, 1000.0])
    stations = make_stations({"x": (300, 0), "z": (1000, 500)})
    assert lengths(build_network(stations, roads, weight="length")) == {"xz": 1900, "zx": 3100}


def test_parallel_carriageways() -> None:
    """Stations 14 m apart on opposite carriageways are 2 x 500 m apart, or never reached."""
    corners: dict[str, Point] = {"a": (0, 0), "b": (1000, 0), "c": (1000, 14), "d": (0, 14)}
    stations = make_stations({"x": (500, -2), "y": (500, 16)})
    open_end = build_network(stations, make_roads(corners, ["ab", "cd"]), weight="length")
    assert open_end.n_edges == 0
    assert "2 parts that no road joins, with 1, 1 of them" in str(open_end.report)
    turning = build_network(stations, make_roads(corners, ["ab", "bc", "cd"]), weight="length")
    assert lengths(turning) == {"xy": 1014}


def test_forbidden_turn() -> None:
    """Left at b is forbidden: the way to f goes round by c, where one may turn back."""
    stations = make_stations({"x": (400, -3), "y": (1003, 600)}, way=["E", "N"])
    streets = ["a-b", "b-c", "b-f"]
    free = build_network(stations, make_roads(CROSS, streets), heading_column="way")
    assert free.edges is not None
    assert free.edges["length_m"].min() == pytest.approx(1200)
    roads = make_roads(CROSS, streets, forbidden=[("ab", "bf")])
    kept = build_network(stations, roads, weight="length", heading_column="way")
    assert lengths(kept)["xy"] == 3200  # 600 to b, 2,000 to c and back, 600
    one_way = make_roads(CROSS, ["ab", "bc", "bf"], forbidden=[("ab", "bf")])
    assert build_network(stations, one_way, weight="length", heading_column="way").n_edges == 0


def test_no_turning_back() -> None:
    """From the eastbound to the westbound side: at the dead end, or at once if that is allowed."""
    stations = make_stations({"x": (500, -3), "y": (500, 3)}, way=["E", "W"])
    roads = make_roads(CROSS, ["a-b", "b-c", "c-d"])
    kept = build_network(stations, roads, weight="length", heading_column="way")
    assert lengths(kept) == {"xy": 5000, "yx": 1000}  # d and a are dead ends
    free = build_network(stations, roads, weight="length", heading_column="way", u_turns=True)
    assert lengths(free) == {"xy": 1000, "yx": 1000}


def test_station_for_both_directions() -> None:
    """Where nothing tells the direction, the shorter of both ways counts."""
    stations = make_stations({"x": (500, -3), "y": (2400, 3), "z": (700, 1)})
    graph = build_network(stations, make_roads(CROSS, ["a-b", "b-c", "c-d"]), weight="length")
    assert lengths(graph) == {"xy": 1900, "yx": 1900, "xz": 200, "zx": 200, "yz": 1700, "zy": 1700}
    said = next(str(f) for f in graph.report if "nothing tells the direction" in f.what)
    assert "3 lie on two-way streets" in said
    assert said.endswith(
        "both directions count for them; give `heading_column` or `side` to tell them apart"
    )
    assert "lower id" not in str(graph.report)


def test_stations_at_the_same_spot() -> None:
    """Two detectors on one gantry are 0 m apart, both ways."""
    stations = make_stations({"x": (300, 0), "y": (300, 0), "z": (400, 0)})
    found = lengths(build_network(stations, LOOP, weight="length"))
    assert (found["xy"], found["yx"], found["xz"], found["zy"]) == (0, 0, 100, 3900)


def test_segments_as_nodes_give_the_same() -> None:
    """The line graph of the roads has the same ways, with its own turns."""
    corners = {**SQUARE, "e": (500.0, 2000.0)}
    streets = ["a-b", "b-c", "c-d", "d-a", "c-e", "e-d"]
    roads = make_roads(corners, streets, forbidden=[("bc", "cd")])
    stations = make_stations(
        {"x": (300, -3), "y": (1003, 700), "z": (-2, 300)}, way=["E", "N", "S"]
    )
    options: dict[str, Any] = {"weight": "length", "heading_column": "way"}
    one = build_network(stations, roads, **options)
    other = build_network(stations, build_line_graph(roads), **options)
    assert lengths(one) == lengths(other)
    assert lengths(one)["xz"] == pytest.approx(2400 + 2 * np.hypot(500, 1000), abs=0.01)


def test_overpass_without_junction() -> None:
    """Lines that only cross on the map are not joined."""
    roads = make_roads(
        {"a": (0, 0), "b": (1000, 0), "c": (500, -500), "d": (500, 500)}, ["ab", "cd"]
    )
    graph = build_network(make_stations({"x": (300, 0), "y": (500, 300)}), roads, weight="length")
    assert graph.n_edges == 0


# ---------------------------------------------------------------- kernel


def test_gaussian_kernel_by_hand() -> None:
    """Sigma is the deviation of all lengths; weights below 0.1 go."""
    stations = make_stations({"x": (300, 0), "y": (700, 0), "z": (1000, 500)})
    graph = build_network(stations, LOOP)
    sigma = np.std([400, 3600, 1200, 2800, 800, 3200])
    assert graph.provenance["graph"]["sigma_m"] == pytest.approx(sigma)
    kept = {"xy": 400, "xz": 1200, "yz": 800}
    assert lengths(graph) == kept
    expected = np.exp(-np.square(np.array([400, 1200, 800]) / sigma))
    assert graph.edge_weight.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert graph.weight_unit == "1"
    wide = build_network(stations, LOOP, sigma_m=10_000)
    assert wide.n_edges == 6


def test_self_loops_count_for_sigma() -> None:
    """As in DCRNN, whose tables hold every sensor with itself at 0 m."""
    stations = make_stations({"x": (300, 0), "y": (700, 0), "far": (300, 400)})
    graph = build_network(stations, LOOP, include_self=True)
    assert graph.provenance["graph"]["sigma_m"] == pytest.approx(np.std([400, 3600, 0, 0]))
    assert lengths(graph)["xx"] == 0
    assert "farfar" not in lengths(graph)
    assert build_network(stations, LOOP, include_self=True, k=1, weight="binary").n_edges == 4


def test_k_nearest() -> None:
    stations = make_stations({"x": (300, 0), "y": (700, 0), "z": (1000, 500)})
    graph = build_network(stations, LOOP, weight="length", k=1)
    assert lengths(graph) == {"zx": 2800, "xy": 400, "yz": 800}


def test_graph_keeps_its_signal(graph: STGraph) -> None:
    """The places of a graph get new edges and nothing else."""
    along = graph.nodes.geometry.iloc[[0, -1]].tolist()
    roads = STGraph(
        nodes=gpd.GeoDataFrame(geometry=along, crs=graph.nodes.crs),
        edge_index=np.array([[0], [1]]),
        edges=gpd.GeoDataFrame(geometry=[shapely.LineString(along)], crs=graph.nodes.crs),
    )
    connected = build_network(graph, roads, weight="length")
    assert connected.n_edges == 10
    assert connected.values is graph.values or np.array_equal(
        connected.values, graph.values, equal_nan=True
    )
    assert connected.provenance["graph"]["snapped"] == {"snapped": 5}


# ---------------------------------------------------------------- real roads


@pytest.mark.data
def test_distances_of_pems_bay(data_dir: Path) -> None:
    """Against DCRNN's published road distances, within 10 km in both: correlation >= 0.9.

    Their router also knew the city streets that the 848 motorway lines leave out, so that longer
    ways differ: those beyond the limit are not compared.
    """
    folder = data_dir / "pems-bay-graph"
    lines = gpd.read_file(folder / "osm_highways.gpkg")
    ends = [shapely.get_coordinates(shapely.get_point(lines.geometry.values, at)) for at in (0, -1)]
    junctions, index = np.unique(np.vstack(ends), axis=0, return_inverse=True)
    roads = STGraph(
        nodes=gpd.GeoDataFrame(geometry=shapely.points(junctions), crs=4326),
        edge_index=index.reshape(2, -1),
        edges=lines,
    )
    sensors = pd.read_csv(folder / "sensors.csv", index_col="sensor_id")
    points = gpd.points_from_xy(sensors.longitude, sensors.latitude)
    stations = gpd.GeoDataFrame(index=sensors.index, geometry=points, crs=4326)
    graph = build_network(stations, roads, weight="length")
    assert graph.n_edges > 7000
    source, target = stations.index.to_numpy()[graph.edge_index]
    ours = pd.DataFrame({"from": source, "to": target, "metres": graph.edge_weight})
    both = ours.merge(pd.read_csv(folder / "distances.csv.gz"), on=["from", "to"])
    both = both[both["cost"] <= 10_000]
    assert len(both) > 3500
    assert np.corrcoef(both["metres"], both["cost"])[0, 1] >= 0.9  # 0.914
    assert np.median(both["metres"] / both["cost"]) == pytest.approx(1.0, abs=0.01)


# ---------------------------------------------------------------- against a plain search


def plain_search(roads: STGraph, segment: int, offset: float, *, u_turns: bool) -> dict[int, float]:
    """Return the metres to the start of every segment, by a search over segments one by one."""
    assert roads.edges is not None
    (start, end), ids = roads.edge_index, roads.edges["segment_id"].tolist()
    length = shapely.length(roads.edges.geometry.to_numpy())
    forbidden = {(ids.index(a), ids.index(b)) for a, b in roads.provenance["restrictions"]}

    def follow(one: int) -> list[int]:
        after = [s for s in range(len(ids)) if start[s] == end[one]]
        on = [s for s in after if end[s] != start[one]]
        return [s for s in (after if u_turns or not on else on) if (one, s) not in forbidden]

    best: dict[int, float] = {}
    queue = [(length[segment] - offset, s) for s in follow(segment)]
    heapq.heapify(queue)
    while queue:
        metres, s = heapq.heappop(queue)
        if s not in best:
            best[s] = metres
            for after in follow(s):
                heapq.heappush(queue, (metres + length[s], after))
    return best


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("u_turns", [False, True])
def test_same_as_a_plain_search(seed: int, u_turns: bool) -> None:
    """Property: states, cuts and contraction change no distance, whatever is forbidden."""
    random = np.random.default_rng(seed)
    n = 4
    corners = {
        chr(97 + n * row + column): (
            300.0 * column + random.uniform(-50, 50),
            300.0 * row + random.uniform(-50, 50),
        )
        for row in range(n)
        for column in range(n)
    }
    names = list(corners)
    streets = [(i, i + 1) for i in range(n * n) if (i + 1) % n]
    streets += [(i, i + n) for i in range(n * n - n)]
    kinds = random.choice(["-", "", "none"], len(streets), p=[0.7, 0.2, 0.1])
    texts = [
        f"{names[i]}{kind}{names[j]}"
        for (i, j), kind in zip(streets, kinds, strict=True)
        if kind != "none"
    ]
    ways = [way for text in texts for way in (_both(text) if "-" in text else [text])]
    turns = [(one, two) for one in ways for two in ways if one[1] == two[0] and one[0] != two[1]]
    forbidden = [turns[i] for i in random.choice(len(turns), 6, replace=False)]
    roads = make_roads(corners, texts, forbidden=forbidden)
    assert roads.edges is not None
    lines = roads.edges.geometry.to_numpy()
    on = random.choice(len(lines), 7)
    share = random.uniform(0.05, 0.95, 7)
    points = shapely.line_interpolate_point(lines[on], share, normalized=True)
    first, last = (shapely.get_coordinates(shapely.get_point(lines[on], at)) for at in (0, -1))
    way = np.degrees(np.arctan2(*(last - first).T))
    stations = gpd.GeoDataFrame({"way": way}, index=list("rstuvwx"), geometry=points, crs=32632)
    graph = build_network(
        stations, roads, weight="length", heading_column="way", u_turns=u_turns, max_snap_m=1
    )
    metres = share * shapely.length(lines[on])
    expected = {}
    for i, source in enumerate(stations.index):
        reached = plain_search(roads, on[i], metres[i], u_turns=u_turns)
        for j, target in enumerate(stations.index):
            found = [reached[on[j]] + metres[j]] if on[j] in reached else []
            found += [metres[j] - metres[i]] if on[i] == on[j] and metres[j] >= metres[i] else []
            if found and i != j:
                expected[f"{source}{target}"] = round(float(min(found)), 3)
    assert lengths(graph) == pytest.approx(expected, abs=0.002)


def test_search_by_region_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking only around the stations of a tile, in little blocks, changes nothing."""
    n = 40
    corners = {f"{i:02d}": (250.0 * i, 0.0) for i in range(n)}
    names = list(corners)
    at = shapely.points([(EAST + x, NORTH + y) for x, y in corners.values()])
    pairs = [(i, i + 1) for i in range(n - 1)]
    roads = STGraph(
        nodes=gpd.GeoDataFrame(geometry=at, crs=32632),
        edge_index=np.array(pairs).T,
        edges=gpd.GeoDataFrame(
            geometry=[shapely.LineString([at[a], at[b]]) for a, b in pairs], crs=32632
        ),
    )
    stations = make_stations({name: (250.0 * i + 100, 0) for i, name in enumerate(names[:-1])})
    monkeypatch.setattr("stgraph.neighbours._routes._CELLS", 50)
    graph = build_network(stations, roads, weight="length", max_length_m=600)
    assert graph.n_edges == (n - 2) + (n - 3)
    assert sorted(set(graph.edge_weight.tolist())) == [250, 500]


def test_contraction_keeps_distances() -> None:
    """A chain of 20 points becomes one link between its ends; links of 0 m survive."""
    steps = np.arange(19)
    links = link_nodes(steps, steps + 1, np.where(steps == 3, 0.0, 1.0), 20)
    needed = np.zeros(20, dtype=bool)
    needed[[0, 3, 4, 19]] = True
    small = contract(links, needed).tocoo()
    found = sorted(zip(small.row.tolist(), small.col.tolist(), small.data.tolist(), strict=True))
    assert found == [(0, 3, 3.0), (3, 4, 0.0), (4, 19, 15.0)]
    assert callable(search)


def test_pairs_are_dropped_on_the_way() -> None:
    """Memory: pairs that cannot reach the threshold are not kept, and sigma stays that of all."""
    corners: dict[str, Point] = {"a": (0, 0), "b": (9000, 0)}
    stations = make_stations({str(i): (90.0 * i, 0) for i in range(1, 100)})
    roads = make_roads(corners, ["ab"])
    whole = build_network(stations, roads, weight="length")
    assert whole.edges is not None
    less = build_network(stations, roads)
    sigma = np.std(whole.edges["length_m"])
    kept = np.exp(-np.square(whole.edges["length_m"].to_numpy() / sigma)) >= 0.1
    assert less.provenance["graph"]["sigma_m"] == pytest.approx(sigma)
    assert np.array_equal(less.edge_index, whole.edge_index[:, kept])
    even = build_network(stations.iloc[[0, 90]], roads)  # one length only, near the limit
    assert even.n_edges == 1


# ---------------------------------------------------------------- files and bad input


def test_roads_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path goes to the connector `roads`, as a config gives it."""
    asked: list[tuple[Any, ...]] = []

    def read(source: Path, *, nodes: str, network: str | None) -> STGraph:
        asked.append((source, nodes, network))
        return LOOP

    load = registry.load
    monkeypatch.setattr(
        registry, "load", lambda group, name: read if name == "roads" else load(group, name)
    )
    stations = make_stations({"x": (300, 0), "y": (700, 0)})
    assert build_network(stations, "city.osm.pbf", network="walk").n_edges >= 1
    assert asked == [(Path("city.osm.pbf"), "junctions", "walk")]


@pytest.mark.data
def test_streets_of_a_town(data_dir: Path) -> None:
    """From an OpenStreetMap file to edges, with whatever restrictions the town has."""
    path = data_dir / "osm-small" / "krems.osm.gz"
    roads = registry.load("connectors", "roads")(path, nodes="junctions")
    lines = roads.edges.geometry.to_numpy()[::20]
    points = gpd.GeoSeries(shapely.line_interpolate_point(lines, 0.4, normalized=True), crs=4326)
    stations = gpd.GeoDataFrame(geometry=points)
    graph = build_network(stations, path, side="right", weight="length")
    same = build_network(stations, build_line_graph(roads), side="right", weight="length")
    assert graph.n_edges > 500
    assert graph.edges is not None
    # straight lines are never longer (to the precision of both)
    xy = points.to_crs(points.estimate_utm_crs())
    straight = xy.iloc[graph.edge_index[0]].distance(xy.iloc[graph.edge_index[1]], align=False)
    assert (straight.to_numpy() <= graph.edges["length_m"].to_numpy() * 1.01 + 20).all()
    # the line graph has no turning back at dead ends, else it is the same network
    assert same.n_edges <= graph.n_edges
    assert same.edge_weight.max() <= 10_000


def test_stations_off_the_road_stay_without_edges() -> None:
    stations = make_stations({"x": (300, 0), "y": (700, 0), "far": (300, 400)})
    graph = build_network(stations, LOOP, weight="length")
    assert lengths(graph) == {"xy": 400, "yx": 3600}
    assert "1 are further than 50 m from every road" in str(graph.report)
    assert "1 nodes have no neighbour: ['far']" in str(graph.report)
    assert graph.provenance["graph"]["snapped"] == {"snapped": 2, "too far": 1}


def test_lengths_that_are_no_metres_are_told() -> None:
    """Kilometres in `length_m` are used as given, with a warning; no region is cut off."""
    roads = make_roads(SQUARE, ["ab", "bc", "cd", "da"], length_m=[1.0] * 4)
    graph = build_network(make_stations({"x": (300, 0), "z": (1000, 500)}), roads, weight="length")
    assert lengths(graph) == {"xz": 1.2, "zx": 2.8}
    assert "`length_m` of 4 segments is less than the straight line" in str(graph.report)


def test_unknown_restrictions_are_told() -> None:
    roads = LOOP.replace(provenance={"restrictions": [[10, 999]]})
    graph = build_network(make_stations({"x": (300, 0), "y": (700, 0)}), roads)
    assert "1 turn restrictions name segments that are not there" in str(graph.report)


@pytest.mark.parametrize(
    ("places", "options", "message"),
    [
        ({"x": (300, 0)}, {"max_length_m": 0}, "`max_length_m`: is 0"),
        ({"x": (300, 0)}, {"weight": "gausian"}, "`weight`: is 'gausian' .did you mean 'gaussian'"),
        ({"x": (300, 0)}, {"sigma_m": -1}, "`sigma_m`: is -1"),
        ({"x": (300, 0)}, {"sigma_m": 9, "weight": "binary"}, "`sigma_m`: has no use"),
        ({"x": (300, 0)}, {"network": "walk"}, "`network`: is for files"),
        ({"x": (300, 0)}, {"threshold": 1}, "`threshold`: is 1"),
        ({"x": (300, 0)}, {"k": 0}, "`k`: is 0"),
        ({"x": (300, 0)}, {"max_snap_m": -1}, "`max_snap_m`: is -1"),
        ({"x": (300, 0)}, {"heading_column": "way"}, "no column 'way'"),
        ({"x": (300, 0)}, {"side": "up"}, "`side`: is 'up'"),
        ({"x": (300, 9000)}, {}, "no station is within 50 m of a road"),
        ({"x": (np.nan, 0)}, {}, "empty or not finite geometry"),
    ],
)
def test_bad_input(places: dict[str, Point], options: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        build_network(make_stations(places), LOOP, **options)


def test_too_many_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stgraph.neighbours.network.EDGE_LIMIT", 3)
    stations = make_stations({"x": (300, 0), "y": (700, 0), "z": (1000, 500)})
    with pytest.raises(GraphError, match="more than 3 pairs of stations within `max_length_m`"):
        build_network(stations, LOOP)


def test_graph_without_lines_is_no_road_network(graph: STGraph) -> None:
    with pytest.raises(GraphError, match="`roads`: has no lines as geometry"):
        build_network(make_stations({"x": (300, 0)}), graph)
