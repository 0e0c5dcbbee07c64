"""A made-up city of any size: a jittered grid of two-way streets, with some one-way ones."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from stgraph_connectors.roads._assemble import RawRoads, finish_roads

from stgraph.graph import STGraph
from stgraph.report import Report

BLOCK_M = 120.0  # mean length of a segment
UTM = "EPSG:32632"


def make_raw_roads(n_segments: int, *, seed: int = 0) -> RawRoads:
    """Return about as many directed segments of 3 points, nine in ten of them in pairs."""
    rng = np.random.default_rng(seed)
    side = max(2, round(np.sqrt(n_segments / (4 * 0.947))))
    xy = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * BLOCK_M
    xy = xy + rng.normal(0, BLOCK_M / 8, xy.shape) + [500_000, 5_400_000]
    number = np.arange(side * side).reshape(side, side)
    pairs = np.concatenate(
        [
            np.column_stack([number[:, :-1].ravel(), number[:, 1:].ravel()]),
            np.column_stack([number[:-1].ravel(), number[1:].ravel()]),
        ]
    )
    middle = xy[pairs].mean(axis=1) + rng.normal(0, BLOCK_M / 20, (len(pairs), 2))
    two_way = rng.random(len(pairs)) < 0.9
    source, target = np.concatenate([pairs, pairs[two_way][:, ::-1]]).T
    coordinates = np.stack([xy[source], np.concatenate([middle, middle[two_way]]), xy[target]], 1)
    attributes = {
        "highway": rng.choice(["residential", "tertiary", "primary"], len(source)),
        "oneway": np.concatenate([~two_way, np.zeros(two_way.sum(), bool)]),
    }
    junctions = gpd.GeoDataFrame(geometry=shapely.points(xy), crs=UTM)
    lines = shapely.linestrings(coordinates)
    return RawRoads(junctions, source, target, lines, pd.DataFrame(attributes))


def make_city(n_segments: int, *, nodes: str = "segments", seed: int = 0) -> STGraph:
    """Return the city as a road graph, of segments or of junctions."""
    raw = make_raw_roads(n_segments, seed=seed)
    return finish_roads(raw, report=Report(), title="city", nodes=nodes)  # type: ignore[arg-type]


def make_stations(n_stations: int, city: STGraph, *, seed: int = 1) -> gpd.GeoDataFrame:
    """Return points within some metres of segments drawn at random; their number is in `truth`."""
    rng = np.random.default_rng(seed)
    lines = np.asarray(city.nodes.geometry)
    drawn = rng.choice(len(lines), n_stations, replace=n_stations > len(lines))
    on_line = shapely.line_interpolate_point(lines[drawn], rng.random(n_stations), normalized=True)
    xy = shapely.get_coordinates(on_line) + rng.normal(0, 3.0, (n_stations, 2))
    ids = [f"s{k}" for k in range(n_stations)]
    truth = city.node_ids[drawn]
    return gpd.GeoDataFrame({"truth": truth}, index=ids, geometry=shapely.points(xy), crs=UTM)
