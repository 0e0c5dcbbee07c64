"""Forecasts of every road segment of a job: read roads, snap stations, carry, tell support."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd

from stgraph import registry
from stgraph.config import JobConfig, RoadsConfig, reveal
from stgraph.errors import ConfigError, InputError
from stgraph.graph import FloatArray, IntArray, STGraph
from stgraph.kriging.surroundings import SUPPORT, Surroundings, surround_segments
from stgraph.neighbours.line_graph import build_line_graph
from stgraph.neighbours.snapping import snap_stations
from stgraph.preprocessing.splits import Split
from stgraph.report import Report

if TYPE_CHECKING:  # torch is loaded by the stages that need it
    from stgraph.forecasting import Forecaster
    from stgraph.kriging.estimator import Estimator
    from stgraph.kriging.holdout import Holdout

logger = logging.getLogger(__name__)

_ESTIMATORS = "segments.safetensors"  # in the run folder, beside the checkpoint
_SUFFIXES = ("", "_q10", "_q50", "_q90")


@dataclass(frozen=True, eq=False)
class Segments:
    """All road segments of a job, and which of its stations measure which of them."""

    graph: STGraph  # M segments as nodes, without signal
    stations: IntArray  # (S,) positions of the snapped stations among all stations
    around: Surroundings  # of the segments
    among: Surroundings  # of the snapped stations
    near_m: float  # limits of the classes of support
    far_m: float
    report: Report

    def support(self) -> IntArray:
        """Return per segment the position in `SUPPORT` of what its values rest on."""
        return self.around.support(near_m=self.near_m, far_m=self.far_m)

    def count_support(self) -> dict[str, int]:
        """Return how many segments have which support."""
        counts = np.bincount(self.support(), minlength=len(SUPPORT))
        return dict(zip(SUPPORT, counts.tolist(), strict=True))

    def findings(self) -> Report:
        """Return what was found in the roads, where stations are, and what values rest on."""
        # segments are not forecast along edges: that some have none says nothing
        roads = [finding for finding in self.graph.report if finding.where != "`edges`"]
        return Report([*roads, *self.report, *tell_support(self)])

    def with_support(self, stations: pd.Index[Any]) -> gpd.GeoDataFrame:
        """Return the table of segments with what the values of each rest on.

        Parameters
        ----------
        stations
            Ids of all stations.
        """
        own, distance = self.around.own, self.around.distance_m()
        ids = np.asarray(stations[self.stations].astype(str), dtype=object)
        station = ids[own]
        station[own < 0] = None
        return self.graph.nodes.assign(
            support=np.asarray(SUPPORT)[self.support()],
            support_m=np.where(np.isfinite(distance), distance, np.nan),
            station=station,
        )

    def select(self, rows: IntArray) -> Segments:
        """Return some of the segments."""
        graph = self.graph.select_nodes(self.graph.node_ids[rows])
        return replace(self, graph=graph, around=self.around.take(rows))


def load_segments(config: JobConfig, graph: STGraph) -> Segments | None:
    """Read the roads of a job and put its stations onto them; None if it has no ``[roads]``.

    Raises
    ------
    STGraphError
        The roads cannot be read, or hardly any station is near them.
    """
    roads = config.roads
    if roads is None:
        return None
    read = registry.load("connectors", roads.connector)
    network: STGraph = read(**reveal(roads.options))
    if (network.nodes["kind"] == "junction").any():
        network = build_line_graph(network)
    found = place_stations(graph, network, roads)
    for finding in found.report.warnings:
        logger.warning("%s", finding)
    logger.info(
        "%d of %d stations are on %d road segments",
        len(found.stations),
        graph.n_nodes,
        network.n_nodes,
    )
    return found


def place_stations(graph: STGraph, network: STGraph, roads: RoadsConfig) -> Segments:
    """Snap the stations of a graph to segments and look for the sensors around each segment."""
    snapping = snap_stations(
        graph,
        network,
        max_distance_m=roads.max_snap_m,
        heading_column=roads.heading_column,
        road_column=roads.road_column,
        side=roads.side,
    )
    segment = snapping.stations["segment_id"]
    rows = np.flatnonzero(segment.notna().to_numpy())
    if not len(rows):
        raise InputError("no station lies on any road segment; check `max_snap_m` and the roads")
    at = network.node_ids.get_indexer(pd.Index(segment.iloc[rows].astype("int64")))
    offset = snapping.stations["offset_m"].to_numpy(dtype=np.float64)[rows]
    reach = max(2 * roads.far_m, 10_000.0)
    around, among = surround_segments(network, at, offset, reach_m=reach)
    return Segments(network, rows, around, among, roads.near_m, roads.far_m, snapping.report)


def fit_segments(
    config: JobConfig, graph: STGraph, split: Split, forecaster: Forecaster, segments: Segments
) -> dict[str, Estimator]:
    """Fit what carries values from stations to segments, per target, and save it."""
    from stgraph.kriging.estimator import fit_estimator
    from stgraph.kriging.files import save_estimators
    from stgraph.kriging.holdout import fit_factors, forecast_windows

    roads = _roads(config)
    train, tuned = split.train_steps.stop, max(split.train_steps.stop, split.validation_steps.stop)
    fitted = {}
    for position in forecaster.inputs.targets:
        values = _values(graph, position)[:, segments.stations]
        estimator = fit_estimator(
            values[:train],
            segments.among,
            near_m=roads.near_m,
            far_m=roads.far_m,
            tune=values[train:tuned] if np.isfinite(values[train:tuned]).any() else None,
            learn=roads.learn,
            seed=config.train.seed,
        )
        if len(split.validation):
            made, came = forecast_windows(forecaster, graph, split.validation, position=position)
            rows = segments.stations
            estimator = fit_factors(estimator, made[:, :, rows], came[:, :, rows], segments.among)
        name, unit = graph.features[position].name, graph.features[position].unit
        logger.info("%s without a sensor: %s", name, estimator.in_words(unit))
        fitted[name] = estimator
    ids = graph.node_ids[segments.stations]
    save_estimators(fitted, config.run.folder / _ESTIMATORS, sensors=list(ids))
    return fitted


def load_fitted(config: JobConfig, graph: STGraph, segments: Segments) -> dict[str, Estimator]:
    """Return what an earlier `fit_segments` of this config saved."""
    from stgraph.kriging.files import load_estimators

    roads = _roads(config)
    ids = graph.node_ids[segments.stations]
    path = config.run.folder / _ESTIMATORS
    return load_estimators(path, sensors=list(ids), near_m=roads.near_m, far_m=roads.far_m)


def measure_segments(
    config: JobConfig, graph: STGraph, split: Split, forecaster: Forecaster, segments: Segments
) -> Holdout:
    """Hide some of the stations and measure what is guessed at them."""
    from stgraph.kriging.holdout import evaluate_holdout

    roads = _roads(config)
    steps = config.evaluate.steps or sorted(
        {max(1, config.windows.horizon // 4), (config.windows.horizon + 1) // 2}
        | {config.windows.horizon}
    )
    return evaluate_holdout(
        graph,
        segments.among,
        columns=segments.stations,
        train_steps=split.train_steps.stop,
        tune_steps=max(split.train_steps.stop, split.validation_steps.stop),
        near_m=roads.near_m,
        far_m=roads.far_m,
        forecaster=forecaster,
        share=roads.hide,
        n_draws=roads.draws,
        steps=tuple(steps),
        learn=roads.learn,
        limits=_says_limits(segments),
        seed=config.train.seed,
    )


def forecast_segments(
    forecast: STGraph, segments: Segments, fitted: Mapping[str, Estimator]
) -> STGraph:
    """Return the forecast of every segment, with columns that tell what each rests on.

    Parameters
    ----------
    forecast
        Of all stations.
    segments
        The segments, and the stations on them.
    fitted
        Estimators by target.

    Returns
    -------
    STGraph
        Segments as nodes with all their columns, and `support` (own sensor, near, far, none),
        `support_m` (metres along the road to the nearest sensor, NaN beyond reach) and `station`.
        No edges. NaN where no sensor is connected at all.
    """
    parts = []
    names = []
    for name, estimator in fitted.items():
        four = [name + suffix for suffix in _SUFFIXES]
        at = [forecast.feature_names.index(one) for one in four]
        parts.append(
            estimator.carry(forecast.values[:, segments.stations][..., at], segments.around)
        )
        names += four
    units = dict(zip(forecast.feature_names, forecast.features, strict=True))
    report = Report([*forecast.report, *segments.report, *tell_support(segments)])
    return segments.graph.replace(
        nodes=segments.with_support(forecast.node_ids),
        edge_index=None,
        edge_weight=None,
        edges=None,
        weight_unit="1",
        time=forecast.time,
        values=np.concatenate(parts, axis=-1),
        mask=None,
        features=tuple(units[name] for name in names),
        zone=forecast.zone,
        provenance={
            **_provenance(segments.graph, forecast),
            "support": {one: estimator.method for one, estimator in fitted.items()},
            "findings": report.to_json(),
        },
    )


def _provenance(roads: STGraph, forecast: STGraph) -> dict[str, Any]:
    """Return where roads and forecast come from; how edges were made says nothing without any."""
    both = {**roads.provenance, **forecast.provenance}
    named = [one.provenance.get("attribution") for one in (roads, forecast)]
    if any(named):
        both["attribution"] = "; ".join(dict.fromkeys(str(name) for name in named if name))
    return {name: note for name, note in both.items() if name != "graph"}


def observe_segments(readings: STGraph, segments: Segments, forecast: STGraph) -> STGraph:
    """Return the readings of the segments that have a sensor, as the nodes of a forecast."""
    own = segments.around.own
    station = segments.stations[own]
    values = np.where(own[:, None] >= 0, readings.values[:, station], np.float32(np.nan))
    mask = readings.mask[:, station] & (own[:, None] >= 0)
    return readings.replace(
        nodes=forecast.nodes,
        edge_index=None,
        edge_weight=None,
        edges=None,
        weight_unit="1",
        values=values,
        mask=mask,
    )


def _says_limits(segments: Segments) -> bool:
    """Tell whether most of the segments with a station have a speed limit that is no guess."""
    nodes = segments.graph.nodes
    if "speed_imputed" not in nodes:
        return True
    guessed = nodes["speed_imputed"].eq(True).fillna(False).to_numpy(dtype=bool)
    return bool(guessed[segments.around.own >= 0].mean() < 0.5)


def tell_support(segments: Segments) -> Report:
    """Return how many segments have which support."""
    report = Report()
    words = ", ".join(f"{name} {count}" for name, count in segments.count_support().items())
    total = segments.graph.n_nodes
    report.info("`support`", f"of {total} segments: {words}", "guesses are no measurements")
    unknown = int((~segments.around.connected).sum())
    if unknown:
        report.warning(
            "`support`",
            f"{unknown} segments are connected to no sensor",
            "they have no values",
            count=unknown,
        )
    return report


def _values(graph: STGraph, position: int) -> FloatArray:
    """Return one feature, (T, N), NaN where not observed."""
    seen = graph.mask[..., position]
    return np.where(seen, graph.values[..., position], np.float32(np.nan)).astype(np.float32)


def _roads(config: JobConfig) -> RoadsConfig:
    """Return the table ``[roads]``."""
    if config.roads is None:
        raise ConfigError("[roads] is missing; name the connector of the road network")
    return config.roads
