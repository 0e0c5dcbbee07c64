"""A fitted model, and the forecast it makes of a graph: an STGraph like any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from stgraph.allocator import keep_freed_memory
from stgraph.calibration import Calibration
from stgraph.config import HeadConfig
from stgraph.errors import CheckpointError, InputError
from stgraph.graph import Feature, FloatArray, IntArray, STGraph
from stgraph.inputs import Inputs, Source
from stgraph.layout import Layout
from stgraph.models.ensemble import Blend, Member
from stgraph.models.predictor import Predictor
from stgraph.preprocessing.splits import Split
from stgraph.report import Report
from stgraph.windows import Batch, Windows

_WIDTH_OF_NORMAL = 2.5631  # between 10 and 90 %, in standard deviations


@dataclass(frozen=True)
class Forecaster:
    """A fitted model with everything that it needs to forecast without its training data."""

    model: str  # registered name
    options: Mapping[str, Any]  # of the model's config
    inputs: Inputs
    predictor: Predictor | Blend
    calibration: Calibration
    node_ids: pd.Index
    layout: Layout
    fitted_until: pd.Timestamp  # last instant that training looked at
    tuned_until: pd.Timestamp  # last instant that validation looked at
    notes: Mapping[str, Any] = field(default_factory=dict)  # seed, seconds, ...
    head: HeadConfig = field(default_factory=HeadConfig)  # what the model was trained for
    members: tuple[Member, ...] = ()  # of a blend of several models

    def __repr__(self) -> str:
        """Return sizes and names, not the weights."""
        names = [self.inputs.features[position].name for position in self.inputs.targets]
        return (
            f"Forecaster({self.model!r}, {len(self.node_ids)} nodes, {self.inputs.window} -> "
            f"{self.inputs.horizon} steps of {self.inputs.step}, targets={names}, "
            f"head={self.head.kind!r}, fitted until {self.fitted_until})"
        )

    def forecast(self, graph: STGraph, *, at: pd.Timestamp | str | None = None) -> STGraph:
        """Forecast every node of a graph.

        Parameters
        ----------
        graph
            The nodes, features and step that the model was fitted on, with at least one window
            of recent readings; longer history serves the weekly lags.
        at
            Last instant that may be looked at; without a zone it is local. None takes the last
            step at which anything was observed.

        Returns
        -------
        STGraph
            H target times. For every target the features ``name`` (mean), ``name_q10``,
            ``name_q50``, ``name_q90`` and further quantiles if the head has some, in input units;
            with a normal distribution ``name_std``, too. With classes ``name_class`` (the position
            of the most likely one) and ``name_p0``, ``name_p1``, ... (probabilities).

        Raises
        ------
        CheckpointError
            The graph does not match what the model was fitted on; the message says where.
        InputError
            `at` lies outside the data, or there is less than a window before it.
        """
        self.check(graph)
        origin = _origin(graph, at)
        start = origin - self.inputs.window + 1
        if start < 0:
            raise InputError(
                f"a forecast at {graph.time[origin]} needs {self.inputs.window} steps before it, "
                f"there are {origin + 1}; give more history"
            )
        known = _hide_after(graph, origin, self.inputs)
        values = next(self.predict(Source(known, self.inputs), np.array([start])))[1][0]
        targets = [graph.features[i] for i in self.inputs.targets]
        features = tuple(
            Feature(target.name + suffix, "1" if self.head.edges else target.unit)
            for target in targets
            for suffix in self.head.suffixes
        )
        issued = {
            "kind": "forecast",
            "issued_at": graph.time[origin].isoformat(),
            "model": self.model,
            "step_minutes": self.inputs.step / pd.Timedelta(minutes=1),
            "horizon": self.inputs.horizon,
            "findings": self._doubts(graph, origin).to_json(),
        }
        if self.head.edges:
            issued["classes"] = self.head.class_names(targets[0].unit)
        if self.inputs.known:  # what a forecast of other weather may set
            ahead = [graph.features[i] for i in self.inputs.known]
            issued["known_future"] = {feature.name: feature.unit for feature in ahead}
            issued["past_only"] = [graph.features[i].name for i in self.inputs.others]
        return graph.replace(
            time=self._times_after(graph, origin),
            values=values.reshape(self.inputs.horizon, graph.n_nodes, -1),
            mask=None,
            features=features,
            provenance={**graph.provenance, **issued},
        )

    def target_times(
        self, graph: STGraph, *, at: pd.Timestamp | str | None = None
    ) -> pd.DatetimeIndex:
        """Return the H instants that `forecast` would forecast; parameters and errors as there."""
        self.check(graph)
        return self._times_after(graph, _origin(graph, at))

    def _times_after(self, graph: STGraph, origin: int) -> pd.DatetimeIndex:
        """Return the H steps behind one."""
        step = self.inputs.step
        return pd.date_range(graph.time[origin] + step, periods=self.inputs.horizon, freq=step)

    def predict(
        self,
        source: Source,
        starts: Sequence[int] | IntArray | range,
        *,
        batch_size: int | None = None,
    ) -> Iterator[tuple[IntArray, FloatArray]]:
        """Forecast many windows, batch by batch.

        Parameters
        ----------
        source
            A graph seen through this model's inputs.
        starts
            First input step of every window.
        batch_size
            Windows at once; None: 64, or fewer of large graphs.

        Yields
        ------
        tuple
            The starts of a batch and (B, H, N, C, S) in the order of ``head.suffixes``: mean, 10,
            50 and 90 % in input units by default.
        """
        windows = Windows(source, starts)
        device = next(self.predictor.parameters()).device
        self.predictor.eval()
        keep_freed_memory()
        batch_size = batch_size or windows.at_once()
        edges = [part.to(device) for part in windows.edges]  # once: models remember their graph
        for first in range(0, len(windows), batch_size):
            indices = range(first, min(first + batch_size, len(windows)))
            with torch.inference_mode():
                signal = [part.to(device) for part in windows.__getitems__(list(indices))[:4]]
                answer = self.predictor(Batch(*signal, *edges))
            yield windows.starts[list(indices)], self._finish(answer.float().cpu().numpy())

    def check(self, graph: STGraph) -> None:
        """Raise CheckpointError unless the graph is of the kind the model was fitted on."""
        report = Report()
        _compare_nodes(self.node_ids, graph.node_ids, report)
        ours, theirs = self.inputs.features, graph.features
        if ours != theirs:
            odd = [f"{a} here, {b} there" for a, b in zip(theirs, ours, strict=False) if a != b]
            sizes = f"{len(theirs)} here, {len(ours)} there"
            report.error("`features`", odd[0] if odd else sizes, "give the same, in this order")
        if graph.step != self.inputs.step:
            report.error("`time`", f"step {graph.step}, fitted on {self.inputs.step}", "resample")
        if graph.zone != self.inputs.zone:
            report.error("`zone`", f"{graph.zone!r}, fitted on {self.inputs.zone!r}")
        report.raise_errors(CheckpointError, title=f"the graph does not fit this {self.model}")

    def test_starts(self, graph: STGraph) -> range:
        """Return the windows whose targets all lie behind what training and validation saw."""
        first = int(graph.time.searchsorted(self.tuned_until, side="right"))
        stop = graph.n_steps - self.inputs.window - self.inputs.horizon + 1
        return range(max(0, first - self.inputs.window), max(0, stop))

    def with_notes(self, **notes: Any) -> Forecaster:
        """Return the forecaster with more notes."""
        return replace(self, notes={**self.notes, **notes})

    def _finish(self, answer: FloatArray) -> FloatArray:
        """Return what a forecast shows of quantiles, calibrated, or of probabilities."""
        if self.head.kind == "classes":
            likely = answer.argmax(axis=-1)[..., None].astype(np.float32)
            return np.concatenate([likely, answer], axis=-1)
        out = self.calibration.apply(answer, self.inputs.lower)
        if self.head.kind != "gaussian":
            return out
        _, low, middle, high = np.moveaxis(out[..., self.head.main_positions], -1, 0)
        # where the lower half is cut off at the smallest value, the upper one stands for it
        width = np.where(low > self.inputs.lower, high - low, 2 * (high - middle))
        deviation = width[..., None] / np.float32(_WIDTH_OF_NORMAL)
        return np.concatenate([out, deviation], axis=-1)

    def _doubts(self, graph: STGraph, origin: int) -> Report:
        """Return what makes this forecast weaker than it could be."""
        report = Report()
        window = slice(origin - self.inputs.window + 1, origin + 1)
        seen = graph.mask[window][..., self.inputs.targets].any(axis=(0, 2))
        silent = np.flatnonzero(np.logical_not(seen))
        if len(silent):
            ids = [str(node) for node in graph.node_ids[silent[:5]]]
            report.warning(
                f"the {self.inputs.window} steps up to {graph.time[origin]}",
                f"{len(silent)} nodes have no reading there: {ids}",
                "their forecast rests on profile and neighbours only",
                count=len(silent),
            )
        if self.inputs.season_steps > origin + 1:
            report.warning(
                f"history before {graph.time[origin]}",
                f"{origin + 1} steps, less than a season of {self.inputs.season_steps}",
                "the profile stands in for last season's values",
            )
        return report


def instants(graph: STGraph, split: Split) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the last instants that training and validation look at."""
    train = split.train_steps.stop - 1
    tuned = max(train, split.validation_steps.stop - 1)
    return graph.time[train], graph.time[tuned]


def _origin(graph: STGraph, at: pd.Timestamp | str | None) -> int:
    """Return the step of the last instant that may be looked at."""
    if graph.n_steps == 0:
        raise InputError("the graph has no signal to forecast from")
    if at is None:
        targets = graph.feature_positions("target")
        for step in range(graph.n_steps - 1, -1, -1):
            if graph.mask[step][:, targets].any():
                return step
        raise InputError("nothing was observed at any step; there is nothing to forecast from")
    instant = to_instant(at, graph.zone)
    origin = int(graph.time.searchsorted(instant, side="right")) - 1
    length = pd.Timedelta(0) if graph.step is None else graph.step
    if origin < 0 or instant >= graph.time[-1] + length:
        first, last = (graph.time[i].tz_convert(graph.zone) for i in (0, -1))
        raise InputError(
            f"`at` {at!s} lies outside the data, which covers {first} .. {last}; choose an instant "
            "in there"
        )
    return origin


def to_instant(at: pd.Timestamp | str, zone: str) -> pd.Timestamp:
    """Return an instant with a zone, the local one where none is given.

    Raises
    ------
    InputError
        It is no instant, or the clocks of the zone repeat or skip it.
    """
    try:
        instant = pd.Timestamp(at)
    except (TypeError, ValueError) as error:
        raise InputError(f"`at` {at!r} is no instant ({error}); use ISO 8601") from error
    if pd.isna(instant):
        raise InputError(f"`at` {at!r} is no instant; use ISO 8601")
    if instant.tzinfo is not None:
        return instant
    local = instant.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    if not isinstance(local, pd.Timestamp):
        raise InputError(
            f"`at` {at!s} exists twice or never in {zone}, where clocks change; add its offset "
            "from UTC"
        )
    return local


def _hide_after(graph: STGraph, origin: int, inputs: Inputs) -> STGraph:
    """Return the graph without observations after the origin, but with the known future."""
    stop = origin + 1 + (inputs.horizon if inputs.known else 0)
    cut = graph.select_steps(0, stop)
    if not inputs.known or cut.n_steps == origin + 1:
        return cut
    mask = cut.mask.copy()
    hidden = [i for i in range(graph.n_features) if i not in inputs.known]
    mask[origin + 1 :, :, hidden] = False
    return cut.replace(mask=mask)


def _compare_nodes(ours: pd.Index, theirs: pd.Index, report: Report) -> None:
    """Note how the nodes of a graph differ from those a model was fitted on."""
    if ours.equals(theirs):
        return
    missing, extra = ours.difference(theirs), theirs.difference(ours)
    if len(missing) or len(extra):
        what = (
            f"{len(missing)} nodes are missing {list(missing[:3])}, "
            f"{len(extra)} are new {list(extra[:3])}"
        )
        report.error("`nodes`", what, "give the nodes the model was fitted on")
    else:
        place = int(np.argmax(ours != theirs))
        what = f"order differs: {theirs[place]!r} at position {place}, fitted on {ours[place]!r}"
        report.error("`nodes`", what, "use graph.select_nodes(forecaster.node_ids)")
