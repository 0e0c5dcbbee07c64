"""Cells over an area, and the events that are counted in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import geopandas as gpd
import pandas as pd
import shapely

from stgraph.errors import DataError
from stgraph.graph import Feature, STGraph
from stgraph.neighbours import build_contiguity, build_k_ring
from stgraph.report import Report
from stgraph_connectors._coordinates import parse_crs
from stgraph_connectors.grids._boundary import is_wkt, read_boundary
from stgraph_connectors.grids._cells import (
    CellOptions,
    Cells,
    make_hexagons,
    make_squares,
    take_polygons,
)
from stgraph_connectors.grids._counts import (
    Aggregate,
    CountOptions,
    Counts,
    count_events,
    place_events,
)
from stgraph_connectors.grids._events import EventOptions, read_points, read_trips
from stgraph_connectors.grids._options import (
    Neighbours,
    check_number,
    check_time,
    check_word,
    need,
    read_plane,
)

Cell = Literal["square", "hexagon", "polygon"]
Table = str | Path | pd.DataFrame


_TITLE = "cannot make a grid"
_FINEST = 15  # resolution of H3
_OF_POINTS = ("lat_column", "lon_column", "x_column", "y_column", "time_column")
_OF_TRIPS = ("origin_columns", "destination_columns")


def read_grid(
    boundary: str | Path | Sequence[float] | gpd.GeoDataFrame | shapely.Geometry,
    *,
    layer: str | None = None,
    crs: str | int | None = None,
    cell: Cell = "square",
    size_m: float | None = None,
    grid_crs: str | int | None = None,
    resolution: int | None = None,
    id_column: str | None = None,
    clip: bool = False,
    min_share: float = 0.0,
    points: Table | Sequence[Table] | None = None,
    trips: Table | Sequence[Table] | None = None,
    key: str | None = None,
    lat_column: str | None = None,
    lon_column: str | None = None,
    x_column: str | None = None,
    y_column: str | None = None,
    points_crs: str | int | None = None,
    origin_columns: Sequence[str] | None = None,
    destination_columns: Sequence[str] | None = None,
    time_column: str | None = None,
    time_format: str | None = None,
    decimal: str = ".",
    value_columns: Sequence[str] | None = None,
    aggregate: Aggregate = "count",
    feature: str = "count",
    unit: str = "",
    step_minutes: float | None = None,
    zone: str = "UTC",
    start: str | pd.Timestamp | None = None,
    stop: str | pd.Timestamp | None = None,
    neighbours: Neighbours = "queen",
    rings: int = 1,
    max_cells: int = 2_000_000,
    max_values: int = 500_000_000,
) -> STGraph:
    """Cover an area with cells, and count events in them.

    Parameters
    ----------
    boundary
        Area to cover: a layer of polygons, well-known text, ``[west, south, east, north]``, a
        shape or a frame. West above east goes over the antimeridian.
    layer
        Layer of a GeoPackage. None takes the only one.
    crs
        CRS of a boundary that names none. None is degrees for text, numbers and shapes.
    cell
        ``"square"``; ``"hexagon"`` of H3; ``"polygon"``: those of the boundary as they are.
    size_m
        Side of the squares in metres.
    grid_crs
        Plane in which squares are laid out. None is the UTM zone of the boundary's middle.
    resolution
        Of H3, 0 (1,100 km across) to 15 (1 m); 8 is 1 km, 9 is 350 m.
    id_column
        Ids of given polygons. None guesses it by name.
    clip
        Cut cells to the boundary; points outside of it are then not counted.
    min_share
        Leave out cells with less than this share (0 to 1) of their area inside.
    points
        Events with place and time: CSV, GeoPackage, Parquet or frame. Several are one table.
    trips
        In place of points: trips with origin and destination; gives features `out` and `in`.
    key
        Layer of a GeoPackage of points. None takes the only one.
    lat_column, lon_column, x_column, y_column
        Columns of coordinates. None guesses them by name.
    points_crs
        CRS of `x_column` and `y_column`, of trips, or of a layer that names none.
    origin_columns, destination_columns
        Columns of a trip's two ends: ``[lon, lat, time]`` or ``[x, y, time]``. None guesses.
    time_column, time_format
        Times of points, and their format as in `strptime`. None finds both out.
    decimal
        Decimal sign of numbers in text files.
    value_columns
        Quantities to sum or to take the mean of.
    aggregate
        ``"count"`` of events; ``"sum"`` or ``"mean"`` of the value columns.
    feature, unit
        Name of the feature of a count of points, and unit of all features.
    step_minutes
        Length of a step; needed with points or trips.
    zone
        IANA zone of times that name none, and of the calendar. Steps start at its midnight.
    start, stop
        First step, and end of the last. None is the first and last event.
    neighbours, rings
        ``"queen"`` (over corners), ``"rook"`` (over sides) or ``"none"``, and how many steps far.
    max_cells, max_values
        Largest number of cells, and of steps x cells x features, that is made.

    Returns
    -------
    STGraph
        N cells in the plane of the squares, in WGS 84 (hexagons) or in the boundary's CRS
        (polygons), with `share_inside`, the share of a cell inside the boundary. Ids: `row_column`
        of squares (counted from the origin of the plane, so that they stay when the boundary
        grows), H3 index of hexagons. Counts and sums are 0 where nothing happened between the
        first and the last step, means are missing there.

    Raises
    ------
    DataError
        Lists everything that cannot be used: file, column, line, value and what to do.
    """
    report = Report()
    _check(locals(), report)
    plane = read_plane("grid_crs", grid_crs, report)
    events_crs = parse_crs(points_crs, report, option="points_crs")
    report.raise_errors(DataError, title=_TITLE)
    area = need(read_boundary(boundary, layer=layer, crs=crs, report=report), report, _TITLE)
    if cell != "polygon" and area.crs.geodetic_crs is None:
        what = f"{area.crs.name} is nowhere on Earth, where {cell}s are laid out"
        report.error(area.name, what, "say where it is with crs=, or take cell='polygon'")
        report.raise_errors(DataError, title=_TITLE)
    cell_options = CellOptions(clip, min_share, max_cells)
    made: Cells | None
    if cell == "square":
        made = make_squares(area, float(size_m or 0), plane, cell_options, report)
    elif cell == "hexagon":
        made = make_hexagons(area, int(resolution or 0), cell_options, report)
    else:
        made = take_polygons(area, id_column, cell_options, report)
    cells = cast("Cells", need(made, report, _TITLE))
    provenance = {
        "connector": "grid",
        "source": {"boundary": _name(boundary)},
        "grid": cells.notes,
    }
    graph = STGraph(nodes=cells.nodes, zone=zone, provenance=provenance)
    sources = _as_list(trips if points is None else points)
    if sources:
        columns = _as_list(value_columns)
        event_options = EventOptions(
            key, lat_column, lon_column, x_column, y_column, events_crs, time_column, time_format,
            columns, origin_columns, destination_columns, decimal, zone,
        )  # fmt: skip
        steps = CountOptions(float(step_minutes or 0), zone, start, stop, aggregate, max_values)
        read = _count_points if points is not None else _count_trips
        counts = need(read(sources, cells, event_options, steps, report), report, _TITLE)
        features = _features(columns, feature, unit, aggregate, is_trips=points is None)
        graph = _add_counts(graph, counts, features, [_name(item) for item in sources])
    graph = graph.replace(provenance={**graph.provenance, "findings": report.to_json()})
    return _connect(graph, cell, neighbours, rings)


def _check(given: dict[str, Any], report: Report) -> None:
    """Note options that cannot be, or that do not go together."""
    check_word("cell", given["cell"], get_args(Cell), report)
    check_word("aggregate", given["aggregate"], get_args(Aggregate), report)
    check_word("neighbours", given["neighbours"], get_args(Neighbours), report)
    check_word("decimal", given["decimal"], (".", ","), report)
    check_number("rings", given["rings"], report, least=1, whole=True)
    check_number("max_cells", given["max_cells"], report, least=1, whole=True)
    check_number("max_values", given["max_values"], report, least=1, whole=True)
    check_number("min_share", given["min_share"], report, most=1)
    check_time(given["zone"], {name: given[name] for name in ("start", "stop")}, report)
    needed = {"square": "size_m", "hexagon": "resolution"}.get(given["cell"])
    for name in ("size_m", "resolution"):
        if name == needed and given[name] is None:
            todo = (
                "give the side in metres" if name == "size_m" else "give 0 to 15; 8 is 1 km across"
            )
            report.error(f"`{name}`", f"is missing for cell={given['cell']!r}", todo)
        elif name != needed and given[name] is not None and needed != given["cell"]:
            what = f"is of no use for cell={given['cell']!r}"
            report.warning(f"`{name}`", what, "it was not used")
    if given["cell"] == "polygon" and (given["clip"] or given["min_share"]):
        what = "polygons are taken as they are"
        report.warning("`clip`, `min_share`", what, "they were not used")
    check_number("size_m", given["size_m"], report, above=True, optional=True)
    check_number("resolution", given["resolution"], report, most=_FINEST, whole=True, optional=True)
    _check_events(given, report)


def _check_events(given: dict[str, Any], report: Report) -> None:
    """Note options of points and trips that do not go together, or are of no use."""
    if given["points"] is not None and given["trips"] is not None:
        report.error("`trips`", "is given beside `points`", "give one of them")
    for name in ("points", "trips"):
        if isinstance(given[name], Sequence) and not given[name]:
            report.error(f"`{name}`", "is empty", "give a table, or leave it out")
    counted = given["points"] is not None or given["trips"] is not None
    check_number("step_minutes", given["step_minutes"], report, least=1e-4, optional=not counted)
    if given["aggregate"] in ("sum", "mean") and counted and not given["value_columns"]:
        todo = f"name what to take the {given['aggregate']} of"
        report.error("`value_columns`", "is missing", todo)
    idle = _OF_TRIPS if given["trips"] is None else _OF_POINTS
    if given["aggregate"] == "count":
        idle = (*idle, "value_columns")
    unused = [f"`{name}`" for name in idle if counted and given[name] is not None]
    if unused:
        what = "is of no use for " + ("points" if given["trips"] is None else "trips")
        what += f" and aggregate={given['aggregate']!r}"
        report.warning(", ".join(unused), what, "it was not used")


def _count_points(
    sources: list[Any], cells: Cells, options: EventOptions, steps: CountOptions, report: Report
) -> Counts | None:
    """Return the counts of points."""
    events = need(read_points(sources, options, report), report, _TITLE)
    placed = [place_events(events, cells, "points", report)]
    report.raise_errors(DataError, title=_TITLE)
    return count_events(placed, len(cells.nodes), steps, events.name, report)


def _count_trips(
    sources: list[Any], cells: Cells, options: EventOptions, steps: CountOptions, report: Report
) -> Counts | None:
    """Return the counts of both ends of trips."""
    begins, ends = need(read_trips(sources, options, report), report, _TITLE)
    placed = [
        place_events(begins, cells, "origins", report),
        place_events(ends, cells, "destinations", report),
    ]
    report.raise_errors(DataError, title=_TITLE)
    return count_events(placed, len(cells.nodes), steps, begins.name, report)


def _features(
    columns: list[str], feature: str, unit: str, aggregate: Aggregate, *, is_trips: bool
) -> tuple[Feature, ...]:
    """Return the features of points, or those of origins and then of destinations."""
    names = [feature] if aggregate == "count" else columns
    if is_trips:
        names = [
            end if aggregate == "count" else f"{end}_{n}" for end in ("out", "in") for n in names
        ]
    return tuple(Feature(str(name), unit) for name in names)


def _add_counts(
    graph: STGraph, counts: Counts, features: tuple[Feature, ...], sources: list[str]
) -> STGraph:
    """Return the graph with a signal."""
    source = {**graph.provenance["source"], "events": sources}
    notes = {"source": source, "step_minutes": counts.step_minutes}
    return graph.replace(
        time=counts.time,
        values=counts.values,
        mask=None,
        features=features,
        provenance={**graph.provenance, **notes},
    )


def _connect(graph: STGraph, cell: Cell, neighbours: Neighbours, rings: int) -> STGraph:
    """Return the graph with edges between neighbours."""
    if neighbours == "none":
        return graph
    if cell == "polygon" and rings == 1:
        return build_contiguity(graph, rule=neighbours)
    return build_k_ring(graph, k=rings, rule=neighbours)


def _as_list(sources: Any) -> list[Any]:
    """Return one or several things as a list."""
    if sources is None:
        return []
    if isinstance(sources, Sequence) and not isinstance(sources, str):
        return list(sources)
    return [sources]


def _name(source: object) -> str:
    """Return the name of a source without its folder."""
    is_path = isinstance(source, str | Path) and not is_wkt(source)
    return Path(str(source)).name if is_path else type(source).__name__
