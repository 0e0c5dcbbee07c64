"""Small hand-made road graphs, for tests of what is done with one."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely

from stgraph.graph import STGraph


def make_roads(*, crs: str = "EPSG:4326") -> STGraph:
    """Return four junctions and six directed segments: a two-way street, a one-way loop.

    12 <-> 11 (segments 100, 101), 11 -> 13 (102) -> 14 (103) -> 11 (104), and a loop at 14
    (105) that has no line. From 100 one must not turn into 102.
    """
    xy = {11: (7.420, 43.730), 12: (7.418, 43.730), 13: (7.422, 43.731), 14: (7.422, 43.729)}
    points = gpd.GeoSeries([shapely.Point(p) for p in xy.values()], crs=4326).to_crs(crs)
    nodes = gpd.GeoDataFrame(
        {"kind": "junction", "osmid": [7001, 7002, 7003, 7004]},
        index=list(xy), geometry=points.to_numpy(), crs=crs,
    )  # fmt: skip
    source, target = np.array([1, 0, 0, 2, 3, 3]), np.array([0, 1, 2, 3, 0, 3])
    lines = np.full(6, None, dtype=object)
    at = shapely.get_coordinates(nodes.geometry)
    lines[:5] = shapely.linestrings(
        [[at[a], at[b]] for a, b in zip(source[:5], target[:5], strict=True)]
    )
    middle = (at[2] + at[3]) / 2 + (at[2] - at[0]) * [0.2, 0]
    lines[3] = shapely.LineString([at[2], middle, at[3]])
    table = {
        "segment_id": np.arange(100, 106),
        "length_m": [160.7, 160.7, 195.4, 232.1, 195.4, 42.0],
        "speed_kmh": [50.0, 50.0, 30.0, 30.0, 30.0, 10.0],
        "speed_imputed": [False, False, True, True, True, True],
        "lanes": [2.0, 1.0, np.nan, np.nan, 1.0, np.nan],
        "highway": ["primary", "primary", "residential", "residential", "tertiary_link", "service"],
        "name": ["Rue A", "Rue A", None, "Rue B;Rue C", 'Été "d\'or"', None],
    }
    edges = gpd.GeoDataFrame(table, geometry=lines, crs=crs)
    return STGraph(
        nodes=nodes,
        edge_index=np.stack([source, target]),
        edge_weight=np.array(table["length_m"], dtype=np.float32),
        weight_unit="m",
        edges=edges,
        zone="Europe/Monaco",
        provenance={"restrictions": [[100, 102]], "attribution": "somebody"},
    )
