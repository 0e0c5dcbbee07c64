"""Read a GTFS feed as a graph of stops with the scheduled times between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from zoneinfo import available_timezones

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from pyproj import CRS

from stgraph.errors import DataError, nearest_name
from stgraph.graph import STGraph
from stgraph.neighbours._places import to_metres
from stgraph.report import Report
from stgraph_connectors._gtfs_feed import (
    Day,
    find_day,
    read_tables,
    to_numbers,
    to_positions,
    to_seconds,
)

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

ROUTE_TYPES = {  # names of the basic types, and the hundreds of the extended ones
    "tram": (0, range(900, 1000)),
    "subway": (1, range(400, 500)),
    "rail": (2, range(100, 200)),
    "bus": (3, range(700, 800)),
    "ferry": (4, range(1000, 1100)),
    "cable_tram": (5, range(0)),
    "aerial_lift": (6, range(1300, 1400)),
    "funicular": (7, range(1400, 1500)),
    "trolleybus": (11, range(800, 900)),
    "monorail": (12, range(0)),
}
Positions = npt.NDArray[np.int64]

_WALK_M_S = 1.2  # between stops of a transfer that says no time
_MAX_DEPARTURES = 50_000_000  # of all trips at all stops, frequencies written out


def read_gtfs(
    feed: str | Path,
    *,
    date: str | None = None,
    weekday: Weekday | None = None,
    from_hour: float = 0.0,
    to_hour: float | None = None,
    route_types: Sequence[str] | None = None,
    merge_stations: bool = False,
    transfers: bool = False,
) -> STGraph:
    """Read the stops of a GTFS feed, connected by the rides of one day.

    Parameters
    ----------
    feed
        Zip file or folder with the tables of GTFS Schedule.
    date
        Service day, as in ``2024-05-14``. None takes the day with the most trips.
    weekday
        Take the day with the most trips among these. Not together with `date`.
    from_hour, to_hour
        Only rides that depart in ``[from_hour, to_hour)`` of the service day, whose hours go on
        after midnight: 25.5 is half past one in the night after. None takes all that follow, and
        counts them per hour up to the next midnight.
    route_types
        Only these: tram, subway, rail, bus, ferry, cable_tram, aerial_lift, funicular,
        trolleybus, monorail; extended types count with their basic one. None: all.
    merge_stations
        Take stations for nodes in place of their platforms.
    transfers
        Add the footways of ``transfers.txt`` as edges of kind ``transfer``.

    Returns
    -------
    STGraph
        Stops that are served (EPSG:4326) with `stop_name`, and a directed edge from each to the
        next of any trip: median `travel_time_s` (also the weight, in s), `trips`,
        `trips_per_hour` and `headway_minutes` over the hours asked for, `routes`, `length_m`
        straight, `kind` ``ride`` or ``transfer``. No signal.

    Raises
    ------
    DataError
        Tables or columns are missing, no trip runs, or an option makes no sense: the message
        lists every problem.

    Notes
    -----
    Missing stop times are interpolated by `shape_dist_traveled` where the trip has it, else in
    equal parts. Trips of ``frequencies.txt`` count as often as they run.
    """
    path, report = Path(feed), Report()
    _check_options(date, weekday, from_hour, to_hour, route_types, report)
    tables = read_tables(path, report)
    _refuse(report, path)
    day = find_day(tables, date=date, weekday=weekday, where=path.name, report=report)
    _refuse(report, path)
    assert day is not None  # noqa: S101  # else there was an error
    trips = _choose_trips(tables, day, route_types, path.name, report)
    _refuse(report, path)
    stops, node_of = _stops(tables["stops"], merge_stations, path.name, report)
    times = _stop_times(tables["stop_times"], trips, stops.index, path.name, report)
    rides = _rides(times, trips, tables.get("frequencies"), path.name, report)
    rides = rides[(rides["departure"] >= 3600 * from_hour) & (rides["departure"] < _stop(to_hour))]
    rides = _between_stops(rides, stops, node_of, path.name, report)
    if rides.empty:
        span = f"from {from_hour:g} h" + (f" to {to_hour:g} h" if to_hour is not None else " on")
        report.error(path.name, f"no ride departs {span} on {day.date}", "widen the hours")
    _refuse(report, path)
    hours = _end(from_hour, to_hour) - from_hour
    edges = _edges(rides, trips, hours)
    if transfers:
        edges = _with_transfers(edges, tables.get("transfers"), stops, node_of, path.name, report)
    return _graph(stops, edges, tables, day, path, report, {
        "from_hour": from_hour, "to_hour": to_hour, "merge_stations": merge_stations,
    })  # fmt: skip


def _refuse(report: Report, path: Path) -> None:
    """Raise all errors so far."""
    report.raise_errors(DataError, title=f"the feed {path.name} cannot be read")


def _stop(to_hour: float | None) -> float:
    """Return the end of the hours asked for, in seconds."""
    return np.inf if to_hour is None else 3600 * to_hour


def _end(from_hour: float, to_hour: float | None) -> float:
    """Return the hour up to which trips per hour are counted; None: the next midnight."""
    return 24.0 * (1 + from_hour // 24) if to_hour is None else to_hour


def _check_options(
    date: str | None,
    weekday: str | None,
    from_hour: float,
    to_hour: float | None,
    route_types: Sequence[str] | None,
    report: Report,
) -> None:
    """Note options that make no sense."""
    if date is not None and weekday is not None:
        report.error("`weekday`", f"is {weekday!r} beside a `date`", "give one of them")
    if not 0 <= from_hour < 48:
        report.error("`from_hour`", f"is {from_hour!r}", "give hours from 0 up to 48")
    if not from_hour < _end(from_hour, to_hour) <= 72:
        what = f"from {from_hour!r} to {to_hour!r} there is no hour"
        report.error("`to_hour`", what, "give an end after the start, at most 72")
    for name in route_types or ():
        if name not in ROUTE_TYPES:
            hint = nearest_name(name, ROUTE_TYPES)
            report.error("`route_types`", f"holds {name!r}{hint}", f"there are {list(ROUTE_TYPES)}")


# ------------------------------------------------------------------------------ trips and times


def _choose_trips(
    tables: Mapping[str, pd.DataFrame],
    day: Day,
    route_types: Sequence[str] | None,
    where: str,
    report: Report,
) -> pd.DataFrame:
    """Return the trips of a day, numbered from 0, with the name of their route."""
    trips = tables["trips"]
    trips = trips[trips["service_id"].isin(day.services)]
    trips = trips[trips["trip_id"].notna()].drop_duplicates("trip_id", ignore_index=True)
    routes = tables.get("routes", pd.DataFrame({"route_id": pd.Series(dtype=str)}))
    name = next((c for c in ("route_short_name", "route_long_name") if c in routes), "route_id")
    names = routes.drop_duplicates("route_id").set_index("route_id", drop=False)[name]
    own = trips["route_id"]
    trips = trips.assign(route=own.map(names).astype(own.dtype).fillna(own))
    if route_types is None:
        return trips
    if "route_type" not in routes:
        report.error(f"{where}, routes.txt", "is missing", "`route_types` needs it")
        return trips
    types = pd.to_numeric(routes.set_index("route_id")["route_type"], errors="coerce")
    kinds = [ROUTE_TYPES[name] for name in route_types]
    wanted = [any(t == basic or t in extended for basic, extended in kinds) for t in types]
    wanted_ids = types.index[np.array(wanted, dtype=bool)]
    trips = trips[trips["route_id"].isin(wanted_ids)].reset_index(drop=True)
    if trips.empty:
        there = sorted({int(t) for t in types.dropna()})
        what = f"no trip of {list(route_types)} runs on {day.date}"
        report.error("`route_types`", what, f"the feed has the route types {there}")
    return trips


def _stop_times(
    table: pd.DataFrame, trips: pd.DataFrame, stop_ids: pd.Index, where: str, report: Report
) -> pd.DataFrame:
    """Return the stops of the trips in their order, with arrival and departure in seconds.

    Trips and stops are positions among those of the day and in the feed, -1 for an unknown stop.
    """
    trip = to_positions(table["trip_id"], pd.Index(trips["trip_id"]))
    table, trip = table[trip >= 0], trip[trip >= 0]
    where = f"{where}, stop_times.txt"
    seconds = {
        name: to_seconds(table[name]) if name in table else np.full(len(table), np.nan)
        for name in ("arrival_time", "departure_time")
    }
    for name, numbers in seconds.items():
        odd = np.isnan(numbers) & (table[name].notna().to_numpy() if name in table else False)
        if odd.any():
            row = int(np.argmax(odd))
            what = f"{int(odd.sum())} times such as {table[name].iloc[row]!r} are none"
            report.warning(f"{where}, column `{name}`", what, "taken as missing")
    distance = table.get("shape_dist_traveled", pd.Series(np.nan, table.index))
    times = pd.DataFrame({
        "trip": trip, "stop": to_positions(table["stop_id"], stop_ids),
        "sequence": to_numbers(table["stop_sequence"]), "arrival": seconds["arrival_time"],
        "departure": seconds["departure_time"], "distance": to_numbers(distance),
    })  # fmt: skip
    times["arrival"] = times["arrival"].fillna(times["departure"])
    times["departure"] = times["departure"].fillna(times["arrival"])
    bad = times["sequence"].isna() | times.duplicated(["trip", "sequence"])
    if bad.any():
        what = f"{int(bad.sum())} rows have no `stop_sequence`, or one that is there twice"
        report.warning(where, what, "left out", count=int(bad.sum()))
    times = times[~bad].sort_values(["trip", "sequence"], kind="stable", ignore_index=True)
    return _interpolate(times, where, report)


def _interpolate(times: pd.DataFrame, where: str, report: Report) -> pd.DataFrame:
    """Return the stops with missing times filled between the known ones of a trip."""
    missing = times["arrival"].isna()
    if not missing.any():
        return times
    trip = times["trip"]
    along = times["distance"].where(~times["distance"].isna().groupby(trip).transform("any"))
    along = along.fillna(times.groupby("trip").cumcount().astype(float))
    known = np.flatnonzero(~missing)
    if not len(known):
        report.error(where, "has no time at all", "take a feed with stop times")
        return times
    rows = np.arange(len(times))
    after = np.searchsorted(known, rows)
    left, right = known[np.maximum(after - 1, 0)], known[np.minimum(after, len(known) - 1)]
    names, position = trip.to_numpy(), along.to_numpy()
    inside = missing.to_numpy() & (names[left] == names) & (names[right] == names) & (left < rows)
    width = position[right] - position[left]
    share = np.where(width > 0, (position - position[left]) / np.where(width > 0, width, 1), 0.5)
    departure, arrival = times["departure"].to_numpy(), times["arrival"].to_numpy()
    filled = departure[left] + share * (arrival[right] - departure[left])
    for name in ("arrival", "departure"):
        times[name] = np.where(inside, filled, times[name])
    lost = times["arrival"].isna()
    what = f"{int(inside.sum())} stops had no time"
    report.info(where, what, "interpolated between their neighbours", count=int(inside.sum()))
    if lost.any():
        what = f"{int(lost.sum())} stops at the ends of trips have no time"
        report.warning(where, what, "left out", count=int(lost.sum()))
    return times[~lost].reset_index(drop=True)


def _rides(
    times: pd.DataFrame,
    trips: pd.DataFrame,
    frequencies: pd.DataFrame | None,
    where: str,
    report: Report,
) -> pd.DataFrame:
    """Return one row per departure towards the next stop."""
    column = {name: times[name].to_numpy() for name in times.columns}
    row = np.flatnonzero(np.diff(column["trip"]) == 0)
    rides = pd.DataFrame({
        "trip": column["trip"][row], "source": column["stop"][row],
        "target": column["stop"][row + 1], "departure": column["departure"][row],
        "travel_s": column["arrival"][row + 1] - column["departure"][row],
    })  # fmt: skip
    back = rides["travel_s"] < 0
    if back.any():
        what = f"{int(back.sum())} rides arrive before they depart"
        report.warning(f"{where}, stop_times.txt", what, "left out", count=int(back.sum()))
    rides = rides[~back]
    if frequencies is None:
        return rides
    begins = times.groupby("trip")["departure"].first()
    return _repeat(rides, begins, trips, frequencies, where, report)


def _repeat(
    rides: pd.DataFrame,
    begins: pd.Series,
    trips: pd.DataFrame,
    frequencies: pd.DataFrame,
    where: str,
    report: Report,
) -> pd.DataFrame:
    """Return the rides with those of trips that only give a headway written out."""
    where = f"{where}, frequencies.txt"
    table = pd.DataFrame({
        "trip": to_positions(frequencies["trip_id"], pd.Index(trips["trip_id"])),
        "start": to_seconds(frequencies["start_time"]),
        "end": to_seconds(frequencies["end_time"]),
        "headway": to_numbers(frequencies["headway_secs"]),
    })  # fmt: skip
    table = table[table["trip"].isin(begins.index)]
    bad = ~((table["end"] > table["start"]) & (table["headway"] > 0))
    if bad.any():
        what = f"{int(bad.sum())} rows have no headway above 0 or end before they start"
        report.warning(where, what, "left out", count=int(bad.sum()))
    table = table[~bad]
    if table.empty:
        return rides
    counts = np.ceil((table["end"] - table["start"]) / table["headway"]).astype(np.int64)
    per_trip = rides["trip"].value_counts()
    total = int((counts * table["trip"].map(per_trip).fillna(0)).sum())
    if total > _MAX_DEPARTURES:
        report.error(where, f"would make {total:,} departures", "correct the headways")
        return rides
    runs = table.loc[table.index.repeat(counts)]
    number = runs.groupby(level=0).cumcount()
    starts = pd.DataFrame({"trip": runs["trip"], "begin": runs["start"] + number * runs["headway"]})
    written_out = rides["trip"].isin(table["trip"])
    repeated = rides[written_out].merge(starts, on="trip")
    repeated["departure"] += repeated["begin"] - repeated["trip"].map(begins)
    return pd.concat([rides[~written_out], repeated.drop(columns="begin")], ignore_index=True)


# ------------------------------------------------------------------------------ stops and edges


def _stops(
    table: pd.DataFrame, merge: bool, where: str, report: Report
) -> tuple[pd.DataFrame, Positions]:
    """Return stops with their place by id, and the position of the node that each is part of."""
    where = f"{where}, stops.txt"
    twice = table["stop_id"].duplicated()
    if twice.any():
        first = table["stop_id"][twice].iloc[0]
        what = f"{int(twice.sum())} stops are there twice, such as {first!r}"
        report.warning(where, what, "took the first", count=int(twice.sum()))
    stops = table[~twice & table["stop_id"].notna()].set_index("stop_id")
    for name, limit in (("stop_lat", 90), ("stop_lon", 180)):
        numbers = pd.to_numeric(stops[name], errors="coerce")
        stops[name] = numbers.where(numbers.abs() <= limit)
    node_of: Positions = np.arange(len(stops))
    if merge and "parent_station" in stops:
        parent = to_positions(stops["parent_station"], stops.index)
        node_of = np.where(parent >= 0, parent, node_of)
    return stops, node_of


def _between_stops(
    rides: pd.DataFrame, stops: pd.DataFrame, node_of: Positions, where: str, report: Report
) -> pd.DataFrame:
    """Return the rides between different nodes that have a place."""
    unknown = (rides["source"] < 0) | (rides["target"] < 0)
    if unknown.any():
        what = f"{int(unknown.sum())} rides are from or to a stop that stops.txt does not have"
        report.warning(f"{where}, stop_times.txt", what, "left out", count=int(unknown.sum()))
    rides = rides[~unknown]
    rides = rides.assign(**{name: node_of[rides[name]] for name in ("source", "target")})
    placeless = stops[["stop_lat", "stop_lon"]].isna().any(axis=1).to_numpy()
    lost = placeless[rides["source"]] | placeless[rides["target"]]
    if lost.any():
        what = f"{int(lost.sum())} rides are from or to a stop without coordinates"
        report.warning(f"{where}, stops.txt", what, "left out", count=int(lost.sum()))
    return rides[~lost & (rides["source"] != rides["target"]).to_numpy()]


def _edges(rides: pd.DataFrame, trips: pd.DataFrame, hours: float) -> pd.DataFrame:
    """Return an edge per pair of stops with the times of its rides."""
    route, names = pd.factorize(trips["route"], sort=True)
    ends = ["source", "target"]
    groups = rides.groupby(ends)
    edges = groups["travel_s"].agg(travel_time_s="median", trips="size")
    edges["trips_per_hour"] = edges["trips"] / hours
    edges["headway_minutes"] = 60 * hours / edges["trips"]
    named = rides[ends].assign(route=route[rides["trip"]]).drop_duplicates()
    named = named.sort_values("route").assign(route=lambda table: names[table["route"]])
    edges["routes"] = named.groupby(ends)["route"].agg(";".join)
    edges["kind"] = "ride"
    table: pd.DataFrame = edges.reset_index()
    return table


def _with_transfers(
    edges: pd.DataFrame,
    table: pd.DataFrame | None,
    stops: pd.DataFrame,
    node_of: Positions,
    where: str,
    report: Report,
) -> pd.DataFrame:
    """Return the edges with footways between stops that are served."""
    where = f"{where}, transfers.txt"
    if table is None:
        report.warning(where, "is missing", "there are no transfers")
        return edges
    served = set(edges["source"]) | set(edges["target"])
    kinds = table["transfer_type"] if "transfer_type" in table else pd.Series("0", table.index)
    given = table.get("min_transfer_time", pd.Series(np.nan, table.index))
    ends = [to_positions(table[name], stops.index) for name in ("from_stop_id", "to_stop_id")]
    source, target = (np.where(end >= 0, node_of[end], -1) for end in ends)
    walks = pd.DataFrame({"source": source, "target": target, "travel_time_s": to_numbers(given)})
    walks = walks[~kinds.isin(["3", "4", "5"]).to_numpy()]
    inside = walks["source"].isin(served) & walks["target"].isin(served)
    walks = walks[inside & (walks["source"] != walks["target"])]
    walks = walks.drop_duplicates(["source", "target"])
    unknown = walks["travel_time_s"].isna()
    if unknown.any():
        what = f"{int(unknown.sum())} transfers say no time"
        todo = f"{_WALK_M_S} m/s along the straight line"
        report.info(where, what, todo, count=int(unknown.sum()))
        walked = _lengths(walks, stops) / _WALK_M_S
        walks["travel_time_s"] = walks["travel_time_s"].fillna(pd.Series(walked, walks.index))
    walks = walks.assign(
        trips=0, trips_per_hour=0.0, headway_minutes=np.nan, routes="", kind="transfer"
    )
    return pd.concat([edges, walks], ignore_index=True)


def _lengths(edges: pd.DataFrame, stops: pd.DataFrame) -> Any:
    """Return the straight lengths of edges on the ground, in metres."""
    columns = ["stop_lon", "stop_lat"]
    ends = [
        to_metres(stops[columns].to_numpy(dtype=float)[edges[name]], CRS.from_epsg(4326))[0]
        for name in ("source", "target")
    ]
    return np.linalg.norm(ends[0] - ends[1], axis=1)


def _graph(
    stops: pd.DataFrame,
    edges: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    day: Day,
    path: Path,
    report: Report,
    options: dict[str, Any],
) -> STGraph:
    """Return the graph of the stops that are served, in the order of stops.txt."""
    served = np.union1d(edges["source"], edges["target"])
    idle = len(stops) - len(served)
    if idle:
        what = f"{idle} stops are not served in these hours, or are no stops"
        report.info(f"{path.name}, stops.txt", what, "left out", count=idle)
    names = [name for name in ("stop_name", "stop_code", "parent_station") if name in stops]
    chosen = stops.iloc[served]
    geometry = gpd.points_from_xy(chosen["stop_lon"], chosen["stop_lat"])
    nodes = gpd.GeoDataFrame(
        {"kind": "station", **{name: chosen[name] for name in names}},
        index=pd.Index(chosen.index, name="stop_id"),
        geometry=geometry,
        crs=4326,
    )
    source, target = (np.searchsorted(served, edges[name]) for name in ("source", "target"))
    order = np.lexsort((edges["kind"], source, target))
    table = edges.drop(columns=["source", "target"]).assign(length_m=_lengths(edges, stops))
    table = table.iloc[order].reset_index(drop=True)
    none = int((table["travel_time_s"] == 0).sum())
    if none:
        what = f"{none} edges take no time, as in feeds of whole minutes"
        report.warning(path.name, what, "their weight is 0 s", count=none)
    info = tables.get("feed_info")
    zone = _zone(tables.get("agency"), path.name, report)
    provenance: dict[str, Any] = {
        "connector": "gtfs", "source": str(path), "date": day.date.isoformat(), **options,
        "findings": report.to_json(),
    }  # fmt: skip
    if info is not None and len(info) and "feed_publisher_name" in info:
        provenance["attribution"] = f"Timetable: {info['feed_publisher_name'].iloc[0]}"
    return STGraph(
        nodes=nodes,
        edge_index=np.stack([source, target])[:, order].astype(np.int64),
        edge_weight=table["travel_time_s"].to_numpy(dtype=np.float32),
        weight_unit="s",
        edges=table,
        zone=zone,
        provenance=provenance,
    )


def _zone(agency: pd.DataFrame | None, where: str, report: Report) -> str:
    """Return the time zone of the first agency, UTC where it names none that is known."""
    zone = None if agency is None or agency.empty else agency["agency_timezone"].iloc[0]
    if isinstance(zone, str) and zone in available_timezones():
        return zone
    report.warning(f"{where}, agency.txt", f"names no known time zone ({zone!r})", "took UTC")
    return "UTC"
