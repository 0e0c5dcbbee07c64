"""How the time on a segment depends on its flow: a curve per road class, fitted or usual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import least_squares

from stgraph.graph import BoolArray
from stgraph.report import Report
from stgraph.scenario.history import History
from stgraph.scenario.states import RoadState
from stgraph.scenario.streets import Streets

Floats = npt.NDArray[np.float64]

BPR = (1.0, 0.15, 4.0)  # Bureau of Public Roads, 1964
_LOW, _HIGH = (0.8, 0.01, 1.0), (2.0, 20.0, 12.0)  # of factor, alpha, beta
_BINS = 25  # of a ratio of flow and capacity of 1
_FEWEST = 200  # hours of segments of a class, for a curve of its own
_BUSY = 0.4  # of the capacity: a class that never has as much keeps the usual curve
_SLOWEST_KMH = 1.0


@dataclass(frozen=True, eq=False)
class VDF:
    """Times on E segments: length / speed * factor * (1 + alpha * (flow / capacity) ** beta)."""

    length_m: Floats  # (E,)
    factor: Floats  # (E,)
    alpha: Floats  # (E,)
    beta: Floats  # (E,)
    classes: pd.DataFrame  # road_class, factor, alpha, beta, n_hours, is_fitted

    def free_minutes(self, state: RoadState) -> Floats:
        """Return the times without traffic, (E,)."""
        speed = np.maximum(state.speed_kmh.astype(np.float64), _SLOWEST_KMH)
        return np.asarray(0.06 * self.length_m / speed * self.factor)

    def minutes(self, flow_vph: Floats, state: RoadState) -> Floats:
        """Return the times at some flows, (..., E)."""
        load = np.maximum(flow_vph, 0.0) / np.maximum(state.capacity_vph.astype(np.float64), 1.0)
        return np.asarray(self.free_minutes(state) * (1.0 + self.alpha * load**self.beta))

    @property
    def is_fitted(self) -> bool:
        """Whether any class has a curve of its own."""
        return bool(self.classes["is_fitted"].any())


def fit_vdf(streets: Streets, history: History | None, report: Report) -> VDF:
    """Return a curve per road class, fitted to speeds and flows of the past.

    Parameters
    ----------
    streets
        E segments with class, speed and capacity.
    history
        Their past. None, or one without flows: all have the BPR curve 0.15 / 4.
    report
        Gets a warning where the usual curve has to do.

    Notes
    -----
    Hours in which a segment was narrowed are left out. Means over bins of flow / capacity are
    fitted in logarithms, each with the root of its number of hours as weight.
    """
    names = streets.values.road_class.astype(str)
    rows = []
    parts = np.tile(np.asarray(BPR), (len(streets), 1))
    for name in np.unique(names):
        chosen = names == name
        found = None if history is None else _fit_class(streets, history, chosen)
        n_hours = 0 if found is None else found[1]
        if found is not None:
            parts[chosen] = found[0]
        rows.append((name, *parts[chosen][0], n_hours, found is not None))
    columns = ["road_class", "factor", "alpha", "beta", "n_hours", "is_fitted"]
    classes = pd.DataFrame(rows, columns=columns)
    usual = classes.loc[~classes["is_fitted"], "road_class"].tolist()
    if usual:
        report.warning(
            "speed by flow",
            f"the road classes {usual} have the usual curve (BPR 0.15, 4)",
            "how much slower they get is a guess; give a history with their speeds and flows",
            count=len(usual),
        )
    return VDF(streets.length_m.astype(np.float64), parts[:, 0], parts[:, 1], parts[:, 2], classes)


def _fit_class(streets: Streets, history: History, chosen: BoolArray) -> tuple[Any, int] | None:
    """Return factor, alpha and beta of a class and the hours behind them, or None."""
    capacity = streets.values.capacity_vph.astype(np.float64)[chosen]
    free = streets.speed_kmh.astype(np.float64)[chosen]
    load = (history.flow_vph[:, chosen] / capacity).ravel()
    with np.errstate(divide="ignore", invalid="ignore"):
        slower = (free / history.speed_kmh[:, chosen]).ravel()
    good = np.isfinite(load) & np.isfinite(slower) & (load > 0.02)
    good &= (history.share[:, chosen] > 0.99).ravel()
    load, slower = load[good], slower[good]
    if len(load) < _FEWEST or np.quantile(load, 0.999) < _BUSY:
        return None
    place = np.minimum((load * _BINS).astype(np.int64), 2 * _BINS)
    count = np.bincount(place)
    used = count > 0
    x = np.bincount(place, load)[used] / count[used]
    y = np.log(np.bincount(place, slower)[used] / count[used])
    weight = np.sqrt(np.minimum(count[used], 200))

    def off(parts: Floats) -> Floats:
        factor, alpha, beta = parts
        return np.asarray(weight * (np.log(factor * (1.0 + alpha * x**beta)) - y))

    fit = least_squares(off, (1.05, 1.0, 4.0), bounds=(_LOW, _HIGH))
    return fit.x, len(load)


def inherit(vdf: VDF, parent: npt.NDArray[np.int64], streets: Streets) -> VDF:
    """Return the curves of an edited network: parts have their street's, new roads a class's."""
    parts = np.column_stack([vdf.factor, vdf.alpha, vdf.beta])
    known = vdf.classes.set_index("road_class")[["factor", "alpha", "beta"]]
    out = parts[np.maximum(parent, 0)]
    for row in np.flatnonzero(parent < 0):
        name = str(streets.values.road_class[row])
        out[row] = known.loc[name].to_numpy() if name in known.index else BPR
    length = streets.length_m.astype(np.float64)
    return VDF(length, out[:, 0], out[:, 1], out[:, 2], vdf.classes)
