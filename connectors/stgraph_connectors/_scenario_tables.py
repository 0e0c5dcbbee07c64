"""What the tables of a scenario look like when they come to a sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd

from stgraph.errors import InputError
from stgraph.report import Report

Kind = Literal["text", "real", "integer", "boolean", "time", "json", "shape"]

_CHANGE = (
    "speed_base", "speed_scn", "d_speed", "d_speed_pct", "d_speed_low", "d_speed_high",
    "flow_base", "flow_scn", "d_flow", "d_flow_low", "d_flow_high", "tt_delta_s",
    "status", "source", "significant",
)  # fmt: skip
_ROAD = ("segment_id", "name", "road_class", "length_m", "is_two_way")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "scenario": (
        "run_id", "name", "script", "method", "created", "baseline", "zone", "valid_from",
        "valid_to", "step_s", "n_segments", "card", "findings",
    ),
    "scenario_segment": ("run_id", *_ROAD, "geometry"),
    "scenario_link": ("run_id", "segment_id", "ts", *_CHANGE),
    "scenario_link_peak": ("run_id", *_ROAD, "period", *_CHANGE, "closed_share", "geometry"),
    "scenario_od": (
        "run_id", "o", "d", "period", "trips", "tt_base_min", "tt_scn_min", "d_min",
        "d_min_low", "d_min_high", "is_unreachable",
    ),
    "scenario_edit": (
        "run_id", "operation", "op", "label", "segment_id", "status", "valid_from", "valid_to",
        "geometry",
    ),
    "scenario_summary": (
        "run_id", "metric", "unit", "base", "scenario", "change", "low", "high",
    ),
    "scenario_access": (
        "run_id", "zone", "period", "measure", "base", "scenario", "change", "low", "high",
    ),
    "scenario_isochrone": (
        "run_id", "zone", "period", "network", "minutes", "street_km", "area_km2", "geometry",
    ),
}  # fmt: skip
_KINDS: Mapping[Kind, tuple[str, ...]] = {
    "integer": ("segment_id", "operation", "n_segments"),
    "boolean": ("significant", "is_two_way", "is_unreachable"),
    "time": ("ts", "created", "valid_from", "valid_to"),
    "json": ("card", "findings"),
    "shape": ("geometry",),  # lines; areas of `scenario_isochrone`
    "text": (
        "run_id", "name", "script", "method", "baseline", "zone", "road_class", "status",
        "source", "period", "network", "o", "d", "op", "label", "metric", "unit", "measure",
    ),
}  # fmt: skip


# in the order of the words that the database's view knows them by
STATUS = ("normal", "closed", "new", "changed", "removed")
SOURCES = ("forecast", "assignment", "learned", "simulated", "diversion")
CHANGES = _CHANGE[:-3]  # numbers


def kind_of(column: str) -> Kind:
    """Return what a column of a scenario's table holds; most are numbers."""
    return next((kind for kind, names in _KINDS.items() if column in names), "real")


def check_tables(tables: Mapping[str, pd.DataFrame]) -> None:
    """Refuse tables that are no scenario's, or of several runs at once.

    Raises
    ------
    InputError
        Lists every table and column that is missing.
    """
    report = Report()
    for name, columns in COLUMNS.items():
        if name not in tables:
            report.error(f"`{name}`", "is missing", "pass what stgraph.scenario.tables returns")
            continue
        missing = [c for c in columns if c not in tables[name]]
        if missing:
            report.error(f"`{name}`", f"has no columns {missing}", "pass the table as it was made")
        if "geometry" in columns and not isinstance(tables[name], gpd.GeoDataFrame):
            report.error(f"`{name}`", "has no geometry", "pass a GeoDataFrame")
    report.raise_errors(InputError, title="not the tables of a scenario")
    runs = {str(run) for name in COLUMNS for run in tables[name]["run_id"].unique()}
    if len(tables["scenario"]) != 1 or len(runs) != 1:
        raise InputError(
            f"the tables are about the runs {sorted(runs)[:5]}; write one after the other"
        )


def changing_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return all rows of `scenario_link` of the segments that matter at any time.

    Their change is significant, or they are closed, new or changed.
    """
    matters = table["significant"].to_numpy(dtype=bool) | (table["status"] != "normal").to_numpy()
    numbers, ids = pd.factorize(table["segment_id"])
    kept = np.zeros(len(ids), dtype=bool)
    kept[numbers[matters]] = True
    return table[kept[numbers]]
