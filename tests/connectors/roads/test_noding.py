"""Lines join at their ends, within the tolerance and by level, and nowhere else."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import shapely
from stgraph_connectors.roads._noding import Noded, node_lines

from stgraph.report import Report

PLANE = pyproj.CRS(25832)


def node(
    *wkt: str,
    level: list[int] | None = None,
    tolerance_m: float = 0.01,
    split: bool = False,
    crs: pyproj.CRS = PLANE,
    report: Report | None = None,
) -> Noded:
    lines = np.array(shapely.from_wkt([f"LINESTRING ({text})" for text in wkt]), dtype=object)
    levels = np.array([0] * len(lines) if level is None else level)
    return node_lines(
        lines,
        levels,
        crs,
        tolerance_m=tolerance_m,
        split=split,
        name="roads",
        report=Report() if report is None else report,
    )


def test_ends_join_and_crossings_do_not() -> None:
    """Three lines meet at (10, 0); a fourth one crosses two of them without joining."""
    noded = node("0 0, 10 0", "10 0, 20 0", "10 0, 10 9", "5 -5, 5 5")
    assert noded.xy.tolist() == [[0, 0], [5, -5], [5, 5], [10, 0], [10, 9], [20, 0]]
    assert noded.source.tolist() == [0, 3, 3, 1]
    assert noded.target.tolist() == [3, 5, 4, 2]


def test_the_order_of_lines_does_not_matter() -> None:
    """Junctions are in order of x and y, also where ends are moved together."""
    lines = ["0 0, 10 0", "10.004 0.003, 20 0", "9.998 0, 10 9", "3 3, 0 0"]
    one, other = node(*lines), node(*lines[::-1])
    assert one.xy.tolist() == other.xy.tolist()
    assert one.source.tolist() == other.source.tolist()[::-1]
    assert (9.998, 0) in [tuple(xy) for xy in one.xy]


def test_ends_within_the_tolerance_are_moved_together() -> None:
    """0.5 m apart: one junction with a tolerance of 1 m, two and a warning without."""
    report = Report()
    apart = node("0 0, 10 0", "10.5 0, 20 0", report=report)
    assert len(apart.xy) == 4
    assert "2 dead ends are within 0.5 m of another end" in str(report)
    assert "snap_tolerance_m=0.51 joins them" in str(report)
    joined = node("0 0, 10 0", "10.5 0, 20 0", tolerance_m=0.51)
    assert len(joined.xy) == 3
    assert joined.lines[1].wkt == "LINESTRING (10 0, 20 0)"


def test_the_tolerance_is_metres_in_degrees_too() -> None:
    """1e-7 degrees is a centimetre, 1e-6 a decimetre."""
    lines = ("8 49, 8.001 49", "8.0010001 49, 8.002 49", "8.002001 49, 8.003 49")
    assert len(node(*lines, crs=pyproj.CRS(4326)).xy) == 5
    assert len(node(*lines, crs=pyproj.CRS(4326), tolerance_m=0.1).xy) == 4


def test_a_line_is_cut_where_another_one_ends_on_it_if_asked() -> None:
    """A T: without `split` it is told, with it the line becomes two; the cross stays whole."""
    lines = ("0 0, 4 0, 10 0", "6 0, 6 5", "8 -5, 8 5")
    report = Report()
    whole = node(*lines, report=report)
    assert len(whole.lines) == 3
    assert "at 1 places a line ends on another line" in str(report)
    cut = node(*lines, split=True)
    assert [line.wkt for line in cut.lines] == [
        "LINESTRING (0 0, 4 0, 6 0)",
        "LINESTRING (6 0, 10 0)",
        "LINESTRING (6 0, 6 5)",
        "LINESTRING (8 -5, 8 5)",
    ]
    assert cut.origin.tolist() == [0, 0, 1, 2]
    assert cut.part.tolist() == [0, 1, 0, 0]
    assert cut.target[0] == cut.source[1] == cut.source[2]


def test_cuts_at_a_point_of_the_line_and_several_on_one_piece() -> None:
    """A point of the line is not there twice; the order along the line counts."""
    cut = node("0 0, 4 0, 10 0", "8 0, 8 5", "4 0, 4 5", "6 -5, 6 0", split=True)
    assert [line.wkt for line in cut.lines[:4]] == [
        "LINESTRING (0 0, 4 0)",
        "LINESTRING (4 0, 6 0)",
        "LINESTRING (6 0, 8 0)",
        "LINESTRING (8 0, 10 0)",
    ]


def test_a_line_that_ends_on_itself_is_cut_too() -> None:
    """The 6: a stem and a loop, which begins and ends at one junction."""
    cut = node("0 0, 10 0, 10 5, 5 5, 5 0", split=True)
    assert len(cut.lines) == 2
    assert cut.source[1] == cut.target[1] == cut.target[0]
    assert shapely.length(cut.lines).sum() == pytest.approx(25)


def test_cut_parts_in_degrees_are_as_long_as_the_whole() -> None:
    """Cutting is done on a plane, the coordinates stay those of the source."""
    line = "8 49, 8.01 49.003, 8.02 49"
    cut = node(line, "8.01 49.003, 8.01 49.01", split=True, crs=pyproj.CRS(4326))
    assert [part.wkt for part in cut.lines[:2]] == [
        "LINESTRING (8 49, 8.01 49.003)",
        "LINESTRING (8.01 49.003, 8.02 49)",
    ]


def test_levels_that_go_on_do_not_join_and_a_bridge_joins_its_ramps() -> None:
    """At (0, 0) two roads are cut at one place over each other; at (9, 0) a bridge ends."""
    level = [1, 1, 0, 0, 0]
    crossing = ("-9 0, 0 0", "0 0, 9 0", "0 -9, 0 0", "0 0, 0 9", "9 0, 20 0")
    noded = node(*crossing, level=level)
    assert noded.target[0] == noded.source[1] != noded.target[2] == noded.source[3]
    assert noded.target[1] == noded.source[4]
    flat = node(*crossing)
    assert flat.target[0] == flat.target[2]


def test_an_end_on_a_line_of_another_level_does_not_cut_it() -> None:
    """A road that ends under a bridge is no junction of the bridge."""
    lines = ("0 0, 10 0", "5 -5, 5 0")
    assert len(node(*lines, level=[1, 0], split=True).lines) == 2
    assert len(node(*lines, level=[0, 0], split=True).lines) == 3


def test_loops_and_parallel_lines_stay() -> None:
    """A ring of its own has one junction; two ways between the same junctions are two lines."""
    noded = node("0 0, 5 0, 5 5, 0 0", "0 0, 9 9", "0 0, 9 0, 9 9")
    assert noded.source.tolist() == [0, 0, 0]
    assert noded.target.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "middle", [(174.9999, -36.8), (12.0, 89.9), (179.9999, 0.0), (-70.0, -85.0)]
)
def test_cutting_works_anywhere_on_earth(middle: tuple[float, float]) -> None:
    """At the poles, where UTM ends, and beside the line where the date changes."""
    x, y = middle
    lines = (f"{x - 0.01} {y}, {x} {y}, {x + 0.01} {y}", f"{x} {y}, {x} {y - 0.01}")
    assert len(node(*lines, crs=pyproj.CRS(4326), split=True).lines) == 3


def test_joining_does_not_depend_on_the_order_of_lines_at_random() -> None:
    """Fifty random nets on a small grid, with levels: shuffled, they are the same network."""
    rng = np.random.default_rng(7)
    for _ in range(50):
        ends = rng.integers(0, 4, (12, 4))
        ends = ends[(ends[:, :2] != ends[:, 2:]).any(axis=1)]
        lines = [f"{a} {b}, {c} {d}" for a, b, c, d in ends]
        level = rng.integers(0, 3, len(lines))
        order = rng.permutation(len(lines))
        found = [
            sorted(
                (net.lines[i].wkt, *net.xy[net.source[i]], *net.xy[net.target[i]],
                 net.level[net.source[i]], net.level[net.target[i]])
                for i in range(len(net.lines))
            )
            for net in (
                node(*lines, level=level.tolist(), split=True),
                node(*(lines[i] for i in order), level=level[order].tolist(), split=True),
            )
        ]  # fmt: skip
        assert found[0] == found[1]
