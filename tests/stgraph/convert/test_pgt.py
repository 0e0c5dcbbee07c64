"""Round trips to torch-geometric-temporal, which imports without compiling anything."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stgraph.convert import from_pgt, to_pgt
from stgraph.convert.pgt import _signal_class
from stgraph.errors import GraphError, InputError, MissingExtraError
from stgraph.graph import Feature, STGraph


@pytest.mark.parametrize(("window", "horizon"), [(1, 1), (3, 2), (5, 1), (1, 5)])
def test_round_trip(full: STGraph, window: int, horizon: int) -> None:
    for graph in (full, full.select_features(["flow"])):
        back = from_pgt(to_pgt(graph, window=window, horizon=horizon))
        assert back.equals(graph)
        assert back.provenance == graph.provenance


def test_snapshots_by_hand(full: STGraph) -> None:
    """x ends where y begins, and there are T - W - H + 1 of them."""
    signal = to_pgt(full.select_features(["flow"]), window=3, horizon=2)
    assert signal.snapshot_count == 2
    snapshot = signal[1]
    assert snapshot.x.shape == (4, 1, 3)
    assert snapshot.y.shape == (4, 2)
    assert snapshot.x[2, 0].tolist() == full.values[1:4, 2, 1].tolist()
    assert snapshot.y[2].tolist() == full.values[4:6, 2, 1].tolist()
    assert snapshot.edge_attr.tolist() == full.edge_weight.tolist()
    assert snapshot.mask.shape == (4, 1, 3)
    assert len(list(signal)) == 2


def test_mask_marks_what_was_observed(full: STGraph) -> None:
    signal = to_pgt(full, window=2)
    assert signal[0].mask[2, 0].tolist() == [1, 0]
    assert signal[2].y_mask[:, 0, 0].tolist() == [0, 1, 1, 1]  # (N, C, H) at step 4


def test_snapshots_are_copies_made_on_demand(full: STGraph) -> None:
    """Protects the graph against training in place, and memory against all windows at once."""
    signal = to_pgt(full)
    signal[0].x.zero_()
    assert full.values[0, 1, 0] != 0
    assert np.shares_memory(signal.features.array, full.values)


def test_slices(full: STGraph) -> None:
    """temporal_signal_split and slices of signals work."""
    signal = to_pgt(full, window=2)
    part = signal[1:3]
    assert part.snapshot_count == 2
    assert np.array_equal(part[0].x, signal[1].x, equal_nan=True)
    back = from_pgt(part, nodes=full, time=full.time[1:5], features=full.features)
    assert np.array_equal(back.values, full.values[1:5], equal_nan=True)


def test_other_roles_lose_the_last_steps(full: STGraph) -> None:
    graph = full.replace(features=(Feature("rain", "mm", "observed"), Feature("flow", "veh/h")))
    back = from_pgt(to_pgt(graph, horizon=2))
    assert np.array_equal(back.values[:, :, 1], graph.values[:, :, 1], equal_nan=True)
    assert np.isnan(back.values[4:, :, 0]).all()
    assert not back.mask[4:, :, 0].any()


def test_lags_of_others() -> None:
    """The bundled data sets of that package: x (N, lags), y (N,), both of one series."""
    series = np.arange(14.0, dtype=np.float32).reshape(7, 2)
    signal = _signal_class()(
        np.array([[0, 1], [1, 0]]),
        np.ones(2),
        [series[i : i + 4].T for i in range(3)],
        [series[i + 4] for i in range(3)],
    )
    graph = from_pgt(signal, time=pd.date_range("2024-01-01", periods=7, freq="W"))
    assert np.array_equal(graph.values[:, :, 0], series)
    assert graph.edge_index.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(GraphError, match="the signal has 7 steps but none is given; pass `time`"):
        from_pgt(signal)
    with pytest.raises(GraphError, match="2 features are given for the 1 of the signal"):
        from_pgt(signal, features=[Feature("a"), Feature("b")])


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        ([], [], "snapshots without features"),
        ([np.zeros((2, 1)), np.zeros((3, 1))], [np.zeros(2)] * 2, "differ in shape"),
        ([np.zeros(2)], [np.zeros(2)], r"features have shape \(2,\)"),
        ([np.zeros((2, 1))], [None], "differ in shape|without targets"),
    ],
    ids=["empty", "ragged", "flat", "no targets"],
)
def test_bad_signals(features: Any, targets: Any, message: str) -> None:
    signal = _signal_class()(np.zeros((2, 0), int), np.zeros(0), features, targets)
    with pytest.raises(GraphError, match=message):
        from_pgt(signal, time=pd.date_range("2024-01-01", periods=3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "`window` is 0; use a whole number"),
        ({"horizon": 1.5}, "`horizon` is 1.5"),
        ({"window": 5, "horizon": 2}, "6 steps are too few for a window of 5 and a horizon of 2"),
    ],
)
def test_bad_windows(full: STGraph, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_pgt(full, **options)


def test_no_target(full: STGraph) -> None:
    static = tuple(Feature(name, "", "observed") for name in full.feature_names)
    with pytest.raises(InputError, match="no feature has the role 'target'"):
        to_pgt(full.replace(features=static))


def test_not_installed(full: STGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command that helps; the plain install would not."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "torch_geometric_temporal" else find(name, *rest),
    )
    with pytest.raises(MissingExtraError, match="pip install --no-deps torch-geometric-temporal"):
        to_pgt(full)


def test_nothing_is_left_behind() -> None:
    """The lent module is gone after the import, in a fresh interpreter with warnings as errors."""
    code = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "from stgraph.convert.pgt import _signal_class; _signal_class()\n"
        "assert 'torch_geometric_temporal' in sys.modules\n"
        "assert 'torch_sparse' not in sys.modules or sys.modules['torch_sparse'].__file__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
