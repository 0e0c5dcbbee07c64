"""The GeoParquet sink: one table that GIS tools read, and the whole graph back."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from stgraph_connectors.sinks import geoparquet
from stgraph_connectors.sinks.geoparquet import read_geoparquet, write_geoparquet

from stgraph.errors import DataError, InputError, OutputError
from stgraph.graph import STGraph


def test_forecast_comes_back_equal(forecast: STGraph, tmp_path: Path) -> None:
    back = read_geoparquet(write_geoparquet(forecast, tmp_path / "f.parquet"))
    assert back.equals(forecast)
    assert back.provenance == forecast.provenance


def test_other_geometries_come_back(shaped: STGraph, tmp_path: Path) -> None:
    assert read_geoparquet(write_geoparquet(shaped, tmp_path / "f.geoparquet")).equals(shaped)


def test_readings_filled_values_and_mask_come_back(graph: STGraph, tmp_path: Path) -> None:
    twice = graph.replace(values=np.nan_to_num(graph.values, nan=7.0), mask=graph.mask)
    for one in (graph, twice):
        assert read_geoparquet(write_geoparquet(one, tmp_path / "o.parquet")).equals(one)


def test_graph_without_signal_comes_back(points: gpd.GeoDataFrame, tmp_path: Path) -> None:
    bare = STGraph(nodes=points.assign(tags=[[1], [], ["x"], None, [2, 3]]))
    assert read_geoparquet(write_geoparquet(bare, tmp_path / "n.parquet")).equals(bare)


def test_rows_split_over_row_groups_come_back(
    forecast: STGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geoparquet, "_ROW_GROUP", 3)  # fewer rows than nodes
    assert read_geoparquet(write_geoparquet(forecast, tmp_path / "f.parquet")).equals(forecast)


def test_edge_table_with_lines_comes_back(forecast: STGraph, tmp_path: Path) -> None:
    lines = [shapely.LineString([(0, i), (5, 5)]) for i in range(3)]
    table = gpd.GeoDataFrame({"lanes": [[1, 2], [3], []]}, geometry=lines, crs=2193)
    back = read_geoparquet(write_geoparquet(forecast.replace(edges=table), tmp_path / "e.parquet"))
    assert back.edges is not None
    assert back.edges["lanes"].tolist() == [[1, 2], [3], []]
    assert back.edges.geometry.tolist() == lines
    left = read_geoparquet(write_geoparquet(forecast, tmp_path / "e.parquet", edges=False))
    assert left.n_edges == 0


def test_geopandas_reads_a_row_per_node_and_step(forecast: STGraph, tmp_path: Path) -> None:
    table = gpd.read_parquet(write_geoparquet(forecast, tmp_path / "f.parquet"))
    assert len(table) == 12
    assert table.crs == forecast.nodes.crs
    row = table.iloc[5]  # second step, second node
    assert (row["node_id"], row["horizon"], row["speed"], row["speed_q90"]) == ("b", 2, 31.0, 36.0)
    assert row["target_time"] == pd.Timestamp("2024-03-01T07:05Z")
    assert row["local_time"] == "2024-03-01 20:05 NZDT"
    assert row["issued_at"] == pd.Timestamp("2024-03-01T06:55Z")
    assert row.geometry == forecast.nodes.geometry["b"]


def test_file_is_compressed_with_zstd_and_says_what_it_is(
    forecast: STGraph, tmp_path: Path
) -> None:
    with pq.ParquetFile(write_geoparquet(forecast, tmp_path / "f.parquet")) as file:
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        assert b'"primary_column": "geometry"' in file.schema_arrow.metadata[b"geo"]


def test_writing_twice_does_not_double_rows(forecast: STGraph, tmp_path: Path) -> None:
    for _ in range(2):
        path = write_geoparquet(forecast, tmp_path / "f.parquet")
    assert pq.read_metadata(path).num_rows == 12
    assert [p.name for p in tmp_path.iterdir()] == ["f.parquet"]


def test_failures_leave_nothing(
    forecast: STGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"does not end in \.parquet"):
        write_geoparquet(forecast, tmp_path / "f.gpkg")
    with pytest.raises(OutputError, match="does not exist"):
        write_geoparquet(forecast, tmp_path / "none" / "f.parquet")

    def fail(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_geoparquet(forecast, tmp_path / "f.parquet")
    assert list(tmp_path.iterdir()) == []


def test_foreign_and_broken_files_are_refused(forecast: STGraph, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_geoparquet(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("PAR1 or so")
    with pytest.raises(DataError, match="no readable Parquet"):
        read_geoparquet(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="was not written by stgraph"):
        read_geoparquet(tmp_path / "other.parquet")
    path = write_geoparquet(forecast, tmp_path / "f.parquet")
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="no readable Parquet"):
        read_geoparquet(tmp_path / "cut.parquet")


def test_changed_files_are_refused(forecast: STGraph, tmp_path: Path) -> None:
    """Another program kept our metadata but sorted rows, swapped nodes or dropped a column."""
    table = pq.read_table(write_geoparquet(forecast, tmp_path / "f.parquet"))
    n_nodes = forecast.n_nodes
    swapped = [*range(table.num_rows)]
    swapped[n_nodes], swapped[n_nodes + 1] = n_nodes + 1, n_nodes
    for rows in (swapped, range(table.num_rows)[::-1]):
        pq.write_table(table.take(list(rows)), tmp_path / "f.parquet")
        with pytest.raises(DataError, match="rows in another order"):
            read_geoparquet(tmp_path / "f.parquet")
    pq.write_table(table.drop([forecast.feature_names[0]]), tmp_path / "f.parquet")
    with pytest.raises(DataError, match="was changed since it was written"):
        read_geoparquet(tmp_path / "f.parquet")
