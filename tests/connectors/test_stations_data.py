"""Real data sets are read with the sizes and gaps that are known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stgraph_connectors.stations import read_stations

pytestmark = pytest.mark.data


def test_metr_la_week(data_dir: Path) -> None:
    """207 detectors, a week of 5-minute speeds, DCRNN's adjacency with its diagonal."""
    folder = data_dir / "metr-la-week"
    graph = read_stations(
        folder / "sensors.csv", folder / "speed.npz", feature="speed", unit="mph",
        adjacency=folder / "adj_mx.npz",
    )  # fmt: skip
    assert (graph.n_nodes, graph.n_steps, graph.n_edges) == (207, 2016, 1722)
    assert graph.step == pd.Timedelta("5min")
    assert graph.mask.all()
    assert (graph.values.min(), graph.values.max()) == (1, 70)
    assert graph.values.mean() == pytest.approx(58.9, abs=0.05)
    adjacency = np.load(folder / "adj_mx.npz")["adj"]
    np.testing.assert_array_equal(graph.adjacency().toarray(), adjacency)
    assert not graph.report.warnings


def test_scats_boroondara(data_dir: Path) -> None:
    """140 approaches with ids that start with a zero; one has no coordinate."""
    folder = data_dir / "scats-boroondara"
    options = {"feature": "volume", "unit": "veh/15min", "zone": "Australia/Melbourne"}
    graph = read_stations(folder / "sensors.csv", folder / "volume.npz", **options)
    assert (graph.n_nodes, graph.n_steps) == (139, 2304)
    assert graph.node_ids[0] == "0970_01"
    assert graph.nodes["site"].iloc[0] == "0970"
    assert "1 of 140 stations have no coordinates: ['4266_01']" in str(graph.report)
    assert graph.time[0] == pd.Timestamp("2006-10-01 00:00", tz="Australia/Melbourne")
    whole = read_stations(
        folder / "sensors.csv", folder / "volume.npz", missing_coordinates="keep", **options
    )
    assert whole.n_nodes == 140
    assert whole.values.shape == (2304, 140, 1)
    assert np.nanmax(whole.values) == 695


def test_auckland_pedestrians(data_dir: Path) -> None:
    """21 sensors over six years of clock changes: UTC hours without a hole in the axis."""
    folder = data_dir / "auckland-pedestrians"
    graph = read_stations(folder / "sensors.csv", folder / "counts.npz", zone="Pacific/Auckland")
    assert (graph.n_nodes, graph.n_steps) == (21, 52_602)
    assert graph.time[0] == pd.Timestamp("2018-12-31 17:00Z")
    assert np.nanmax(graph.values) == 5226
    late = [i for i in graph.node_ids if i.startswith("188 Quay Street")]
    share = graph.select_nodes(late).mask.mean(axis=(0, 2))
    assert (share < 0.5).all()
    # the hour that autumn repeats is in the source once: its second half is a gap
    gap = pd.Timestamp("2024-04-06 14:00Z")  # 02:00 NZST
    assert not graph.mask[graph.time.get_loc(gap)].any()
    assert graph.mask[graph.time.get_loc(gap - pd.Timedelta("1h"))].all()
    assert "(6 such row(s) on 6 day(s))" in str(graph.report)


def test_montevideo_bus(data_dir: Path) -> None:
    """675 stops given in degrees and in metres, and 690 directed links in metres."""
    folder = data_dir / "montevideo-bus"
    graph = read_stations(
        folder / "stops.csv", folder / "inflow.npz", zone="America/Montevideo",
        adjacency=folder / "links.csv", weight_unit="m",
    )  # fmt: skip
    assert (graph.n_nodes, graph.n_steps, graph.n_edges) == (675, 744, 690)
    assert graph.mask.all()
    assert graph.values.max() == 101
    assert (graph.values == 0).mean() == pytest.approx(0.80, abs=0.01)
    assert graph.time[0] == pd.Timestamp("2020-10-01 00:00", tz="America/Montevideo")
    metres = read_stations(
        folder / "stops.csv", x_column="x_utm21s", y_column="y_utm21s", crs=32721
    )
    apart = metres.nodes.geometry.distance(graph.nodes.to_crs(32721).geometry)
    assert apart.max() < 5
    zeros = read_stations(folder / "stops.csv", folder / "inflow.npz", missing="zero")
    assert zeros.mask.mean() == pytest.approx(0.20, abs=0.01)


def test_hangzhou_metro(data_dir: Path) -> None:
    """80 stations without places, nights without rows, an adjacency of 81 stations."""
    folder = data_dir / "hangzhou-metro"
    graph = read_stations(
        pd.DataFrame({"station_id": range(80)}), folder / "inflow.npz", zone="Asia/Shanghai",
        missing_coordinates="keep", adjacency=folder / "adjacency.npz",
    )  # fmt: skip
    assert (graph.n_nodes, graph.n_steps) == (80, 25 * 144 - 36)
    assert graph.step == pd.Timedelta("10min")
    assert graph.mask.any(axis=(1, 2)).sum() == 2700
    assert np.nanmax(graph.values) == 3334
    assert "1 of its stations are not in the layer: ['80']" in str(graph.report)
    adjacency = np.load(folder / "adjacency.npz")["adj"]
    assert graph.n_edges == int(adjacency[:80, :80].sum())


def test_pems_bay_layout(data_dir: Path) -> None:
    """325 detectors, the Monday snapshots as a wide CSV without a name over the times."""
    folder = data_dir / "pems-bay-graph"
    graph = read_stations(
        folder / "sensors.csv", folder / "speed_snapshots.csv", adjacency=folder / "adj_mx.npz",
        zone="America/Los_Angeles", feature="speed", unit="mph",
    )  # fmt: skip
    assert (graph.n_nodes, graph.n_edges) == (325, 2694)
    assert graph.step == pd.Timedelta("7D")
    assert graph.n_steps == 26
    assert graph.mask.all()
