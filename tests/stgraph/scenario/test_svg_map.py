"""Maps: lines where the streets are, on the right side, in the right class."""

from __future__ import annotations

import re

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.graph import STGraph
from stgraph.scenario._sheet import (
    WIDTH,
    make_sheet,
    middle_of,
    nice_length,
    path_of,
    path_of_streets,
)
from stgraph.scenario._svg_charts import Line, draw_chart
from stgraph.scenario._svg_map import FLOW, SPEED, class_of, draw_changes, draw_labels, draw_status


def roads_of(*lines: list[tuple[float, float]], crs: str | None = "EPSG:25832") -> STGraph:
    """Return a network of lines in metres, a junction at each end."""
    ends = [shapely.Point(line[i]) for line in lines for i in (0, -1)]
    edges = gpd.GeoDataFrame(
        {"segment_id": np.arange(len(lines))},
        geometry=[shapely.LineString(line) for line in lines],
        crs=crs,
    )
    at = np.arange(2 * len(lines)).reshape(-1, 2).T
    nodes = gpd.GeoDataFrame(geometry=ends, crs=crs or "EPSG:25832")
    return STGraph(nodes=nodes, edge_index=at, edges=edges)


EAST = [(0.0, 0.0), (1000.0, 0.0)]
CROSS = roads_of(EAST, EAST[::-1], [(500.0, -500.0), (500.0, 500.0)])
ALL = np.ones(3, dtype=np.bool_)


def numbers(path: str) -> list[int]:
    return [int(part) for part in re.findall(r"-?\d+", path)]


def test_east_is_right_and_north_is_up() -> None:
    """A kilometre with its margin fills the highest map there is; y falls to the north."""
    sheet = make_sheet(CROSS, ALL)
    assert sheet is not None
    assert sheet.metres == pytest.approx(1120 / 1700)
    x, y, dx, dy = numbers(path_of(sheet, [0]))
    assert (dx, dy) == (pytest.approx(1000 / sheet.metres, abs=1), 0)
    assert (x, y) == (round(WIDTH / 2 - 500 / sheet.metres), sheet.height // 2)
    _, south, _, north = numbers(path_of(sheet, [2]))
    assert south > y
    assert north < 0


def test_lines_are_shifted_to_the_right_of_their_direction() -> None:
    """Eastbound lies south of the middle, westbound north: as people drive there."""
    sheet = make_sheet(CROSS, ALL)
    assert sheet is not None
    middle = numbers(path_of(sheet, [0]))[1]
    assert numbers(path_of(sheet, [0], offset=10))[1] == middle + 10
    assert numbers(path_of(sheet, [1], offset=10))[1] == middle - 10
    place = middle_of(sheet, 0, offset=10)
    assert place == (WIDTH // 2, middle + 10)


def test_both_directions_of_a_street_are_drawn_once() -> None:
    """Half the bytes of a page."""
    sheet = make_sheet(CROSS, ALL)
    assert sheet is not None
    assert path_of_streets(sheet, range(3)).count("M") == 2
    assert path_of(sheet, range(3)).count("M") == 3


def test_sheet_shows_what_it_is_about_and_not_less_than_a_part() -> None:
    """A change in one corner of a city is not a dot, nor without its surroundings."""
    corner = roads_of([(0, 0), (100, 0)], [(0, 0), (20_000, 20_000)])
    sheet = make_sheet(corner, np.array([True, False]))
    assert sheet is not None
    # 2 km and an edge of 1.2 km below, which is 1700 units
    assert sheet.metres == pytest.approx(3200 / 1700)
    x, y, width, height = sheet.whole
    assert width == pytest.approx(20_000 / sheet.metres, abs=2)
    assert y + height == pytest.approx(1700 - 1200 / sheet.metres, abs=2)
    assert 0 < x < WIDTH / 2
    other = make_sheet(CROSS, ALL, box=sheet.box)
    assert other is not None
    assert other.metres == sheet.metres


def test_degrees_become_metres_and_no_crs_has_no_scale() -> None:
    """A scale bar is right or not there."""
    roads = roads_of([(10.0, 50.0), (10.0, 50.01)], crs="EPSG:4326")
    sheet = make_sheet(roads, ALL[:1])
    assert sheet is not None
    line = sheet.line(0)
    assert np.hypot(*(line[-1] - line[0])) * sheet.metres == pytest.approx(1112, rel=2e-3)
    plain = make_sheet(roads_of(EAST, crs=None), ALL[:1])
    assert plain is not None
    assert np.isnan(plain.metres)


def test_details_below_a_pixel_are_left_out() -> None:
    """A line of a thousand vertices is a handful."""
    x = np.linspace(0, 1000, 1001)
    wavy = np.column_stack([x, 0.05 * np.sin(x)])
    sheet = make_sheet(roads_of([tuple(p) for p in wavy]), ALL[:1])
    assert sheet is not None
    assert len(sheet.points) < 10


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-900, 900), st.integers(-900, 900)), min_size=2, max_size=9))
def test_paths_lead_where_the_line_leads(points: list[tuple[int, int]]) -> None:
    """Property: relative steps add up to the rounded end; no step is empty."""
    roads = roads_of([(float(x), float(y)) for x, y in points])
    sheet = make_sheet(roads, ALL[:1])
    assert sheet is not None
    line = np.rint(sheet.line(0))
    found = numbers(path_of(sheet, [0]))
    if not found:
        assert (line == line[0]).all()
        return
    steps = np.array(found).reshape(-1, 2)
    assert steps.sum(axis=0).tolist() == line[-1].tolist()
    assert steps[1:].any(axis=1).all()


def links_of(d_speed: list[float], status: list[str] | None = None) -> pd.DataFrame:
    n = len(d_speed)
    return pd.DataFrame(
        {
            "d_speed": d_speed,
            "d_flow": 60.0,
            "significant": True,
            "status": status or ["normal"] * n,
            "title": "<b>&",
        }
    )


def test_classes_are_fixed_symmetric_and_closed_towards_nothing() -> None:
    """-2 and 2 are no change, as in the styles for QGIS; the ends are open."""
    values = np.array([-99, -15.1, -15, -10, -5, -2.1, -2, 0, 2, 2.1, 5, 10, 15, 15.1])
    assert class_of(values, SPEED).tolist() == [0, 0, 1, 2, 3, 3, 4, 4, 4, 5, 5, 6, 7, 8]
    assert np.array_equal(np.negative(FLOW.classes[:4]), FLOW.classes[:3:-1])


def test_colours_follow_significance_and_status() -> None:
    """Slower is coloured, unsure is dashed, closed is neither, and texts are escaped."""
    sheet = make_sheet(CROSS, ALL)
    assert sheet is not None
    links = links_of([-6.0, 7.0, -20.0], ["normal", "normal", "closed"])
    links.loc[1, "significant"] = False
    drawn = draw_changes(sheet, links, SPEED)
    assert re.findall(r'class="(c\d w\d|unsure|closed)"', drawn) == ["unsure", "c2 w1", "closed"]
    assert "<title>&lt;b&gt;&amp;</title>" in drawn


@pytest.mark.parametrize("n", [1, 249, 250, 251, 400, 501])
def test_every_change_is_drawn_however_many_there_are(n: int) -> None:
    """Only the largest 250 have texts of their own; all have a line."""
    rng = np.random.default_rng(n)
    roads = roads_of(*([(0.0, 3.0 * i), (1000.0, 3.0 * i)] for i in range(n)))
    sheet = make_sheet(roads, np.ones(n, dtype=np.bool_))
    assert sheet is not None
    drawn = draw_changes(sheet, links_of(rng.uniform(-30, -3, n).tolist()), SPEED)
    assert drawn.count("M") == n
    assert drawn.count("<title>") == min(n, 250)


def test_new_and_removed_links() -> None:
    """New is a double line, removed looks as closed."""
    sheet = make_sheet(CROSS, ALL)
    assert sheet is not None
    drawn = draw_status(sheet, np.array(["new", "normal", "removed"], dtype=object))
    assert [x for x in ("new0", "new1", "closed", "cross1") if f'class="{x}"' in drawn] == [
        "new0", "new1", "closed", "cross1",
    ]  # fmt: skip


def test_labels_do_not_lie_over_each_other() -> None:
    """The first name wins; the same name is not written twice."""
    sheet = make_sheet(CROSS, ALL)
    assert sheet is not None
    assert draw_labels(sheet, [0, 1, 2], ["A<", "B", "A<"]).count("<text") == 1
    assert "A&lt;" in draw_labels(sheet, [0], ["A<"])


@pytest.mark.parametrize(("metres", "nice"), [(1.0, 1), (1.9, 1), (2, 2), (499, 200), (5e5, 5e5)])
def test_scale_bars_have_round_lengths(metres: float, nice: float) -> None:
    """1, 2 or 5."""
    assert nice_length(metres) == pytest.approx(nice)


def test_charts_leave_gaps_and_start_at_nothing() -> None:
    """A line is broken where nothing is known; the axis has 0 where that is near."""
    y = np.array([1.0, 2.0, np.nan, 4.0, 5.0])
    svg = draw_chart(
        np.arange(5.0), [Line("a<", "scn", y, y - 1, y + 1)], ticks=[(0.0, "t<")], unit="<u>",
        name="c", title="<t>", desc="<d>", markers=True,
    )  # fmt: skip
    (line,) = re.findall(r'class="line scn" d="([^"]+)"', svg)
    assert line.count("M") == 2
    assert svg.count("<circle") == 4
    assert ">0</text>" in svg
    assert not re.search(r"<[aut]<|<u>|<t>|<d>", svg)
    zeros = [Line("a", "scn", np.zeros(2))]
    flat = draw_chart(np.arange(2.0), zeros, ticks=[], unit="", name="c", title="", desc="")
    assert "NaN" not in flat
    assert "nan" not in flat
