"""Write scenarios into a GeoPackage that QGIS opens styled: several runs in one file."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import pandas as pd
import pyogrio

from stgraph.errors import InputError
from stgraph_connectors._scenario_styles import (
    ALIASES,
    AREA_ALIASES,
    Side,
    area_styles,
    edit_styles,
    link_styles,
    peak_styles,
)
from stgraph_connectors._scenario_tables import COLUMNS, Kind, changing_rows, check_tables, kind_of
from stgraph_connectors.qgis import LayerView, build_metadata_xml, build_plain_qml
from stgraph_connectors.sinks import _gpkg, _scenario_links
from stgraph_connectors.sinks._files import check_target, existing_file, written_aside
from stgraph_connectors.sinks._layer_styles import NamedStyle

logger = logging.getLogger(__name__)

Links = Literal["auto", "all", "changed", "none"]

_SEGMENT, _PEAK, _EDIT, _LINK, _AREA = (
    "scenario_segment",
    "scenario_link_peak",
    "scenario_edit",
    _scenario_links.LAYER,
    "scenario_isochrone",  # only in files with a run that asked for areas
)
_LAYERS = {
    _PEAK: "What a scenario changes on every segment, by part of the day",
    _EDIT: "What the operations of a scenario do, by segment",
    _SEGMENT: "The road segments of a scenario",
    _AREA: "Areas within reach of zones, with and without a scenario",
}
_PLAIN = {
    "scenario": "Runs: what was asked, how it was computed, what it rests on",
    "scenario_od": "Travel times between zones",
    "scenario_summary": "Numbers of the whole network",
    "scenario_access": "What can be reached from the zones",
}
_TYPES: Mapping[Kind, str] = {
    "text": "TEXT",
    "json": "TEXT",
    "time": "DATETIME",
    "real": "REAL",
    "integer": "INTEGER",
    "boolean": "BOOLEAN",
}
_FEW_ROWS = 1_000_000  # of `scenario_link`: some 100 MB
_TRIGGER_FUNCTIONS = ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY")


def write_scenario_geopackage(
    tables: Mapping[str, pd.DataFrame],
    target: str | Path,
    *,
    links: Links = "auto",
    side: Side = "right",
    append: bool = True,
) -> Path:
    """Write the tables of a scenario as a GeoPackage whose layers arrive in QGIS styled.

    `scenario_link_peak` has a row per segment and part of the day, `scenario_edit` what the
    operations do, and `scenario_link` a row per segment and step for the temporal controller.
    Every table has a column `run_id`; the layers show the run that was written last, or the one
    that the user filters by.

    Parameters
    ----------
    tables
        What `stgraph.scenario.tables.tables` returns: name to table.
    target
        A ``.gpkg`` file; it appears, or changes, as a whole or not at all.
    links
        Rows of `scenario_link`: ``all``; ``changed``, those of segments whose change is
        significant at any time or that are closed, new or changed; ``none``; or ``auto``, all
        unless there are more than a million.
    side
        On which side people drive: the two directions of a street are drawn on theirs.
    append
        Keep the other runs that the file has; the same run is replaced. False: write a new file.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    InputError
        Tables are missing or have other columns, the path is no ``.gpkg`` file, or it holds
        something else.
    OutputError
        The file could not be written; what was there before still is.
    """
    if links not in ("auto", "all", "changed", "none"):
        raise InputError(f"`links` is {links!r}; use 'auto', 'all', 'changed' or 'none'")
    if side not in ("right", "left"):
        raise InputError(f"`side` is {side!r}; use 'right' or 'left'")
    check_tables(tables)
    run = tables["scenario"].iloc[0]
    rows = _chosen(tables["scenario_link"], links)
    existing = check_target(target, suffixes=(".gpkg",), overwrite=True)
    with written_aside(target, suffixes=(".gpkg",)) as path:
        is_new = not (append and existing.exists())
        if not is_new:
            _copy(existing, path, str(target))
            with closing(_open(path)) as db, db:
                _forget(db, str(run["run_id"]))
        crs = None if is_new else pyogrio.read_info(path, layer=_SEGMENT)["crs"]
        _write_layers(path, tables, crs)
        with closing(_open(path)) as db, db:
            if is_new:
                _gpkg.create_extras(db)
            for name in _PLAIN:
                _write_plain(db, name, tables[name])
            _scenario_links.add_links(db, rows, run, layer=_SEGMENT)
            _point_at(db, str(run["run_id"]))
            _add_styles(db, pd.Timedelta(seconds=float(run["step_s"])), side)
            db.execute("ANALYZE")
    return Path(target)


def remove_scenarios(
    target: str | Path,
    *,
    runs: tuple[str, ...] = (),
    keep: pd.Timedelta | None = None,
    now: pd.Timestamp | None = None,
) -> tuple[str, ...]:
    """Remove runs of scenarios from a GeoPackage by name, or those made too long ago.

    Parameters
    ----------
    target
        A ``.gpkg`` file of `write_scenario_geopackage`; it changes as a whole or not at all.
        If no run goes, it is not touched.
    runs
        Ids of runs to remove. If the one that the layers show is among them, they show the newest
        of the others.
    keep
        Also remove runs made longer ago than this, but not the one that is shown. None: no others.
    now
        The instant to count from. None: that of the call.

    Returns
    -------
    tuple[str, ...]
        The runs that went, oldest first.

    Raises
    ------
    InputError
        There is no such file, or it holds something else.
    OutputError
        The file could not be written; what was there before still is.
    """
    existing = existing_file(target)
    instant = pd.Timestamp.now("UTC") if now is None else now
    oldest = None
    if keep is not None:
        (oldest,) = _scenario_links.instants(pd.DatetimeIndex([instant - keep]))
    with closing(_gpkg.open_to_read(existing)) as db:
        _check_is_ours(db, str(target))
        try:
            is_wanted = any(goes for _, _, goes in _runs(db, runs, oldest))
        except sqlite3.Error as error:
            raise InputError(f"cannot read {str(target)!r}: {error}; check the file") from error
    if not is_wanted:
        return ()
    with written_aside(target, suffixes=(".gpkg",)) as path:
        _copy(existing, path, str(target))
        with closing(_open(path)) as db, db:
            found = _runs(db, runs, oldest)
            gone = [run for run, _, goes in found if goes]
            for run in gone:
                _forget(db, run)
            left = [run for run, _, goes in found if not goes]
            if left and any(shown for _, shown, goes in found if goes):
                _point_at(db, left[-1])
            _scenario_links.count_links(db, _SEGMENT)
        with closing(_open(path)) as db:
            db.execute("VACUUM")
    return tuple(gone)


def _runs(
    db: sqlite3.Connection, named: tuple[str, ...], oldest: str | None
) -> list[tuple[str, bool, bool]]:
    """Return the runs, oldest first: whether each is shown, and whether it is to go."""
    query = "SELECT run_id, created, is_current FROM scenario ORDER BY created, fid"
    return [
        (
            run,
            bool(shown),
            run in named or bool(oldest and created and created < oldest and not shown),
        )
        for run, created, shown in db.execute(query)
    ]


def _chosen(table: pd.DataFrame, links: Links) -> pd.DataFrame:
    """Return the rows of `scenario_link` that are kept."""
    if links == "all" or (links == "auto" and len(table) <= _FEW_ROWS):
        return table
    if links == "none":
        return table.iloc[:0]
    chosen = changing_rows(table)
    if links == "auto":
        logger.info(
            "scenario_link keeps the %d of %d segments that change: %d rows of %d (links='all' "
            "keeps all)",
            chosen["segment_id"].nunique(),
            table["segment_id"].nunique(),
            len(chosen),
            len(table),
        )
    return chosen


# --------------------------------------------------------------------------------------- the file


def _open(path: Path) -> sqlite3.Connection:
    """Return a connection that can change rows of layers: their triggers want some functions."""
    db = _gpkg.open_for_bulk(path)
    for name in _TRIGGER_FUNCTIONS:
        db.create_function(name, 1, lambda _: None)  # called only where a geometry changes
    return db


def _copy(existing: Path, path: Path, shown: str) -> None:
    """Copy a file of scenarios, as it is in this moment."""
    with closing(_gpkg.open_to_read(existing)) as source, closing(sqlite3.connect(path)) as copy:
        _check_is_ours(source, shown)
        source.backup(copy)


def _check_is_ours(db: sqlite3.Connection, shown: str) -> None:
    """Refuse a file that holds something else."""
    try:
        known = {name for (name,) in db.execute("SELECT table_name FROM gpkg_contents")}
    except sqlite3.DatabaseError:
        known = set()
    if not {"scenario", _SEGMENT, _PEAK} <= known:
        raise InputError(
            f"{shown!r} is there and holds no scenarios; write to another file, or pass "
            "append=False to replace it"
        )


def _forget(db: sqlite3.Connection, run_id: str) -> None:
    """Remove what is there of a run."""
    _scenario_links.remove_links(db, run_id)
    for name in _there(db, (*_LAYERS, *_PLAIN)):
        db.execute(f"DELETE FROM {_gpkg.quoted(name)} WHERE run_id = ?", (run_id,))  # noqa: S608


def _there(db: sqlite3.Connection, names: Iterable[str]) -> list[str]:
    """Return those of some tables that a file has."""
    known = {name for (name,) in db.execute("SELECT table_name FROM gpkg_contents")}
    return [name for name in names if name in known]


def _write_layers(path: Path, tables: Mapping[str, pd.DataFrame], crs: str | None) -> None:
    """Add the rows with geometry, with GDAL, in the file's reference system."""
    for name, description in _LAYERS.items():
        if name == _AREA and not len(tables[name]):
            continue
        frame = gpd.GeoDataFrame(tables[name])[list(COLUMNS[name])]
        frame = frame if crs is None or frame.crs is None else frame.to_crs(crs)
        words = [c for c in frame if isinstance(frame[c].dtype, pd.CategoricalDtype)]
        plain = frame.astype(dict.fromkeys(words, object))
        if name != _SEGMENT:
            plain = plain.assign(is_current=True)
        pyogrio.write_dataframe(
            plain.rename_geometry("geom"),
            path,
            layer=name,
            driver="GPKG",
            append=path.exists() and name in {row[0] for row in pyogrio.list_layers(path)},
            geometry_type="MultiPolygon" if name == _AREA else "LineString",
            dataset_options={"VERSION": "1.3"},  # QGIS 3.22 warns about 1.4
            layer_options={"FID": "fid", "GEOMETRY_NAME": "geom", "DESCRIPTION": description},
        )


def _write_plain(db: sqlite3.Connection, name: str, table: pd.DataFrame) -> None:
    """Add the rows of a table without geometry."""
    kinds, columns = {"fid": ""}, list[list[Any]]()
    for column in COLUMNS[name]:
        kinds[column] = _TYPES[kind_of(column)]
        columns.append(_plain_values(table[column], kind_of(column)))
    if name == "scenario":
        kinds["is_current"] = "BOOLEAN"
        columns.append([True] * len(table))
    _add_missing(db, name, kinds)
    _scenario_links.add_rows(
        db, name, kinds, zip([None] * len(table), *columns, strict=True), _PLAIN[name]
    )


def _add_missing(db: sqlite3.Connection, name: str, kinds: Mapping[str, str]) -> None:
    """Add the columns that a table of an older file lacks."""
    there = {row[1] for row in db.execute(f"PRAGMA table_info({_gpkg.quoted(name)})")}
    for column in set(kinds) - there if there else ():
        db.execute(f"ALTER TABLE {_gpkg.quoted(name)} ADD COLUMN {column} {kinds[column]}")


def _plain_values(values: pd.Series[Any], kind: Kind) -> list[Any]:
    """Return values as SQLite takes them, None where there is none."""
    if kind == "time":
        return _scenario_links.instants(pd.DatetimeIndex(values))
    if kind in ("text", "json"):
        return [None if pd.isna(value) else str(value) for value in values]
    return [None if pd.isna(value) else value for value in values.tolist()]


def _point_at(db: sqlite3.Connection, run_id: str) -> None:
    """Let the layers show a run."""
    for name in _there(db, ("scenario", _PEAK, _EDIT, _AREA)):
        db.execute(
            f"UPDATE {_gpkg.quoted(name)} SET is_current = (run_id = ?) "  # noqa: S608
            "WHERE is_current <> (run_id = ?)",
            (run_id, run_id),
        )


# ----------------------------------------------------------------------------------------- styles


def _add_styles(db: sqlite3.Connection, step: pd.Timedelta, side: Side) -> None:
    """Add styles, names of columns and descriptions, unless the file has them already."""
    quiet = build_plain_qml(geometry="line", colour="#c4c8cb", view=LayerView(name_column="name"))
    styles: dict[str, list[NamedStyle]] = {
        _PEAK: peak_styles(side=side),
        _LINK: link_styles(step, side=side),
        _EDIT: edit_styles(),
        _SEGMENT: [NamedStyle("plain", quiet, is_default=True)],
        _AREA: area_styles(),
    }
    titles = {_PEAK: "Scenario: by part of the day", _LINK: "Scenario: step by step"}
    titles |= {_EDIT: "Scenario: what changes", _SEGMENT: "Scenario: segments"}
    titles |= {_AREA: "Scenario: areas within reach"}
    notes = ALIASES | AREA_ALIASES
    there = {row[0] for row in db.execute("SELECT f_table_name FROM layer_styles")}
    for layer in _there(db, styles):
        if layer in there:
            continue  # perhaps changed in QGIS
        for style in styles[layer]:
            _gpkg.add_style(db, layer, style.name, style.qml, default=style.is_default)
        columns = {row[1] for row in db.execute(f"PRAGMA table_info({_gpkg.quoted(layer)})")}
        _gpkg.add_column_notes(db, layer, {c: t for c, t in notes.items() if c in columns})
        abstract = _LAYERS.get(layer, _scenario_links.DESCRIPTION)
        metadata: dict[str, Any] = {"title": titles[layer], "abstract": abstract}
        _gpkg.add_layer_metadata(db, layer, build_metadata_xml(**metadata))
