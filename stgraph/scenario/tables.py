"""A scenario's result as plain tables, ready for a database, a GeoPackage or a notebook."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError
from stgraph.graph import BoolArray, FloatArray
from stgraph.scenario.periods import step_length, steps_of_periods
from stgraph.scenario.result import SOURCES, STATUS, ScenarioResult

_CLOSED, _NEW = STATUS.index("closed"), STATUS.index("new")
_GONE = (_CLOSED, STATUS.index("removed"))
_STAMP = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)T(\d\d):?(\d\d):?(\d\d)?")  # at the head of a run id
_ENDS = ("low", "high")
_NUMBERS = ("base", "scenario", "change", *_ENDS)
_OD_RANGE = ("d_min_low", "d_min_high")
_EDIT = ("operation", "op", "label", "segment_id", "status", "valid_from", "valid_to")
_AREA = ("zone", "period", "network", "minutes", "street_km", "area_km2")

Frames = dict[str, pd.DataFrame | gpd.GeoDataFrame]


def tables(result: ScenarioResult) -> Frames:
    """Return the tables of a scenario by name, each with the run's id in its first column.

    Speeds are in km/h, flows in vehicles per hour, instants in UTC. What is closed, absent or
    unknown is missing, never 0. A segment that a new road splits is left out: its parts, with the
    forecast of the whole as their baseline, are there in its place.

    Parameters
    ----------
    result
        A scenario that was run, E segments and T steps.

    Returns
    -------
    dict[str, DataFrame | GeoDataFrame]
        ``scenario`` (one row), ``scenario_segment`` (with lines, a row for each of the E segments
        that is not split), ``scenario_link`` (one for each of the T steps as well, step after
        step), ``scenario_link_peak`` (a row with line per segment and period: am, mid, pm, day),
        ``scenario_od``, ``scenario_edit`` (with lines), ``scenario_summary``, ``scenario_access``
        and ``scenario_isochrone`` (with polygons; no rows if nobody asked).

    Raises
    ------
    DataError
        The segments have no id or no line.
    """
    segments = _segments(result)
    change = _Change(result, segments["length_m"].to_numpy(dtype=np.float32))
    kept = ~result.is_replaced
    peaks = _peaks(result, change, segments)
    return {
        "scenario": _scenario(result),
        "scenario_segment": segments[kept].reset_index(drop=True),
        "scenario_link": _links(result, change, kept),
        "scenario_link_peak": peaks[np.resize(kept, len(peaks))].reset_index(drop=True),
        "scenario_od": _od(result),
        "scenario_edit": _edits(result),
        "scenario_summary": _with_run(result, _as_numbers(result.summary, _NUMBERS)),
        "scenario_access": _access(result),
        "scenario_isochrone": _isochrones(result, segments.crs),
    }


def link_peaks(result: ScenarioResult) -> gpd.GeoDataFrame:
    """Return the table ``scenario_link_peak`` alone, without those that have a row per step.

    It has rows of all E segments, those that are split too: they are as if nothing was known.

    Raises
    ------
    DataError
        The segments have no id or no line.
    """
    segments = _segments(result)
    change = _Change(result, segments["length_m"].to_numpy(dtype=np.float32))
    return _peaks(result, change, segments)


class _Change:
    """Speeds and flows as (T, E) arrays, cleaned of what is closed, and what they change by."""

    def __init__(self, result: ScenarioResult, length_m: FloatArray) -> None:
        links, split = result.links, result.is_replaced
        self.status = np.where(split, np.int8(0), links.status)
        self.source = links.source
        gone, absent = np.isin(links.status, _GONE) | split, (links.status == _NEW) | split
        self.significant = links.significant & ~gone
        self.speed_base = _known(links.speed_base, absent)
        self.speed_scn = _known(links.speed_scn, gone)
        self.flow_base = _known(links.flow_base, absent)
        self.flow_scn = _known(links.flow_scn, gone)
        self.d_speed = self.speed_scn - self.speed_base
        self.d_flow = self.flow_scn - self.flow_base
        none = gone | absent
        self.d_speed_low = _known(links.d_speed_low, none)
        self.d_speed_high = _known(links.d_speed_high, none)
        self.d_flow_low = _known(links.d_flow_low, none)
        self.d_flow_high = _known(links.d_flow_high, none)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.tt_delta_s = _known(3.6 * length_m * (1 / self.speed_scn - 1 / self.speed_base))


def _known(values: npt.NDArray[np.floating[Any]], absent: BoolArray | None = None) -> FloatArray:
    """Return values with NaN for what is absent, or no finite number."""
    known = np.isfinite(values) if absent is None else np.isfinite(values) & ~absent
    return np.where(known, values, np.float32(np.nan)).astype(np.float32)


def _percent(change: FloatArray, base: FloatArray) -> FloatArray:
    """Return a change in per cent of what it was."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _known(100 * change / base)


# ------------------------------------------------------------------------------ run and segments


def _scenario(result: ScenarioResult) -> pd.DataFrame:
    """Return the one row about the run."""
    step = step_length(result.time)
    row = {
        "run_id": result.run_id,
        "name": result.name,
        "script": result.script,
        "method": result.method,
        "created": _created(result),
        "baseline": result.baseline,
        "zone": result.zone,
        "valid_from": result.time[0],
        "valid_to": result.time[-1] + step,
        "step_s": step.total_seconds(),
        "n_segments": int((~result.is_replaced).sum()),
        "card": json.dumps(_plain(dict(result.card)), default=str),
        "findings": result.report.to_json(),
    }
    table = pd.DataFrame([row])
    for name in ("created", "valid_from", "valid_to"):
        table[name] = pd.to_datetime(table[name], utc=True).dt.as_unit("us")
    return table


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it: no number that is not finite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _created(result: ScenarioResult) -> pd.Timestamp | None:
    """Return when the scenario was run: as the card says, or the run's id."""
    if result.card.get("created"):
        return pd.Timestamp(str(result.card["created"]))
    found = _STAMP.match(result.run_id)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        return pd.Timestamp(year, month, day, hour, minute, second, tz="UTC")
    except ValueError:  # digits that are no date
        return None


def _segments(result: ScenarioResult) -> gpd.GeoDataFrame:
    """Return the segments with what a map says about them."""
    edges = result.roads.edges
    if not isinstance(edges, gpd.GeoDataFrame) or "segment_id" not in edges:
        raise DataError(
            "`roads` has no lines with a `segment_id`; use a road network with junctions as nodes"
        )
    source, target = result.roads.edge_index
    n_nodes = result.roads.n_nodes
    back = np.isin(target * n_nodes + source, source * n_nodes + target)
    table = {
        "segment_id": edges["segment_id"].to_numpy(dtype=np.int64),
        "name": _texts(edges, ("name",)),
        "road_class": _texts(edges, ("road_class", "highway")),
        "length_m": edges["length_m"].to_numpy(dtype=np.float32),
        "is_two_way": back,
    }
    return gpd.GeoDataFrame(
        _with_run(result, pd.DataFrame(table)), geometry=edges.geometry.to_numpy(), crs=edges.crs
    )


def _texts(edges: pd.DataFrame, names: Sequence[str]) -> npt.NDArray[np.object_]:
    """Return the first of some columns as texts, None where there is none."""
    found = next((edges[name] for name in names if name in edges), None)
    if found is None:
        return np.full(len(edges), None, dtype=object)
    return np.array([None if pd.isna(value) else str(value) for value in found], dtype=object)


# ---------------------------------------------------------------------------- effects on segments


def _links(result: ScenarioResult, change: _Change, kept: BoolArray) -> pd.DataFrame:
    """Return a row per step and segment that is kept."""
    n_steps, n_segments = len(change.status), int(kept.sum())
    ids = result.roads.edges["segment_id"].to_numpy(dtype=np.int64)[kept]  # type: ignore[index]  # checked
    table: dict[str, Any] = {
        "run_id": _category(np.zeros(n_steps * n_segments, dtype=np.int8), (result.run_id,)),
        "segment_id": np.tile(ids, n_steps),
        "ts": result.time.as_unit("us").repeat(n_segments),
    }
    for quantity in ("speed", "flow"):
        base, after = (getattr(change, f"{quantity}_{end}") for end in ("base", "scn"))
        of = f"d_{quantity}"
        table |= {f"{quantity}_base": base, f"{quantity}_scn": after, of: getattr(change, of)}
        if quantity == "speed":
            table["d_speed_pct"] = _percent(change.d_speed, base)
        table |= {f"{of}_{end}": getattr(change, f"{of}_{end}") for end in ("low", "high")}
    table["tt_delta_s"] = change.tt_delta_s
    flat = {
        name: x[:, kept].reshape(-1) if isinstance(x, np.ndarray) and x.ndim == 2 else x
        for name, x in table.items()
    }
    flat["status"] = _category(change.status[:, kept].reshape(-1), STATUS)
    flat["source"] = _category(change.source[:, kept].reshape(-1), SOURCES)
    flat["significant"] = change.significant[:, kept].reshape(-1)
    return pd.DataFrame(flat)


def _category(codes: npt.NDArray[np.int8], names: Sequence[str]) -> Any:
    """Return words by their number, a byte each."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(list(names)))


def _peaks(result: ScenarioResult, change: _Change, segments: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return a row per segment and period of the day."""
    parts = [
        segments.assign(period=name, **_means(change, steps))
        for name, steps in steps_of_periods(result.time, result.zone).items()
    ]
    rows = pd.concat(parts, ignore_index=True)
    order = [name for name in rows if name != "geometry"]
    return gpd.GeoDataFrame(rows[order], geometry=rows["geometry"].to_numpy(), crs=segments.crs)


def _means(change: _Change, steps: BoolArray) -> dict[str, Any]:
    """Return means over some steps; what is closed for half of them or more counts as closed."""
    status = change.status[steps]
    shares = np.stack([(status == code).mean(axis=0) for code in range(len(STATUS))])  # (5, E)
    closed_share = shares[_CLOSED]
    # the most common one; of a tie, and of steps that are half closed, not the normal one
    shares[0] -= 1e-6
    code = np.where(closed_share >= 0.5, _CLOSED, shares.argmax(axis=0)).astype(np.int8)
    gone = np.isin(code, _GONE)
    found: dict[str, Any] = {}
    for quantity in ("speed", "flow"):
        base, after = (getattr(change, f"{quantity}_{end}")[steps] for end in ("base", "scn"))
        both = np.isfinite(base) & np.isfinite(after)
        counted = both | ~both.any(axis=0)  # of new and closed ones whatever is known
        before, now = _mean(base, counted | gone), _known(_mean(after, counted), gone)
        d, of = now - before, f"d_{quantity}"
        found |= {f"{quantity}_base": before, f"{quantity}_scn": now, of: d}
        if quantity == "speed":
            found["d_speed_pct"] = _percent(d, before)
        for end in ("low", "high"):
            ends = getattr(change, f"{of}_{end}")[steps]
            unsure = (both & ~np.isfinite(ends)).any(axis=0)  # some steps do not tell of all
            found[f"{of}_{end}"] = _known(_mean(ends, both), gone | unsure)
    found["tt_delta_s"] = _known(_mean(change.tt_delta_s[steps], None), gone)
    found["status"] = _category(code, STATUS)
    source = change.source[steps]
    counts = np.stack([(source == number).sum(axis=0) for number in range(len(SOURCES))])
    found["source"] = _category(counts.argmax(axis=0).astype(np.int8), SOURCES)
    found["significant"] = _rests_on_significant(change, steps) & ~gone
    found["closed_share"] = closed_share.astype(np.float32)
    return found


def _mean(values: FloatArray, counted: BoolArray | None) -> FloatArray:
    """Return the mean of what is known and counted, over the first axis; NaN of nothing."""
    known = np.isfinite(values) if counted is None else np.isfinite(values) & counted
    number = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0, dtype=np.float64)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan).astype(np.float32)


def _rests_on_significant(change: _Change, steps: BoolArray) -> BoolArray:
    """Tell where steps with a significant change make up at least half of all that changes."""
    sure = change.significant[steps]
    rests = np.zeros(sure.shape[1], dtype=np.bool_)
    for values in (change.d_speed, change.d_flow):
        size = np.nan_to_num(np.abs(values[steps]))
        total = size.sum(axis=0)
        rests |= (total > 0) & (2 * np.where(sure, size, 0).sum(axis=0) >= total)
    new = (change.status[steps] == _NEW).any(axis=0)  # no change to measure
    found: BoolArray = rests | (new & sure.any(axis=0))
    return found


# ---------------------------------------------------------------------------------- other tables


def _od(result: ScenarioResult) -> pd.DataFrame:
    """Return the times between zones, missing where there is no way any more."""
    given = _with_columns(result.od, _OD_RANGE)
    od = _as_numbers(given, ("trips", "tt_base_min", "tt_scn_min", *_OD_RANGE))
    away = od["is_unreachable"].to_numpy(dtype=bool)
    after = np.where(away, np.nan, od["tt_scn_min"].to_numpy(dtype=float))
    named = od.assign(o=od["o"].astype(str), d=od["d"].astype(str), tt_scn_min=after)
    named["d_min"] = after - od["tt_base_min"].to_numpy(dtype=float)
    for name in _OD_RANGE:
        named[name] = named[name].where(np.isfinite(named["d_min"]))
    order = [name for name in named if name not in ("d_min", *_OD_RANGE, "is_unreachable")]
    return _with_run(result, named[[*order, "d_min", *_OD_RANGE, "is_unreachable"]])


def _with_columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return a table with some columns, those that it lacks without values."""
    return table.assign(**{name: np.nan for name in names if name not in table})


def _edits(result: ScenarioResult) -> gpd.GeoDataFrame:
    """Return what the operations do, a row per operation and segment."""
    renamed = result.edits.reset_index(drop=True).rename(
        columns={"from": "valid_from", "to": "valid_to"}
    )
    table = _with_run(result, pd.DataFrame(renamed[list(_EDIT)]))
    for name in ("valid_from", "valid_to"):
        table[name] = pd.to_datetime(table[name], utc=True).dt.as_unit("us")
    geometry = renamed.geometry.to_numpy()
    return gpd.GeoDataFrame(table, geometry=geometry, crs=result.edits.crs)


def _access(result: ScenarioResult) -> pd.DataFrame:
    """Return a row per zone, period and measure, such as jobs within 15 minutes."""
    access = result.access.reset_index(drop=True)
    names = [str(name).removesuffix("_base") for name in access if str(name).endswith("_base")]
    access = _with_columns(access, [f"{name}_{end}" for name in names for end in _ENDS])
    parts = [
        pd.DataFrame(
            {
                "zone": access["zone"].astype(str),
                "period": access["period"].astype(str),
                "measure": name,
                "base": access[f"{name}_base"].astype(float),
                "scenario": access[f"{name}_scn"].astype(float),
                "change": access[f"{name}_scn"].astype(float)
                - access[f"{name}_base"].astype(float),
                "low": access[f"{name}_low"].astype(float),
                "high": access[f"{name}_high"].astype(float),
            }
        )
        for name in names
    ]
    columns = ["zone", "period", "measure", *_NUMBERS]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return _with_run(result, _as_numbers(rows, _NUMBERS))


def _isochrones(result: ScenarioResult, crs: Any) -> gpd.GeoDataFrame:
    """Return the areas within reach, of all zones the long times first: short ones lie on top."""
    areas = result.isochrones
    if areas is not None:
        areas = areas.sort_values("minutes", ascending=False, kind="stable")
    given = pd.DataFrame(columns=list(_AREA)) if areas is None else pd.DataFrame(areas[list(_AREA)])
    rows = given.astype(dict.fromkeys(("zone", "period", "network"), str))
    shapes = gpd.GeoSeries([], crs=4326) if areas is None else areas.geometry
    table = _with_run(result, _as_numbers(rows, ("minutes", "street_km", "area_km2")))
    shapes = shapes if crs is None else shapes.to_crs(crs)  # as the segments, in one file
    return gpd.GeoDataFrame(table, geometry=shapes.to_numpy(), crs=crs)


def _as_numbers(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table whose columns are numbers, even where it is empty or has None."""
    return table.reset_index(drop=True).astype(dict.fromkeys(columns, np.float64))


def _with_run(result: ScenarioResult, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the run's id before all other columns."""
    whole = table.copy(deep=False)
    whole.insert(0, "run_id", result.run_id)
    return whole
