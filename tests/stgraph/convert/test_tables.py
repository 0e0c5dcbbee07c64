"""Long and wide tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.convert import from_long, from_wide, to_long, to_wide
from stgraph.errors import GraphError, InputError
from stgraph.graph import Feature, STGraph


def _long(*rows: tuple[Any, Any, Any]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["unique_id", "ds", "y"])
    return table.assign(ds=pd.to_datetime(table["ds"]))


# ------------------------------------------------------------------ long


def test_long_by_hand(full: STGraph) -> None:
    """Sorted by node, then time; naive UTC; what was not observed is NaN."""
    table = to_long(full)
    assert list(table.columns) == ["unique_id", "ds", "y", "flow"]
    assert len(table) == 24
    assert table["unique_id"].tolist() == [401] * 6 + [7] * 6 + [33] * 6 + [2] * 6
    assert table["ds"].iloc[0] == pd.Timestamp("2024-03-30 22:00")
    assert np.flatnonzero(table["y"].isna()).tolist() == [4, 13]  # the filled and the missing one
    assert table["y"].iloc[1] == full.values[1, 0, 0]


def test_long_in_local_time(full: STGraph) -> None:
    table = to_long(full, tz="Europe/Berlin")
    assert str(table["ds"].iloc[0]) == "2024-03-30 23:00:00+01:00"
    assert str(table["ds"].iloc[5]) == "2024-03-31 01:30:00+01:00"


@pytest.mark.parametrize("tz", [None, "UTC", "Europe/Berlin"])
def test_long_round_trip(full: STGraph, tz: str | None) -> None:
    assert from_long(to_long(full, mask=True, tz=tz), nodes=full).equals(full)


def test_long_without_mask_forgets_fillings(full: STGraph) -> None:
    """Protects honesty: a filling does not come back as an observation."""
    back = from_long(to_long(full), nodes=full)
    assert np.array_equal(back.mask, full.mask)
    assert np.isnan(back.values[4, 0, 0])


def test_long_one_instant_keeps_the_step(full: STGraph) -> None:
    one = full.select_steps(2, 3)
    assert from_long(to_long(one, mask=True), nodes=one).step == full.step


def test_long_target_is_y(full: STGraph) -> None:
    """The first target becomes y, wherever it stands."""
    graph = full.replace(features=(Feature("rain", "mm", "observed"), Feature("flow", "veh/h")))
    table = to_long(graph, mask=True)
    assert list(table.columns[:4]) == ["unique_id", "ds", "y", "rain"]
    assert table["y"].iloc[0] == graph.values[0, 0, 1]
    assert from_long(table, nodes=graph).equals(graph)


def test_long_of_others() -> None:
    """Unsorted, with a gap in time and a missing pair; nodes in order of appearance."""
    table = _long(
        ("b", "2024-01-01 03:00", 4.0),
        ("a", "2024-01-01 00:00", 1.0),
        ("b", "2024-01-01 01:00", 2.0),
    )
    graph = from_long(table)
    assert list(graph.node_ids) == ["b", "a"]
    assert graph.step == pd.Timedelta("1h")
    assert graph.n_steps == 4
    assert graph.mask[:, :, 0].tolist() == [
        [False, True],
        [True, False],
        [False, False],
        [True, False],
    ]
    assert graph.features == (Feature("y"),)


@given(st.permutations(range(24)), st.integers(-1000, 1000))
@settings(max_examples=30, deadline=None)
def test_long_row_order_and_shift_in_time(order: list[int], hours: int) -> None:
    """The order of rows means nothing; a shift in time shifts the axis and nothing else."""
    values = np.arange(24, dtype=np.float32)
    time = pd.date_range("2024-01-01", periods=6, freq="h")
    table = pd.DataFrame(
        {"unique_id": np.repeat(list("abcd"), 6), "ds": np.tile(time, 4), "y": values}
    )
    plain = from_long(table)
    moved = table.assign(ds=table["ds"] + pd.Timedelta(hours, unit="h")).iloc[order]
    graph = from_long(moved, nodes=plain.replace(time=None, values=None, mask=None, features=()))
    assert np.array_equal(graph.values, plain.values)
    assert graph.time.equals(plain.time + pd.Timedelta(hours, unit="h"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (_long(("a", "2024-01-01", 1)).drop(columns="ds"), "no column 'ds'; it has"),
        (
            _long(("a", "2024-01-01", 1)).rename(columns={"unique_id": "uniqueid"}),
            r"no column 'unique_id' \(did you mean 'uniqueid'\?\)",
        ),
        (
            _long(("a", "2024-01-01", 1), ("a", "2024-01-01", 2)),
            "1 cells are given twice, first node 'a' at 2024-01-01",
        ),
        (
            _long(("a", "2024-01-01", 1), ("a", "2024-01-03", 2), ("a", "2024-01-06", 2)),
            "2024-01-03.* is followed by 2024-01-06.*, which is no multiple of 2 days",
        ),
        (_long(("a", None, 1)), "1 instants are missing"),
        (_long(("a", "2024-01-01", "fast")), "column 'y', row 0 holds 'fast'"),
        (_long(("a", "2024-01-01", 1)).assign(ds=5), "column 'ds' holds numbers, not instants"),
        (_long(("a", "2024-01-01", 1)).assign(ds="soon"), "column 'ds' cannot be read as instants"),
        (_long(("a", "2024-01-01", np.inf)), "holds infinite numbers"),
        (_long(("a", "2024-01-01", 1)).iloc[:0], "is empty"),
    ],
    ids=["time", "id", "twice", "irregular", "NaT", "text", "numbers", "words", "inf", "empty"],
)
def test_bad_long(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        from_long(table)


def test_long_unknown_nodes(full: STGraph) -> None:
    with pytest.raises(GraphError, match=r"1 ids of the table are no node: \[99\]; node ids look"):
        from_long(_long((99, "2024-01-01", 1.0)), nodes=full)


def test_long_needs_a_signal(bare: STGraph, full: STGraph) -> None:
    with pytest.raises(InputError, match="the graph has no signal"):
        to_long(bare)
    twice = full.replace(features=(Feature("speed"), Feature("y")))
    with pytest.raises(InputError, match=r"columns of a long table: .*'y'.*; rename"):
        to_long(twice)
    with pytest.raises(GraphError, match="3 features for the 2 value columns"):
        from_long(to_long(full), features=[Feature(name) for name in "abc"])


# ------------------------------------------------------------------ wide


def test_wide_by_hand(full: STGraph) -> None:
    table = to_wide(full, feature="speed")
    assert table.shape == (6, 4)
    assert list(table.columns) == [401, 7, 33, 2]
    assert table.index[0] == full.time[0]
    assert np.argwhere(table.isna().to_numpy()).tolist() == [[1, 2], [4, 0]]
    assert to_wide(full, feature="speed", part="values").iloc[4, 0] == full.values[4, 0, 0]
    assert not to_wide(full, feature="speed", part="mask").iloc[4, 0]


@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin"])
def test_wide_round_trip(full: STGraph, tz: str) -> None:
    graph = full.select_features(["flow"])
    values = to_wide(graph, part="values", tz=tz)
    back = from_wide(values, mask=to_wide(graph, part="mask", tz=tz), nodes=graph)
    assert back.equals(graph)


def test_wide_is_a_copy(full: STGraph) -> None:
    table = to_wide(full, feature="flow", part="values")
    table.iloc[:] = 0
    assert full.values[0, 1, 1] != 0


def test_wide_of_others() -> None:
    """Unsorted rows and a gap; columns are nodes."""
    index = pd.to_datetime(["2024-01-01 03:00", "2024-01-01 00:00", "2024-01-01 01:00"])
    graph = from_wide(pd.DataFrame({"a": [4, 1, 2], "b": [np.nan, 5, 6]}, index=index))
    assert list(graph.node_ids) == ["a", "b"]
    assert graph.values[:, 0, 0].tolist()[:2] == [1, 2]
    assert graph.mask[:, :, 0].tolist() == [
        [True, True],
        [True, True],
        [False, False],
        [True, False],
    ]
    assert graph.features == (Feature("value"),)


def test_wide_node_without_column(full: STGraph) -> None:
    graph = full.select_features(["flow"])
    back = from_wide(to_wide(graph)[[401, 2]], nodes=graph)
    assert back.mask[:, :, 0].any(axis=0).tolist() == [True, False, False, True]


_WIDE = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.date_range("2024-01-01", periods=2))


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (_WIDE.iloc[[0, 0]], {}, "1 cells are given twice, first node 'a'"),
        (_WIDE.set_axis([0, 1]), {}, "holds numbers, not instants"),
        (_WIDE.astype(str).replace("1.0", "x"), {}, "column 'a', row .* holds 'x'"),
        (_WIDE, {"mask": _WIDE.iloc[:1] > 0}, "`mask` has other rows or columns"),
        (pd.concat([_WIDE, _WIDE], axis=1), {}, "ids appear twice"),
    ],
    ids=["twice", "numbers", "text", "mask", "columns"],
)
def test_bad_wide(table: pd.DataFrame, options: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        from_wide(table, **options)


def test_bad_choices(full: STGraph) -> None:
    with pytest.raises(InputError, match=r"choose one `feature` of \['speed', 'flow'\]"):
        to_wide(full)
    with pytest.raises(InputError, match="did you mean 'flow'"):
        to_wide(full, feature="flwo")
    with pytest.raises(InputError, match="`part` is 'all'"):
        to_wide(full, feature="flow", part="all")  # type: ignore[arg-type]
