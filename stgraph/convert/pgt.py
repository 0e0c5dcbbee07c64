"""STGraph <-> `StaticGraphTemporalSignal` of torch-geometric-temporal.

That package cannot be installed by a plain ``pip install torch-geometric-temporal``: it asks for
two packages that have to be compiled, though it uses one name of one of them. Install it with
``pip install --no-deps torch-geometric-temporal``; the missing name is lent to it here while it
is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stgraph.convert._parts import Nodes, plain_nodes, quiet_import, template
from stgraph.errors import GraphError, InputError, MissingExtraError
from stgraph.graph import Feature, STGraph

if TYPE_CHECKING:
    from torch_geometric_temporal.signal import StaticGraphTemporalSignal


def to_pgt(graph: STGraph, *, window: int = 1, horizon: int = 1) -> StaticGraphTemporalSignal:
    """Return the graph as windows for torch-geometric-temporal.

    Parameters
    ----------
    graph
        A graph with a signal of at least `window` + `horizon` steps. That package knows no mask:
        fill gaps first.
    window
        Steps in each `x`.
    horizon
        Steps in each `y`, those right after the window.

    Returns
    -------
    StaticGraphTemporalSignal
        One snapshot per window: `x` (N, F, W), `y` (N, H) or, with C > 1 target features,
        (N, C, H), `edge_attr` the weights, `mask` and `y_mask` (1 = observed) of the same shapes.
        Each is cut out of the graph's arrays when it
        is asked for. The rest of the graph is kept in the attribute
        `stgraph` of the signal, which its slices do not inherit.

    Raises
    ------
    InputError
        The windows do not fit into the signal, or no feature is a target.
    MissingExtraError
        torch-geometric-temporal is not installed.

    Notes
    -----
    ``from_pgt(to_pgt(graph))`` gives an equal graph if all features are targets; of others the
    last `horizon` steps are lost.
    """
    for name, value in {"window": window, "horizon": horizon}.items():
        if not isinstance(value, int) or value < 1:
            raise InputError(f"`{name}` is {value!r}; use a whole number of at least 1")
    targets = graph.feature_positions("target")
    if not targets:
        raise InputError("no feature has the role 'target'; give one of them that role")
    if graph.n_steps < window + horizon:
        raise InputError(
            f"{graph.n_steps} steps are too few for a window of {window} and a horizon of {horizon}"
        )
    inputs = slice(0, graph.n_steps - horizon)
    outputs = slice(window, graph.n_steps)
    signal = _signal_class()(
        graph.edge_index,
        graph.edge_weight,
        _Windows(graph.values[inputs], window),
        _Windows(graph.values[outputs], horizon, targets),
        mask=_Windows(graph.mask[inputs], window),
        y_mask=_Windows(graph.mask[outputs], horizon, targets),
    )
    empty = graph.values[:0]
    rest = graph.replace(values=empty[:, :, :0], mask=None, features=(), time=None)
    signal.stgraph = {"graph": rest, "time": graph.time, "features": graph.features}
    return signal


def from_pgt(
    signal: StaticGraphTemporalSignal,
    *,
    nodes: Nodes | None = None,
    time: pd.DatetimeIndex | None = None,
    features: Sequence[Feature] | None = None,
) -> STGraph:
    """Return the windows of torch-geometric-temporal as one series again.

    Parameters
    ----------
    signal
        One of `to_pgt`, or any other whose snapshots are one step apart: features (N, F, W), or
        (N, W) lags of one feature as in the data sets of that package; targets (N,), (N, H) or
        (N, C, H), the steps right after the window.
    nodes
        Places, or a graph whose places are taken. None takes those that `to_pgt` kept, else ids
        are 0..N-1 without geometry.
    time
        Instants of all steps: snapshots + W - 1 + H of them. None takes those that `to_pgt` kept.
    features
        What the F features are, the C targets with that role. None takes those that `to_pgt`
        kept, else ``x0, x1, ...`` of role target.

    Returns
    -------
    STGraph
        The series; after the last window only the target features are known.

    Raises
    ------
    GraphError
        Shapes do not fit each other, or there is no time axis.
    """
    notes: dict[str, Any] = getattr(signal, "stgraph", {})
    first = _snapshot(signal.features, 0, "features")
    first = first[:, None] if first.ndim == 2 else first  # lags of one feature
    if first.ndim != 3:
        raise GraphError(f"the features have shape {first.shape}; (N, W) or (N, F, W) expected")
    n_nodes, n_features, _ = first.shape
    if features is None:
        features = notes.get("features") or [Feature(f"x{i}") for i in range(n_features)]
    targets = [i for i, feature in enumerate(features) if feature.role == "target"]
    if len(features) != n_features:
        raise GraphError(f"{len(features)} features are given for the {n_features} of the signal")
    values = _series(signal.features, signal.targets, first.shape, targets, np.nan)
    mask = np.isfinite(values)
    if hasattr(signal, "mask") and hasattr(signal, "y_mask"):
        mask = _series(signal.mask, signal.y_mask, first.shape, targets, 0.0) > 0
    time = notes.get("time") if time is None else time
    if time is None or len(time) != len(values):
        given = "none is given" if time is None else f"{len(time)} are given"
        raise GraphError(
            f"the signal has {len(values)} steps but {given}; pass `time` with all of them"
        )
    base = notes.get("graph") or STGraph(nodes=plain_nodes(range(n_nodes)))
    base = base if nodes is None else template(nodes)
    same_edges = base.edges is not None and np.array_equal(base.edge_index, signal.edge_index)
    return base.replace(
        edge_index=signal.edge_index,
        edge_weight=signal.edge_weight,
        edges=base.edges if same_edges else None,
        time=time,
        values=values,
        mask=mask,
        features=tuple(features),
    )


class _Windows(Sequence[Any]):
    """Windows of an array, each copied when asked for: the snapshots share no memory with it."""

    def __init__(self, array: Any, length: int, features: list[int] | None = None) -> None:
        self.array = array  # (T, N, F)
        self.length = length
        self.features = features

    def __len__(self) -> int:
        """Return how many windows there are."""
        return int(len(self.array) - self.length + 1)

    def __getitem__(self, key: Any) -> Any:
        """Return a window (N, F, length), (N, length) of one target, or some of the windows."""
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step != 1:
                return [self[i] for i in range(start, stop, step)]
            stop = max(start, stop) + self.length - 1
            return _Windows(self.array[start:stop], self.length, self.features)
        start = range(len(self))[key]
        part = self.array[start : start + self.length].astype(np.float32).transpose(1, 2, 0)
        if self.features is not None:
            part = part[:, self.features]
            part = part[:, 0] if len(self.features) == 1 else part
        return np.ascontiguousarray(part)


def _snapshot(snapshots: Any, position: int, name: str) -> Any:
    """Return one snapshot as an array."""
    if len(snapshots) == 0 or snapshots[position] is None:
        raise GraphError(f"the signal has snapshots without {name}; they make no series")
    return np.asarray(snapshots[position])


def _series(
    inputs: Any, outputs: Any, shape: tuple[int, ...], targets: list[int], unknown: float
) -> Any:
    """Return overlapping windows and the targets after the last as one (T, N, F) array."""
    n_nodes, n_features, window = shape
    try:
        first = np.asarray(inputs[0]).reshape(n_nodes, n_features, window)
        steps = [np.asarray(part).reshape(shape)[:, :, -1] for part in inputs]
        last = np.asarray(outputs[-1]).reshape(n_nodes, len(targets), -1)
    except (TypeError, ValueError) as error:
        raise GraphError(f"the snapshots of the signal differ in shape: {error}") from error
    after = np.full((last.shape[-1], n_nodes, n_features), unknown, dtype=np.float32)
    after[:, :, targets] = last.transpose(2, 0, 1)
    before = first.transpose(2, 0, 1)[:-1]  # the steps before the end of the first window
    return np.concatenate([before, np.stack(steps), after]).astype(np.float32)


def load_pgt(module: str) -> Any:
    """Return a submodule of torch-geometric-temporal, imported with what it lacks.

    Parameters
    ----------
    module
        ``nn`` or ``signal``.

    Raises
    ------
    MissingExtraError
        It is not installed; the message holds the install line.
    """
    if importlib.util.find_spec("torch_geometric_temporal") is None:
        raise MissingExtraError(
            "this needs the package 'torch-geometric-temporal', which is not installed; "
            "run: pip install --no-deps torch-geometric-temporal"
        )
    with quiet_import(), _lent_torch_sparse():
        return importlib.import_module(f"torch_geometric_temporal.{module}")


def _signal_class() -> Any:
    """Return the class of signals of torch-geometric-temporal."""
    return load_pgt("signal").StaticGraphTemporalSignal


@contextmanager
def _lent_torch_sparse() -> Iterator[None]:
    """Offer `torch_sparse.SparseTensor` while something is imported, unless it is installed."""
    if "torch_sparse" in sys.modules or importlib.util.find_spec("torch_sparse") is not None:
        yield
        return
    from torch_geometric.typing import SparseTensor

    lent = types.ModuleType("torch_sparse")
    lent.SparseTensor = SparseTensor  # type: ignore[attr-defined]
    sys.modules["torch_sparse"] = lent
    try:
        yield
    finally:
        del sys.modules["torch_sparse"]
