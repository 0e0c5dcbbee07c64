"""Time to connect 8,600 places to their neighbours, next to brute force over all distances."""

from __future__ import annotations

import time
from collections.abc import Callable

import geopandas as gpd
import numpy as np
from _common import Row, at_least, at_most, main
from scipy.spatial.distance import cdist

from stgraph.neighbours import build_delaunay, build_gaussian, build_knn, build_radius

N_PLACES, K = 8_600, 8  # the sensors of LargeST's California


def measure(quick: bool) -> list[Row]:
    """Return the time of each way to connect the places."""
    n_places = 2_000 if quick else N_PLACES
    xy = np.random.default_rng(0).uniform(0, 300_000, (n_places, 2))
    metres = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*xy.T), crs="EPSG:32611")
    degrees = metres.to_crs("EPSG:4326")
    knn = _seconds(lambda: build_knn(metres, k=K))
    brute = _seconds(lambda: _brute_force(xy), times=1)
    reach = 8_000.0  # metres
    return [
        at_most(f"kNN of {n_places:,} places, metres", knn, "s", 1.0),
        at_most(
            f"kNN of {n_places:,} places, great circle",
            _seconds(lambda: build_knn(degrees, k=K)),
            "s",
            1.0,
        ),
        Row("radius of 8 km", _seconds(lambda: build_radius(metres, radius_m=reach)), "s"),
        Row("Gaussian kernel over 32 nearest", _seconds(lambda: build_gaussian(metres, k=32)), "s"),
        Row("Delaunay", _seconds(lambda: build_delaunay(metres)), "s"),
        Row("kNN by brute force, in blocks", brute, "s"),
        at_least("kNN: times faster than brute force", brute / knn, "x", 1 if quick else 5),
    ]


def _brute_force(xy: np.ndarray) -> np.ndarray:
    """Return the nearest neighbours from all distances, a block of rows at a time."""
    rows = []
    for start in range(0, len(xy), 500):
        length = cdist(xy[start : start + 500], xy)
        length[np.arange(len(length)), start + np.arange(len(length))] = np.inf
        rows.append(np.argpartition(length, K, axis=1)[:, :K])
    return np.concatenate(rows)


def _seconds(work: Callable[[], object], *, times: int = 3) -> float:
    """Return the shortest of some runs."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return min(spent)


if __name__ == "__main__":
    main(__doc__.splitlines()[0], measure)
