"""A job step by step in Python: what is connected, cleaned, tried out and written."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from pyogrio import list_layers

from stgraph import pipeline, preflight, registry, results
from stgraph.config import JobConfig
from stgraph.configfile import read_config
from stgraph.errors import CheckpointError, ConfigError, InputError
from stgraph.evaluation import Evaluation
from stgraph.graph import Feature, STGraph
from stgraph.preprocessing.splits import split_windows

N_STEPS = 200
CONFIG = """\
[data]
connector = "made_up"
[graph]
k = 2
[windows]
window = 6
horizon = 4
[model]
name = "profile_decay"
[evaluate]
baselines = ["persistence"]
[[output]]
sink = "geopackage"
path = "forecast.gpkg"
"""


def read_made_up(*, spike: bool = False, silent: bool = False, linked: bool = False) -> STGraph:
    """Return five stations with a daily course, hourly; a connector as others may register it."""
    hour = np.arange(N_STEPS)[:, None]
    noise = np.random.default_rng(1).normal(size=(N_STEPS, 5))
    values = (50 + 20 * np.sin(hour / 24 * 2 * np.pi) + noise).astype(np.float32)[..., None]
    if spike:
        values[20, 2] = 5000
    if silent:
        values[:150] = np.nan
    time = pd.date_range("2024-05-01", periods=N_STEPS, freq="h", tz="UTC")
    xy = gpd.points_from_xy(1_750_000 + 100 * np.arange(5), np.full(5, 5_900_000))
    nodes = gpd.GeoDataFrame(index=list("abcde"), geometry=xy, crs=2193)
    edge_index = np.array([[0], [4]]) if linked else None
    features = (Feature("flow"),)
    return STGraph(nodes=nodes, edge_index=edge_index, time=time, values=values, features=features)


class Entry:
    """What an installed package offers as entry point."""

    name = "made_up"

    @staticmethod
    def load() -> object:
        return read_made_up


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install another package's connector."""
    offered = {"connectors": [Entry]}
    monkeypatch.setattr(registry, "_entries", lambda group: offered.get(group, []))


def job(folder: Path, *changes: str, more: str = "") -> JobConfig:
    (folder / "job.toml").write_text(CONFIG + more)
    return read_config(folder / "job.toml", overrides=changes)


def test_a_connector_of_another_package_works_like_ours(tmp_path: Path) -> None:
    """Its options are checked against its own signature."""
    graph = pipeline.load_graph(job(tmp_path, "data.spike=true"))
    assert (graph.n_nodes, graph.n_edges, graph.n_steps) == (5, 10, N_STEPS)
    with pytest.raises(ConfigError, match=r"\[data\] `spikes`: .*mean 'spike'"):
        job(tmp_path, "data.spikes=true")


def test_no_edges_only_when_asked_for(tmp_path: Path) -> None:
    """A graph model without a graph is more often a mistake than a wish."""
    config = job(tmp_path)
    graph = pipeline.load_graph(config).replace(edge_index=None, edge_weight=None, edges=None)
    with pytest.raises(ConfigError, match="'knn' makes no edge between the 5 node"):
        preflight.check_job(config, graph)
    config = config.model_copy(update={"graph": config.graph.model_copy(update={"method": "none"})})
    assert pipeline.load_graph(config).n_edges == 0
    preflight.check_job(config, graph)


def test_outliers_become_gaps_before_anything_is_learned(tmp_path: Path) -> None:
    """One impossible reading, one cell unobserved, and the report says so."""
    more = "[prepare.outliers]\nlimits = { flow = [0, 100] }\n"
    graph = pipeline.load_graph(job(tmp_path, "data.spike=true", more=more))
    assert (~graph.mask).sum() == 1
    assert not graph.mask[20, 2, 0]
    assert len(graph.report.findings) > 0


def test_gaps_are_filled_without_looking_ahead(tmp_path: Path) -> None:
    """A forecast must not know what came after it, not even through a filled gap."""
    more = (
        "[prepare.outliers]\nlimits = { flow = [0, 100] }\n[prepare.gaps]\nmethods = ['linear']\n"
    )
    graph = pipeline.load_graph(job(tmp_path, "data.spike=true", more=more))
    assert not graph.mask[20, 2, 0]
    assert graph.values[20, 2, 0] == graph.values[19, 2, 0]


def test_a_target_never_observed_in_training_is_refused(tmp_path: Path) -> None:
    """Before minutes are spent on it."""
    config = job(tmp_path, "data.silent=true")
    with pytest.raises(InputError, match="feature 'flow' has no observation from 2024-05-01"):
        preflight.check_job(config, pipeline.load_graph(config))


def test_outputs_are_tried_out_before_training(tmp_path: Path) -> None:
    """An output that cannot be written fails in seconds, and nothing is made."""
    config = job(
        tmp_path, "output.0.path=forecast.png", more="step = 3\n".replace("step = 3\n", "")
    )
    with pytest.raises(ConfigError, match=r"\[\[output\]\] 1, geopackage: 'forecast.png'"):
        pipeline.run(config)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs/job/forecast.gpkg").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"forecast\.gpkg is a folder"):
        pipeline.run(job(tmp_path))


def test_the_layer_shows_the_errors_per_node(tmp_path: Path) -> None:
    """What the evaluation found is in the GeoPackage, beside the forecast."""
    result = pipeline.run(job(tmp_path))
    layers = {name for name, _ in list_layers(result.outputs[0])}
    assert {"forecast", "error_by_node"} <= layers
    errors = gpd.read_file(result.outputs[0], layer="error_by_node")
    assert errors["mae"].to_numpy() == pytest.approx(result.evaluation.per_node()["mae"])
    assert result.forecast.n_steps == 4


def test_the_skill_table_orders_by_horizon_and_names_units(tmp_path: Path) -> None:
    """Per horizon the model first, then the baselines; all horizons at the end."""
    config = job(tmp_path, "evaluate.steps=[1, 4]")
    evaluation = pipeline.run(config).evaluation
    table = results.skill_table(config, evaluation)
    assert list(table["horizon"]) == ["1 h", "1 h", "4 h", "4 h", "all", "all"]
    assert list(table["model"])[:2] == ["profile_decay", "persistence"]
    assert list(table.columns) == ["horizon", "model", "MAE", "RMSE", "MAPE %", "skill %"]
    assert table.iloc[1]["skill %"] == 0  # the only baseline is the best one
    rows = results.summarise(config, evaluation)
    assert rows[0]["MAE"] == pytest.approx(evaluation.table()["mae"].iloc[0])


CLASSES = """\
[head]
kind = "classes"
edges = [40, 60]
"""
MORE_OUTPUTS = """\
[[output]]
sink = "map"
path = "map.png"
[[output]]
sink = "geoparquet"
path = "forecast.parquet"
"""


def test_a_job_of_classes(tmp_path: Path) -> None:
    """Probabilities and the most likely class reach every file, and errors are those of classes."""
    config = job(tmp_path, more=CLASSES + MORE_OUTPUTS)
    done = pipeline.run(config)
    assert done.forecast.feature_names == ("flow_class", "flow_p0", "flow_p1", "flow_p2")
    table = results.skill_table(config, done.evaluation)
    assert list(table) == ["horizon", "model", "accuracy %", "recall %", "F1 %", "skill %"]
    metrics = pd.read_csv(config.run.folder / "metrics.csv")
    assert metrics["accuracy_percent"].between(0, 100).all()
    values = gpd.read_file(config.run.folder / "forecast.gpkg", layer="forecast")
    assert {"flow_class", "flow_p2"} <= set(values)
    again = pipeline.load_checkpoint(config)
    assert again.head == config.head
    with pytest.raises(CheckpointError, match=r"\[head\]: is "):
        pipeline.load_checkpoint(job(tmp_path))
    with pytest.raises(CheckpointError, match=r"`seasons`: is False in the config, but .* True"):
        pipeline.load_checkpoint(job(tmp_path, more=CLASSES + "[prepare]\nseasons = false\n"))


@pytest.mark.parametrize("kind", ["quantiles", "regression", "gaussian"])
def test_a_job_with_more_quantiles(tmp_path: Path, kind: str) -> None:
    head = f'[head]\nkind = "{kind}"\nlevels = [0.05, 0.95]\n'
    done = pipeline.run(job(tmp_path, more=head + MORE_OUTPUTS))
    names = ["flow" + end for end in ("", "_q05", "_q10", "_q50", "_q90", "_q95")]
    names += ["flow_std"] if kind == "gaussian" else []
    assert list(done.forecast.feature_names) == names
    # baselines have three: all are measured by the same ones
    plain = pipeline.run(job(tmp_path))
    pd.testing.assert_frame_equal(done.evaluation.table(), plain.evaluation.table(), rtol=1e-4)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("kind = 'classes'", r"`edges`: is missing"),
        ("kind = 'clases'", r"`kind`: cannot be 'clases'"),
        ("levels = [0.025]", r"`levels`: cannot be \[0.025\].*whole per cents"),
        ("edges = [4]", r"`edges`: cannot be \[4\].*to classes, not to quantiles"),
        ("step_weights = [1, 2]", r"`step_weights`: has 2 numbers.* 4"),
        ("edge = [4]", r"`edge`: .*mean 'edges'"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(tmp_path: Path, head: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"\[head\] " + message):
        job(tmp_path, more=f"[head]\n{head}\n")


def test_a_choice_without_a_validation_part_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    job(tmp_path)
    path.write_text(path.read_text().replace("[windows]", "[windows]\nfractions = [0.8, 0, 0.2]"))
    with pytest.raises(ConfigError, match="`fractions`: leave no validation part"):
        read_config(path, model="auto")


def test_files_are_written_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves the old file as it was, and no new one."""
    path = tmp_path / "a/metrics.csv"
    results.write_text(path, "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match=r"metrics\.csv cannot be written \(full\)"):
        results.write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.csv"]


def test_sizes_of_the_task(tmp_path: Path) -> None:
    """What `check` shows, by hand: 200 - 6 - 4 + 1 = 191 windows, 38 of them for the test."""
    config = job(tmp_path)
    graph = pipeline.load_graph(config)
    split = split_windows(N_STEPS, window=6, horizon=4)
    sizes = preflight.job_sizes(config, graph, split)
    assert (sizes["nodes"], sizes["edges"], sizes["test windows"]) == (5, 10, 38)
    assert sizes["missing (%)"] == 0
    assert sizes["forecast"] == "flow, flow_q10, flow_q50, flow_q90"
    assert isinstance(pipeline.run(config).evaluation, Evaluation)


def read_weather(*, n_steps: int = 70, role: str = "known_future") -> STGraph:
    """Return a weather station with a value every three hours from the first reading on."""
    time = pd.date_range("2024-05-01", periods=n_steps, freq="3h", tz="UTC")
    nodes = gpd.GeoDataFrame(
        index=["w"], geometry=gpd.points_from_xy([1_750_900], [5_900_500]), crs=2193
    )
    values = np.arange(n_steps, dtype=np.float32)[:, None, None]
    return STGraph(nodes=nodes, time=time, values=values, features=(Feature("rain", "mm", role),))  # type: ignore[arg-type]


class Weather:
    """What another package offers."""

    name = "weather"

    @staticmethod
    def load() -> object:
        return read_weather


SOURCE = '[[source]]\nconnector = "weather"\n'


@pytest.fixture
def weather(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = {"connectors": [Entry, Weather]}
    monkeypatch.setattr(registry, "_entries", lambda group: offered.get(group, []))


@pytest.mark.usefixtures("weather")
def test_a_second_source_joins_and_reaches_the_model(tmp_path: Path) -> None:
    """Four hours of known future are appended, as many as the horizon; a forecast starts before."""
    change = "model.name='ridge'"
    config = job(tmp_path, change, more=SOURCE)
    graph = pipeline.load_graph(config)
    assert graph.features[1] == Feature("rain", "mm", "known_future")
    assert graph.n_steps == N_STEPS + 4
    assert graph.values[[0, 2, 3, 203], 0, 1].tolist() == [0, 0, 1, 67]
    result = pipeline.run(config)
    assert result.forecast.provenance["issued_at"] == graph.time[N_STEPS - 1].isoformat()
    assert result.forecaster.inputs.known == [1]


@pytest.mark.usefixtures("weather")
def test_a_future_that_is_not_known_is_refused_before_training(tmp_path: Path) -> None:
    """Rain is known for two hours more, the age of its last value; earlier, a forecast is made."""
    config = job(tmp_path, "source.0.n_steps=67", more=SOURCE)
    with pytest.raises(InputError, match="'rain': has role known_future, and 2 of the 4 steps"):
        pipeline.run(config)
    assert not (tmp_path / "runs").exists()
    earlier = job(tmp_path, "source.0.n_steps=67", "forecast.at=2024-05-08T12:00", more=SOURCE)
    assert pipeline.run(earlier).forecast.n_steps == 4


@pytest.mark.usefixtures("weather")
def test_a_source_that_does_not_fit_is_named_by_its_number(tmp_path: Path) -> None:
    more = SOURCE + "[source.join]\nmax_distance_m = 5\n" + SOURCE
    with pytest.raises(InputError, match=r"\[\[source\]\] 1, 'weather': cannot join the source"):
        pipeline.load_graph(job(tmp_path, more=more))
    with pytest.raises(InputError, match=r"(?s)\[\[source\]\] 2, 'weather'.*\['rain'\] already"):
        pipeline.load_graph(job(tmp_path, more=SOURCE * 2))


@pytest.mark.parametrize(
    ("graph", "linked", "n_edges"),
    [
        ("", True, 1),  # those of the connector
        ("", False, 20),  # it brings none: knn, here with all others
        ("k = 2", True, 10),  # an option of knn is a wish for it
        ('method = "given"', True, 1),
        ('method = "none"', True, 0),
    ],
)
def test_edges_of_the_connector_are_taken_unless_others_are_wanted(
    graph: str, linked: bool, n_edges: int, tmp_path: Path
) -> None:
    """Protects the turns of a road network against nearest neighbours by default."""
    path = tmp_path / "job.toml"
    data = f'[data]\nconnector = "made_up"\nlinked = {str(linked).lower()}\n'
    path.write_text(f"{data}[graph]\n{graph}\n")
    assert pipeline.load_graph(read_config(path)).n_edges == n_edges
