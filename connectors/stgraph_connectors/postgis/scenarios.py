"""Publish a run of a scenario: all of its tables and layers in one transaction, or nothing."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from stgraph.errors import DataError, InputError
from stgraph_connectors._scenario_styles import (
    Side,
    area_styles,
    edit_styles,
    link_styles,
    peak_styles,
)
from stgraph_connectors._scenario_tables import (
    CHANGES,
    COLUMNS,
    SOURCES,
    STATUS,
    Kind,
    changing_rows,
    check_tables,
    kind_of,
)
from stgraph_connectors.postgis._scenario_layers import let_readers_see
from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    execute,
    qualified,
    run_transaction,
)
from stgraph_connectors.postgis.copying import copy_arrays, copy_records, instants
from stgraph_connectors.postgis.layer_styles import write_named_styles
from stgraph_connectors.postgis.publishing import as_jsonb, clean_text, take_turn
from stgraph_connectors.postgis.schema import check_schema

logger = logging.getLogger(__name__)

_SRID = 4326
_TYPES: Mapping[Kind, str] = {
    "text": "text",
    "json": "jsonb",
    "time": "timestamptz",
    "real": "float4",
    "integer": "int8",
    "boolean": "bool",
    "shape": "bytea",  # as PostGIS takes a geometry
}
_WHOLE = {"operation": "int4", "n_segments": "int4"}
_WIDE = ("scenario_summary", "scenario_access")  # numbers with more digits
# tables with a mark of the run that is shown
_SHOWN = ("scenario_link_peak", "scenario_edit", "scenario_isochrone")


@dataclass(frozen=True)
class ScenarioPublication:
    """What became of a run."""

    schema: str
    run_id: str
    n_rows: int  # of scenario_link
    seconds: float
    is_new: bool  # False: the same run was there and was replaced
    is_current: bool  # the layers show it


def write_scenario_postgis(
    tables: Mapping[str, pd.DataFrame],
    dsn: str,
    *,
    schema: str = "stgraph",
    links: Literal["all", "changed", "none"] = "all",
    side: Side = "right",
    current: bool = True,
    patience: Patience | None = None,
) -> ScenarioPublication:
    """Publish a run of a scenario; readers see all of it or what was there before.

    The layers are `scenario_link_peak` (a row per segment and part of the day), `scenario_edit`
    (what the operations do) and `scenario_link` (a view: a row per segment and step, whose key is
    `fid`). The same run again takes the place of the earlier one.

    Parameters
    ----------
    tables
        What `stgraph.scenario.tables.tables` returns: name to table.
    dsn
        libpq connection string of the schema's owner, or, once there is a run, a writer.
    schema
        The Postgres schema, made by ``stgraph db init``.
    links
        Rows of `scenario_link`: ``all``; ``changed``, those of segments whose change is
        significant at any time or that are closed, new or changed; or ``none``.
    side
        On which side people drive: the two directions of a street are drawn on theirs.
    current
        Let the layers show this run. False: they go on showing another one, if there is one.
    patience
        Timeouts and number of attempts. None means the defaults.

    Returns
    -------
    ScenarioPublication
        How many rows there are, and whether the run was new.

    Raises
    ------
    InputError
        Tables are missing or have other columns, or an option or the DSN cannot be used.
    DataError
        A line is no plain line.
    OutputError
        The database refused or was lost; what was published before is still there.
    """
    if links not in ("all", "changed", "none"):
        raise InputError(f"`links` is {links!r}; use 'all', 'changed' or 'none'")
    if side not in ("right", "left"):
        raise InputError(f"`side` is {side!r}; use 'right' or 'left'")
    check_tables(tables)
    began = time.perf_counter()
    table = tables["scenario_link"]
    rows = table if links == "all" else changing_rows(table) if links == "changed" else table[:0]
    rows = rows if rows["ts"].is_monotonic_increasing else rows.sort_values("ts", kind="stable")

    def work(connection: Connection) -> ScenarioPublication:
        return _publish(connection, schema, tables, rows, dsn=dsn, side=side, current=current)

    done = run_transaction(dsn, work, patience=patience)
    seconds = time.perf_counter() - began
    logger.info("published run %s in %.2f s: %d rows", done.run_id, seconds, done.n_rows)
    return replace(done, seconds=seconds)


def remove_scenarios(
    dsn: str,
    *,
    schema: str = "stgraph",
    runs: tuple[str, ...] = (),
    keep: pd.Timedelta | None = None,
    now: pd.Timestamp | None = None,
    patience: Patience | None = None,
) -> tuple[str, ...]:
    """Remove runs of scenarios by name, or those published too long ago, with all their rows.

    Parameters
    ----------
    dsn
        libpq connection string of the schema's owner or a writer.
    schema
        The Postgres schema.
    runs
        Ids of runs to remove, the current one too if it is among them.
    keep
        Also remove runs published longer ago than this, but not the current one. None: no others.
    now
        The instant to count from. None: the server's clock.
    patience
        Timeouts and number of attempts. None means the defaults.

    Returns
    -------
    tuple[str, ...]
        The runs that went.
    """

    def work(connection: Connection) -> tuple[str, ...]:
        check_schema(connection, schema, dsn=dsn)
        take_turn(connection, schema)
        found = execute(
            connection,
            "SELECT run_id FROM {} WHERE run_id = ANY(%s) OR (NOT is_current "
            "AND published_at < coalesce(%s, now()) - %s::interval) ORDER BY run_no",
            qualified(schema, "scenario"),
            parameters=(list(runs), now, keep),
        ).fetchall()
        for (run_id,) in found:
            _forget(connection, schema, run_id)
        return tuple(run_id for (run_id,) in found)

    return run_transaction(dsn, work, patience=patience)


# ------------------------------------------------------------------------------------- publishing


def _publish(
    connection: Connection,
    schema: str,
    tables: Mapping[str, pd.DataFrame],
    links: pd.DataFrame,
    *,
    dsn: str,
    side: Side,
    current: bool,
) -> ScenarioPublication:
    """Do all of it in the one transaction of the connection."""
    check_schema(connection, schema, dsn=dsn)
    take_turn(connection, schema)
    let_readers_see(connection, schema)
    run_id = clean_text(str(tables["scenario"]["run_id"].iloc[0]))
    was_there, was_current = _forget(connection, schema, run_id)
    for name in COLUMNS:
        if name != "scenario_link":
            _copy_table(connection, schema, name, tables[name])
    _copy_links(connection, schema, run_id, links)
    is_current = current or was_current or not _has_current(connection, schema)
    if is_current:
        _show(connection, schema, run_id)
    step = pd.Timedelta(seconds=float(tables["scenario"]["step_s"].iloc[0]))
    for layer, styles in (
        ("scenario_link_peak", peak_styles(side=side)),
        ("scenario_link", link_styles(step, side=side)),
        ("scenario_edit", edit_styles()),
        ("scenario_isochrone", area_styles()),
    ):
        write_named_styles(connection, schema, styles, layer=layer)
    return ScenarioPublication(schema, run_id, len(links), 0.0, not was_there, is_current)


def _forget(connection: Connection, schema: str, run_id: str) -> tuple[bool, bool]:
    """Remove what is there of a run; tell whether it was, and whether the layers showed it."""
    row = execute(
        connection,
        "DELETE FROM {} WHERE run_id = %s RETURNING first_fid, last_fid, is_current",
        qualified(schema, "scenario"),
        parameters=(run_id,),
    ).fetchone()  # all tables but the following go along
    if row is None:
        return False, False
    execute(
        connection,
        "DELETE FROM {} WHERE fid BETWEEN %s AND %s",
        qualified(schema, "scenario_link_value"),
        parameters=row[:2],
    )
    return True, bool(row[2])


def _has_current(connection: Connection, schema: str) -> bool:
    """Tell whether the layers show a run."""
    query = "SELECT count(*) FROM {} WHERE is_current"
    row = execute(connection, query, qualified(schema, "scenario")).fetchone()
    return row is not None and row[0] > 0


def _show(connection: Connection, schema: str, run_id: str) -> None:
    """Let the layers show a run instead of the one before."""
    for name in ("scenario", *_SHOWN):
        table = qualified(schema, name)
        execute(
            connection,
            "UPDATE {} SET is_current = false WHERE is_current AND run_id <> %s",
            table,
            parameters=(run_id,),
        )
        execute(
            connection,
            "UPDATE {} SET is_current = true WHERE NOT is_current AND run_id = %s",
            table,
            parameters=(run_id,),
        )


# ------------------------------------------------------------------------------------------ rows


def _copy_table(connection: Connection, schema: str, name: str, table: pd.DataFrame) -> None:
    """Load all rows of a table but those of `scenario_link`."""
    kinds, columns = {}, []
    for column in COLUMNS[name]:
        kind = kind_of(column)
        number = "float8" if name in _WIDE else "float4"
        stored = _WHOLE.get(column, number if kind == "real" else _TYPES[kind])
        kinds["geom" if kind == "shape" else column] = stored
        columns.append(list(_values(name, table, column, kind)))
    copy_records(connection, qualified(schema, name), kinds, zip(*columns, strict=True))


def _values(name: str, table: pd.DataFrame, column: str, kind: Kind) -> Iterator[Any]:
    """Yield values as the server takes them, None where there is none."""
    if kind == "shape":
        allowed = "MultiPolygon" if name == "scenario_isochrone" else "LineString"
        yield from _ewkb(gpd.GeoDataFrame(table).geometry, allowed)
        return
    for value in table[column].tolist():
        if pd.isna(value):
            yield None
        elif kind == "text":
            yield clean_text(str(value))
        elif kind == "json":
            yield as_jsonb(json.loads(value))
        else:
            yield value


def _ewkb(given: gpd.GeoSeries, allowed: str) -> list[bytes | None]:
    """Return shapes as PostGIS takes them, in degrees and flat."""
    shapes = (given if given.crs is None else given.to_crs(_SRID)).to_numpy()
    odd = sorted({s.geom_type for s in shapes if s is not None and s.geom_type != allowed})
    if odd and allowed == "MultiPolygon":
        raise DataError(f"areas within reach are {odd}; give every one as a MultiPolygon")
    if odd:
        raise DataError(f"segments are {odd}; give every segment one plain line")
    flat = shapely.set_srid(shapely.force_2d(shapes), _SRID)
    return [None if shape is None else shapely.to_wkb(shape, include_srid=True) for shape in flat]


def _copy_links(connection: Connection, schema: str, run_id: str, rows: pd.DataFrame) -> None:
    """Load the rows of `scenario_link` behind all others, and note which they are."""
    values = qualified(schema, "scenario_link_value")
    last = execute(connection, "SELECT coalesce(max(fid), 0) FROM {}", values).fetchone()
    first = 1 + int(last[0])  # type: ignore[index]  # an aggregate has one row
    number = execute(
        connection,
        "UPDATE {} SET first_fid = %s, last_fid = %s WHERE run_id = %s RETURNING run_no",
        qualified(schema, "scenario"),
        parameters=(first, first + len(rows) - 1, run_id),
    ).fetchone()
    known = execute(
        connection,
        "SELECT segment_id, fid FROM {} WHERE run_id = %s",
        qualified(schema, "scenario_segment"),
        parameters=(run_id,),
    ).fetchall()
    if not len(rows):
        return
    fids = pd.Series(dict(known), dtype=np.int64)
    places, unique = pd.factorize(rows["segment_id"])
    copy_arrays(
        connection,
        values,
        {
            "fid": ("bigint", np.arange(first, first + len(rows))),
            "run_no": ("integer", np.int64(number[0])),  # type: ignore[index]  # was written
            "ts": ("timestamptz", instants(pd.DatetimeIndex(rows["ts"]))),
            "segment_fid": ("bigint", fids.loc[unique].to_numpy()[places]),
            **{name: ("real", rows[name].to_numpy(dtype=np.float32)) for name in CHANGES},
            "status": ("smallint", _codes(rows["status"], STATUS)),
            "source": ("smallint", _codes(rows["source"], SOURCES)),
            "significant": ("smallint", rows["significant"].to_numpy(dtype=np.int64)),
        },
    )
    execute(connection, "ANALYZE {}", values)  # who does not own it gets a warning, no error


def _codes(words: pd.Series[Any], names: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return the position of each word among the known ones, from 1."""
    given = pd.Categorical(words)
    places = pd.Index(names).get_indexer(given.categories)
    if (places < 0).any() or (given.codes < 0).any():
        other = sorted({str(word) for word in words.unique()} - set(names))
        raise InputError(f"`{words.name}` has {other}; known are {list(names)}")
    found: npt.NDArray[np.int64] = places[given.codes].astype(np.int64) + 1
    return found
