"""Windows: every number checked by hand, and no copy of the signal whatever its length."""

from __future__ import annotations

import mmap
import tracemalloc
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from shapely.geometry import Point

from stgraph.errors import InputError
from stgraph.graph import Feature, STGraph
from stgraph.inputs import Inputs, Source, fit_inputs
from stgraph.preprocessing.scalers import Scaler
from stgraph.windows import Windows, graph_tensors

NAN = np.nan


def nodes_of(n_nodes: int) -> gpd.GeoDataFrame:
    places = [Point(float(i), 0.0) for i in range(n_nodes)]
    return gpd.GeoDataFrame(index=[f"n{i}" for i in range(n_nodes)], geometry=places, crs=2193)


def inputs_of(graph: STGraph, *, window: int, horizon: int, center: float, scale: float) -> Inputs:
    """Return inputs with numbers chosen by hand: no profile, no season, no calendar."""
    shape = (1, graph.n_features)
    return Inputs(
        window=window,
        horizon=horizon,
        features=graph.features,
        zone=graph.zone,
        step=graph.step,
        scaler=Scaler("standard", np.full(shape, center), np.full(shape, scale)),
        lower=np.full(len(graph.feature_positions("target")), -np.inf, dtype=np.float32),
    )


@pytest.fixture
def tiny() -> STGraph:
    """Two nodes, six steps; speed (target), rain (seen in the past only), event (known ahead)."""
    speed = np.array([[10, 20], [12, NAN], [NAN, NAN], [16, 26], [18, NAN], [20, 30]])
    rain = np.array([[0, 2], [4, 6], [8, NAN], [12, 14], [16, 18], [20, 22]])
    event = np.array([[1, 3], [5, 7], [9, 11], [13, 15], [17, 19], [21, 23]])
    return STGraph(
        nodes=nodes_of(2),
        edge_index=np.array([[0], [1]]),
        time=pd.date_range("2024-01-01", periods=6, freq="5min", tz="UTC"),
        values=np.stack([speed, rain, event], axis=-1),
        features=(
            Feature("speed", "km/h"),
            Feature("rain", "mm", "observed"),
            Feature("event", "", "known_future"),
        ),
    )


def test_every_number_of_a_window(tiny: STGraph) -> None:
    # center 10, scale 2: scaled = (value - 10) / 2; the expected level is the center
    windows = Windows(Source(tiny, inputs_of(tiny, window=3, horizon=2, center=10, scale=2)), [1])
    batch = windows[0]
    # steps 1, 2, 3: node 0 has 12, -, 16 (gap filled by 12); node 1 has -, -, 26 (by the center)
    speed = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 8.0]])
    seen = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    rain = torch.tensor([[-3.0, -2.0], [-1.0, 0.0], [1.0, 2.0]])  # NaN counts as the center
    event = torch.tensor([[-2.5, -1.5], [-0.5, 0.5], [1.5, 2.5]])
    expected = torch.zeros(3, 2)
    assert batch.x.shape == (1, 3, 2, 5)
    torch.testing.assert_close(batch.x[0], torch.stack([speed, seen, expected, rain, event], -1))
    # steps 4, 5: expected, profile and season are the center; then what is known of the event
    event_ahead = torch.tensor([[3.5, 4.5], [5.5, 6.5]])
    nothing = torch.zeros(2, 2)
    wanted = torch.stack([nothing, nothing, nothing, event_ahead], -1)
    torch.testing.assert_close(batch.u[0], wanted)
    # targets in input units, 0 where not observed
    assert batch.y[0, :, :, 0].tolist() == [[18, 0], [20, 30]]
    assert batch.y_mask[0, :, :, 0].tolist() == [[True, False], [True, True]]
    assert batch.edge_index.tolist() == [[0], [1]]
    assert batch.edge_weight.tolist() == [1.0]
    for part in (batch.x, batch.u, batch.y, batch.edge_weight):
        assert part.dtype == torch.float32


def test_a_window_at_the_end_knows_no_targets(tiny: STGraph) -> None:
    # an event is known for 2 more steps, readings are not
    values = np.concatenate([tiny.values, np.full((2, 2, 3), 7, dtype=np.float32)])
    mask = np.ones(values.shape, dtype=bool)
    mask[6:, :, :2] = False
    time = pd.date_range(tiny.time[0], periods=8, freq="5min")
    longer = tiny.replace(values=values, mask=mask & np.isfinite(values), time=time)
    batch = Windows(Source(longer, inputs_of(longer, window=3, horizon=2, center=0, scale=1)), [3])[
        0
    ]
    assert not batch.y_mask.any()
    assert (batch.y == 0).all()
    assert (batch.u[..., 3] == 7).all()


def test_values_behind_the_mask_are_never_seen(tiny: STGraph) -> None:
    mask = np.isfinite(tiny.values)
    loud = tiny.replace(values=np.where(mask, tiny.values, np.float32(1e9)), mask=mask)
    numbers = {"window": 3, "horizon": 2, "center": 10, "scale": 2}
    quiet = Windows(Source(tiny, inputs_of(tiny, **numbers)), [0, 1])
    for a, b in zip(
        quiet.__getitems__([0, 1]),
        Windows(Source(loud, inputs_of(loud, **numbers)), [0, 1]).__getitems__([0, 1]),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_many_windows_at_once_are_the_windows_one_by_one(make_signal) -> None:
    graph = make_signal(4, 24 * 20, missing=0.2, n_targets=2)
    inputs, source = fit_inputs(graph, window=5, horizon=30, train_steps=24 * 16)
    for view in (source, Source(graph, inputs)):
        windows = Windows(view, range(0, 24 * 20 - 35, 7))
        order = [3, 0, 41, 17, 3]
        together = windows.__getitems__(order)
        for place, index in enumerate(order):
            for whole, alone in zip(together[:4], windows[index][:4], strict=True):
                assert torch.equal(whole[place : place + 1], alone)


def test_the_same_readings_later_give_the_same_window(make_signal) -> None:
    # cut a day off the front: the window that starts a day earlier is the same one
    graph = make_signal(3, 24 * 9)
    inputs, _ = fit_inputs(graph, window=6, horizon=4, train_steps=24 * 6)
    late = graph.select_steps(24)
    whole = Windows(Source(graph, inputs), [24 * 4])[0]
    shifted = Windows(Source(late, inputs), [24 * 3])[0]
    for a, b in zip(whole[:4], shifted[:4], strict=True):
        torch.testing.assert_close(a, b)


def test_loader_covers_all_windows_in_order(tiny: STGraph) -> None:
    windows = Windows(
        Source(tiny, inputs_of(tiny, window=2, horizon=1, center=0, scale=1)), range(4)
    )
    batches = list(windows.loader(batch_size=3))
    assert [len(batch.x) for batch in batches] == [3, 1]
    torch.testing.assert_close(
        torch.cat([batch.x for batch in batches]), windows.__getitems__(range(4)).x
    )
    assert all(batch.edge_index is windows.edges[0] for batch in batches)  # one graph for all


# ------------------------------------------------------------------------------ memory


def rss_of(path: Path) -> int:
    """Return how many bytes of a mapped file are in memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.fixture(scope="module")
def metr_la_sized(tmp_path_factory: pytest.TempPathFactory) -> tuple[STGraph, np.memmap, Path]:
    """34,272 steps, 207 nodes, 2 features on disk, 57 MB."""
    path = tmp_path_factory.mktemp("raw") / "values.f32"
    shape = (34_272, 207, 2)
    values = np.memmap(path, dtype=np.float32, mode="w+", shape=shape)
    values[::7] = 3.0
    mask = np.broadcast_to(np.True_, shape)
    graph = STGraph(
        nodes=nodes_of(207),
        time=pd.date_range("2012-03-01", periods=shape[0], freq="5min", tz="UTC"),
        values=values,
        mask=mask,
        features=(Feature("speed"), Feature("time", "", "observed")),
    )
    return graph, values, path


def test_memory_above_the_signal_is_one_batch(metr_la_sized) -> None:
    graph, _, _ = metr_la_sized
    inputs = inputs_of(graph, window=12, horizon=12, center=0, scale=1)
    windows = Windows(Source(graph, inputs), range(0, graph.n_steps - 23, 9))
    batch_bytes = sum(part.nbytes for part in windows.__getitems__(range(64))[:4])
    tracemalloc.start()
    n_seen = sum(len(batch.x) for batch in windows.loader(batch_size=64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_seen == len(windows)
    # the batch before and the one being put together from its parts
    assert peak < 8 * batch_bytes
    assert peak < graph.values.nbytes / 2


def test_a_memory_map_is_read_only_where_windows_lie(metr_la_sized) -> None:
    graph, values, path = metr_la_sized
    inputs = inputs_of(graph, window=12, horizon=12, center=0, scale=1)
    windows = Windows(Source(graph, inputs), range(graph.n_steps - 23))
    assert np.shares_memory(graph.values, values)
    values.flush()
    values._mmap.madvise(mmap.MADV_DONTNEED)
    assert rss_of(path) == 0
    windows.__getitems__([20_000, 20_001])
    # 25 steps of 1.7 kB, and what the kernel reads around them
    assert 0 < rss_of(path) < 4_000_000


# ------------------------------------------------------------------------------ edges


@pytest.mark.parametrize(
    ("lengths", "wanted"),
    [
        # all alike: all the same weight, none of them next to nothing
        ([100.0, 100.0], [np.exp(-4), np.exp(-4)]),
        ([100.0, 100.001], [np.exp(-4), np.exp(-4)]),
        # 100 and 300: deviation 100 = half the mean
        ([100.0, 300.0], [np.exp(-1), np.exp(-9)]),
        ([0.0, 0.0], [1.0, 1.0]),
    ],
)
def test_lengths_become_similarities(lengths: list[float], wanted: list[float]) -> None:
    graph = STGraph(
        nodes=nodes_of(3),
        edge_index=np.array([[0, 1], [1, 2]]),
        edge_weight=np.array(lengths),
        weight_unit="m",
    )
    np.testing.assert_allclose(graph_tensors(graph)[1].numpy(), wanted, rtol=1e-3)


def test_an_edge_less_leaves_the_others_as_they_were(make_signal) -> None:
    """Protects scenarios: the kernel's scale belongs to the model, not to the edited graph."""
    lengths = np.arange(100.0, 1100.0, 100.0)
    graph = make_signal(5).replace(edge_weight=lengths.astype(np.float32), weight_unit="m")
    inputs, source = fit_inputs(graph, window=6, horizon=4, train_steps=24 * 4)
    closed = graph.replace(
        edge_index=graph.edge_index[:, :-1], edge_weight=graph.edge_weight[:-1], edges=None
    )
    before, after = Windows(source, [0]).edges[1], Windows(Source(closed, inputs), [0]).edges[1]
    assert torch.equal(before[:-1], after)


def test_the_same_edges_are_the_same_tensors(make_signal) -> None:
    """Protects speed: models compute what depends on the graph once per edge tensors."""
    graph = make_signal(4)
    later = graph.select_steps(3, 50)
    assert graph_tensors(graph)[0] is graph_tensors(later)[0]
    other = graph.replace(edge_weight=2 * graph.edge_weight)
    assert not torch.equal(graph_tensors(graph)[1], graph_tensors(other)[1])
    graph.edge_weight[0] = 7
    assert graph_tensors(graph)[1][0] == 7  # changed in place
    graph.edge_index[:] = graph.edge_index[::-1].copy()
    assert graph_tensors(graph)[0].tolist() == graph.edge_index.tolist()


def test_similarities_stay_as_they_are() -> None:
    graph = STGraph(
        nodes=nodes_of(3), edge_index=np.array([[0, 1], [1, 2]]), edge_weight=np.array([0.3, 2.0])
    )
    np.testing.assert_allclose(graph_tensors(graph)[1].numpy(), [0.3, 2.0], rtol=1e-6)


def test_negative_weights_are_refused() -> None:
    graph = STGraph(
        nodes=nodes_of(3), edge_index=np.array([[0, 1], [1, 2]]), edge_weight=np.array([0.3, -2.0])
    )
    with pytest.raises(InputError, match=r"`edge_weight` is -2\.0 at edge 1"):
        graph_tensors(graph)
