"""A job that forecasts every road segment: from the config to the file that QGIS opens."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from stgraph_connectors.sinks.geopackage import read_geopackage

from stgraph import pipeline, registry
from stgraph.cli import main
from stgraph.config import JobConfig
from stgraph.configfile import read_config
from stgraph.errors import CheckpointError, ConfigError, InputError, OutputError
from stgraph.graph import Feature, STGraph
from stgraph.neighbours.line_graph import build_line_graph
from stgraph.segments import forecast_segments, load_fitted, load_segments, measure_segments

N_STEPS = 200
CONFIG = """\
[data]
connector = "made_up_stations"
[graph]
k = 2
[windows]
window = 6
horizon = 4
[model]
name = "profile_decay"
[evaluate]
baselines = ["persistence"]
[roads]
connector = "made_up_roads"
near_m = 250
far_m = 450
draws = 1
learn = false
[[output]]
sink = "geopackage"
path = "stations.gpkg"
[[output]]
sink = "geopackage"
of = "segments"
path = "segments.gpkg"
[[output]]
sink = "geoparquet"
of = "segments"
path = "segments.parquet"
"""
EAST, NORTH = 1_750_000.0, 5_900_000.0


def read_made_up_roads(*, n: int = 12, junctions: bool = False) -> STGraph:
    """Return a one-way street of n segments of 200 m, and one segment far away from it."""
    ends = EAST + 200 * np.arange(n + 1)
    lines = [shapely.LineString([(x, NORTH), (x + 200, NORTH)]) for x in ends[:-1]]
    lines.append(shapely.LineString([(EAST, NORTH + 9000), (EAST + 200, NORTH + 9000)]))
    points = [*((x, NORTH) for x in ends), (EAST, NORTH + 9000), (EAST + 200, NORTH + 9000)]
    source = np.array([*range(n), n + 1])
    edges = gpd.GeoDataFrame(
        {"segment_id": 100 + np.arange(n + 1), "highway": "primary", "speed_kmh": 50.0},
        geometry=lines,
        crs=2193,
    )
    roads = STGraph(
        nodes=gpd.GeoDataFrame(
            {"kind": ["junction"] * len(points)},
            geometry=gpd.points_from_xy(*zip(*points, strict=True)),
            crs=2193,
        ),
        edge_index=np.stack([source, source + 1]),
        edges=edges,
    )
    return roads if junctions else build_line_graph(roads)


def read_made_up_stations(*, away: bool = False) -> STGraph:
    """Return six stations beside every other segment of that street, and one beside no road."""
    hour = np.arange(N_STEPS)[:, None]
    noise = np.random.default_rng(1).normal(size=(N_STEPS, 7))
    values = (50 + 20 * np.sin(hour / 24 * 2 * np.pi) + noise).astype(np.float32)[..., None]
    time = pd.date_range("2024-05-01", periods=N_STEPS, freq="h", tz="UTC")
    xy = gpd.points_from_xy(
        EAST + np.array([100, 500, 900, 1300, 1700, 1900, 700]),
        NORTH + np.array([3, 3, 3, 3, 3, 3, 4000]) + 9000 * away * 100,
    )
    nodes = gpd.GeoDataFrame(index=list("abcdefg"), geometry=xy, crs=2193)
    return STGraph(nodes=nodes, time=time, values=values, features=(Feature("flow"),))


class _Entry:
    """What an installed package offers as entry point."""

    def __init__(self, name: str, function: object) -> None:
        self.name, self.load = name, lambda: function


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install another package's connectors."""
    offered = {
        "connectors": [
            _Entry("made_up_stations", read_made_up_stations),
            _Entry("made_up_roads", read_made_up_roads),
        ]
    }
    monkeypatch.setattr(registry, "_entries", lambda group: offered.get(group, []))


def job(folder: Path, *changes: str, text: str = CONFIG) -> JobConfig:
    (folder / "job.toml").write_text(text)
    return read_config(folder / "job.toml", overrides=changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[JobConfig, pipeline.JobResult]:
    """Run the job once."""
    folder = tmp_path_factory.mktemp("segments")
    with pytest.MonkeyPatch.context() as patch:
        entries = [
            _Entry("made_up_stations", read_made_up_stations),
            _Entry("made_up_roads", read_made_up_roads),
        ]
        patch.setattr(registry, "_entries", lambda group: entries if group == "connectors" else [])
        config = job(folder)
        return config, pipeline.run(config)


def test_every_segment_gets_a_forecast(done: tuple[JobConfig, pipeline.JobResult]) -> None:
    """Protects the whole way: support, metres, bounds; and nothing where nothing is connected."""
    config, result = done
    everywhere = read_geopackage(config.run.folder / "segments.gpkg")
    assert everywhere.n_nodes == 13
    assert everywhere.feature_names == ("flow", "flow_q10", "flow_q50", "flow_q90")
    nodes = everywhere.nodes
    own, near, far, none = "own sensor", "near", "far", "none"
    expected = [own, near, own, near, own, near, own, near, own, own, near, far, none]
    assert nodes["support"].tolist() == expected
    assert nodes["support_m"].tolist()[:2] == pytest.approx([0, 200], abs=0.5)
    assert nodes["support_m"].tolist()[10:12] == pytest.approx([200, 400], abs=0.5)
    assert nodes["station"].dropna().tolist() == ["a", "b", "c", "d", "e", "f"]
    assert nodes["station"].notna().equals(nodes["support"] == own)
    assert np.isfinite(everywhere.values[:, :12]).all()
    assert np.isnan(everywhere.values[:, 12]).all()
    assert everywhere.provenance["issued_at"] == result.forecast.provenance["issued_at"]
    assert any("connected to no sensor" in str(finding) for finding in everywhere.report)


def test_a_measured_segment_has_the_forecast_of_its_station(
    done: tuple[JobConfig, pipeline.JobResult],
) -> None:
    """Protects measurements: carried over exactly; and guesses are wider."""
    config, result = done
    everywhere = read_geopackage(config.run.folder / "segments.gpkg")
    np.testing.assert_array_equal(everywhere.values[:, 2], result.forecast.values[:, 1])
    width = everywhere.values[..., 3] - everywhere.values[..., 1]
    assert (width[:, 11] > 0.98 * width[:, 10]).all()
    assert (width[:, 10] > 0.95 * width[:, 8]).all()  # never surer than what it is made from


def test_no_edges_are_made_by_nothing(done: tuple[JobConfig, pipeline.JobResult]) -> None:
    """Protects `graph info`: edges of stations are none of the segments; both sources are named."""
    config, result = done
    stations = read_geopackage(config.run.folder / "stations.gpkg")
    assert "graph" in stations.provenance
    everywhere = read_geopackage(config.run.folder / "segments.gpkg")
    assert everywhere.n_edges == 0
    assert "graph" not in everywhere.provenance
    segments = load_segments(config, result.graph)
    assert segments is not None
    roads = segments.graph.replace(provenance={"attribution": "(c) the map"})
    forecast = result.forecast.replace(
        provenance={**result.forecast.provenance, "attribution": "(c) the city"}
    )
    fitted = load_fitted(config, result.graph, segments)
    both = forecast_segments(forecast, replace(segments, graph=roads), fitted)
    assert both.provenance["attribution"] == "(c) the map; (c) the city"


def test_stations_are_written_as_before(done: tuple[JobConfig, pipeline.JobResult]) -> None:
    """Protects outputs that do not ask for segments."""
    config, _ = done
    assert read_geopackage(config.run.folder / "stations.gpkg").n_nodes == 7


def test_the_hold_out_is_a_table(done: tuple[JobConfig, pipeline.JobResult]) -> None:
    """Protects holdout.csv: present values and forecasts, per class of support."""
    config, result = done
    table = pd.read_csv(config.run.folder / "holdout.csv")
    assert {"inverse distance", "graph interpolation", "what is written"} <= set(table["method"])
    assert set(table["minutes"]) == {0, 60, 120, 240}
    assert result.holdout is not None
    assert "inverse distance weighting" in result.holdout.verdict()


@pytest.mark.parametrize(("guessed", "compared"), [(2, True), (3, False)])
def test_guessed_speed_limits_are_no_yardstick(
    done: tuple[JobConfig, pipeline.JobResult], guessed: int, compared: bool
) -> None:
    """Protects the table: the limits of six segments count only if fewer than half are guesses."""
    config, result = done
    segments = load_segments(config, result.graph)
    assert segments is not None
    imputed = np.zeros(13, dtype=bool)
    imputed[np.flatnonzero(segments.around.own >= 0)[:guessed]] = True
    nodes = segments.graph.nodes.assign(speed_imputed=imputed)
    told = replace(segments, graph=segments.graph.replace(nodes=nodes))
    split = pipeline.split_job(config, result.graph)
    found = measure_segments(config, result.graph, split, result.forecaster, told)
    assert ("share of the speed limit" in set(found.table["method"])) == compared


def test_commands_go_on_from_the_checkpoint(
    done: tuple[JobConfig, pipeline.JobResult], capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects `evaluate` and `forecast` in new processes: the estimator is read, not fitted."""
    config, _ = done
    path = str(config.run.folder.parents[1] / "job.toml")
    before = read_geopackage(config.run.folder / "segments.gpkg")
    assert main(["forecast", path, "-q"]) == 0
    assert read_geopackage(config.run.folder / "segments.gpkg").equals(before)
    assert main(["evaluate", path, "-q"]) == 0
    shown = capsys.readouterr().out
    assert "where there is no sensor" in shown
    assert "what is written" in shown


def test_check_looks_at_the_roads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects `check`: what the segments rest on is told, by hand; nothing is trained."""
    job(tmp_path)
    assert main(["check", str(tmp_path / "job.toml"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    sizes = answer["sizes"]
    assert sizes["segments"] == 13
    assert sizes["segments by support"] == {"own sensor": 6, "near": 5, "far": 1, "none": 1}
    assert sizes["stations on roads"] == "6 of 7"
    found = [finding["what"] for finding in answer["findings"]]
    assert "1 segments are connected to no sensor" in found
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("roads.heading_column=dir", "`heading_column`: there is no column 'dir'"),
        ("roads.hide=0.9", r"\[roads\] `hide`: 6 sensors are too few .* \(`draws = 0`\)"),
        ("data.away=true", "no station is within 50 m of a road"),
        ("output.1.sink=picky", r"\[\[output\]\] 2, picky: .*like own sensor"),
    ],
)
def test_check_refuses_what_would_fail_after_training(
    change: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Protects minutes of training: roads, snapping, hold-out, and outputs of segments."""
    entries = registry._entries

    def write_nothing(forecast: STGraph, path: Path) -> None:
        """Refuse segments, not stations."""
        if "support" in forecast.nodes:
            raise OutputError(f"{path} takes no support like {forecast.nodes['support'].iloc[0]}")

    picky = {"sinks": [_Entry("picky", write_nothing)]}
    monkeypatch.setattr(registry, "_entries", lambda group: picky.get(group) or entries(group))
    job(tmp_path)
    assert main(["check", str(tmp_path / "job.toml"), "--set", change]) == 2
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))


def test_junctions_are_turned_into_segments(tmp_path: Path) -> None:
    """Protects road connectors that read junctions."""
    config = job(tmp_path, "roads.junctions=true")
    segments = load_segments(config, read_made_up_stations())
    assert segments is not None
    assert segments.graph.n_nodes == 13
    assert segments.stations.tolist() == [0, 1, 2, 3, 4, 5]  # the last one is beside no road


def test_other_limits_than_fitted(done: tuple[JobConfig, pipeline.JobResult]) -> None:
    """Protects against classes that the bounds were not calibrated for."""
    config, result = done
    assert config.roads is not None
    roads = config.roads.model_copy(update={"far_m": 900.0})
    changed = config.model_copy(update={"roads": roads})
    with pytest.raises(CheckpointError, match=r"fitted with near_m 250, far_m 450; run `stgraph"):
        pipeline.forecast_job(changed, result.graph, result.forecaster)


def test_a_damaged_estimator(done: tuple[JobConfig, pipeline.JobResult], tmp_path: Path) -> None:
    """Protects the message: cut off, or of another job."""
    from stgraph.kriging.files import load_estimators

    config, _ = done
    whole = (config.run.folder / "segments.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    for name in ("cut", "missing"):
        with pytest.raises(CheckpointError, match="run `stgraph fit` again"):
            load_estimators(tmp_path / f"{name}.safetensors", sensors=[], near_m=1, far_m=2)
    path = config.run.folder / "segments.safetensors"
    with pytest.raises(CheckpointError, match="6 other sensors"):
        load_estimators(path, sensors=["x"], near_m=250, far_m=450)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["roads.near_m=500"], r"\[roads\] `near_m`: cannot be 500 where `far_m` is 450"),
        (["roads.conector='x'"], r"\[roads\] `conector`: .*mean 'connector'"),
        (["roads.connector='made_up_road'"], r"\[roads\] `connector`: .*mean 'made_up_roads'"),
        (["roads.n='many'"], r"\[roads\] `n`: cannot be 'many'"),
        (["roads.hide=1.5"], r"\[roads\] `hide`: cannot be 1.5; give a number below 1"),
        (["output.1.of='segment'"], r"\[\[output\]\] 2 `of`: cannot be 'segment'"),
    ],
)
def test_roads_that_cannot_be_used(changes: list[str], message: str, tmp_path: Path) -> None:
    """Protects messages about the table [roads]."""
    with pytest.raises(ConfigError, match=message):
        job(tmp_path, *changes)


def test_classes_are_not_carried_to_roads(tmp_path: Path) -> None:
    """Protects from a job that would fail after training: there is nothing to interpolate."""
    with pytest.raises(ConfigError, match=r"\[head\] `kind`: cannot be 'classes' with a table"):
        job(tmp_path, text='[head]\nkind = "classes"\nedges = [9]\n' + CONFIG)


def test_more_quantiles_change_nothing_on_roads(
    done: tuple[JobConfig, pipeline.JobResult], tmp_path: Path
) -> None:
    """Protects the places of the four numbers: segments have those, whatever stations have."""
    ours = pipeline.run(job(tmp_path, text="[head]\nlevels = [0.05, 0.95]\n" + CONFIG))
    assert "flow_q05" in ours.forecast.feature_names
    holdout = done[1].holdout
    assert ours.holdout is not None
    assert holdout is not None
    pd.testing.assert_frame_equal(ours.holdout.table, holdout.table, rtol=1e-3)
    segments = gpd.read_parquet(tmp_path / "runs" / "job" / "segments.parquet")
    assert {"flow", "flow_q10", "flow_q90"} <= set(segments)


def test_segments_without_roads(tmp_path: Path) -> None:
    """Protects the message: an output of segments needs to know which."""
    start, _, rest = CONFIG.partition("[roads]")
    text = start + rest[rest.index("[[output]]") :]
    with pytest.raises(ConfigError, match=r"`of`: is 'segments', but there is no table \[roads\]"):
        job(tmp_path, text=text)


def test_no_station_near_any_road(tmp_path: Path) -> None:
    """Protects the message: found before anything is trained."""
    config = job(tmp_path, "data.away=true")
    with pytest.raises(InputError, match="no station is within 50 m of a road"):
        pipeline.fit_job(config, pipeline.load_graph(config))


@pytest.mark.postgis
def test_support_arrives_in_postgis(
    done: tuple[JobConfig, pipeline.JobResult], database: str
) -> None:
    """Protects the layer `support`: a class per segment, and drawn by it."""
    _, result = done
    output = '\n[[output]]\nsink = "postgis"\nof = "segments"\ndsn = "${DSN}"\n'
    assert main(["db", "init", "--dsn", database]) == 0
    config, _ = done
    path = config.run.folder.parents[1] / "with_database.toml"
    text = CONFIG[: CONFIG.index("[[output]]")] + output
    path.write_text(f'{text}[run]\nfolder = "runs/job"\n')
    published = read_config(path, environment={"DSN": database})
    pipeline.forecast_job(published, result.graph, result.forecaster)
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT support, count(*) FROM stgraph.support GROUP BY support ORDER BY support"
        ).fetchall()
        styles = connection.execute(
            "SELECT stylename, styleqml::text LIKE '%categorizedSymbol%' FROM public.layer_styles "
            "WHERE f_table_name = 'support' AND useasdefault"
        ).fetchall()
    assert rows == [("far", 1), ("near", 5), ("none", 1), ("own sensor", 6)]
    assert styles == [("Support", True)]
