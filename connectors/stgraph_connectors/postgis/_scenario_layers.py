"""The tables of scenarios: who may read them, and what of them is in a QGIS project."""

from __future__ import annotations

import pandas as pd
import psycopg

from stgraph_connectors.postgis.connect import Connection, execute, qualified
from stgraph_connectors.postgis.roles import (
    acting_as_owner,
    grant_reading,
    has_roles,
    role_names,
)

SCENARIO = {  # title of each layer, from the top one down
    "scenario_edit": "What changes",
    "scenario_link_peak": "Effects by part of the day",
    "scenario_link": "Effects step by step",
    "scenario_isochrone": "Areas within reach",
}
_AREA = "scenario_isochrone"
SCENARIO_TABLES = (  # what people read
    *SCENARIO,
    "scenario",
    "scenario_segment",
    "scenario_od",
    "scenario_summary",
    "scenario_access",
)


def has_runs(connection: Connection, schema: str) -> bool:
    """Tell whether a schema, whose tables are up to date, has runs of scenarios."""
    query = "SELECT EXISTS (SELECT FROM {})"
    row = execute(connection, query, qualified(schema, "scenario")).fetchone()
    return row is not None and bool(row[0])


def is_seen(connection: Connection, schema: str) -> bool:
    """Tell whether a schema with roles has runs, or had some, whose tables readers may read."""
    return has_runs(connection, schema) or any(_rights_of_readers(connection, schema))


def let_readers_see(connection: Connection, schema: str) -> None:
    """Let the reader role, if there is one, see the first run; from then on it sees all."""
    if not has_roles(connection, schema):
        return
    if all(_rights_of_readers(connection, schema)):
        return
    with acting_as_owner(connection, schema, "letting readers see the first scenario"):
        pass  # for the message, if we may not
    grant_reading(connection, schema, SCENARIO_TABLES)


def _rights_of_readers(connection: Connection, schema: str) -> list[bool]:
    """Tell of each table that people read whether the reader role may read it."""
    names = [qualified(schema, name).as_string(connection) for name in SCENARIO_TABLES]
    query = "SELECT has_table_privilege(%s, name, 'SELECT') FROM unnest(%s::text[]) AS name"
    reader = role_names(schema)["reader"]
    return [bool(right) for (right,) in connection.execute(query, (reader, names)).fetchall()]


def scenario_layers(connection: Connection, schema: str) -> tuple[str, ...]:
    """Return the names of the layers if there is a run to show that we may see."""
    try:
        with connection.transaction():
            query = "SELECT 1 FROM {} WHERE is_current"
            row = execute(connection, query, qualified(schema, "scenario")).fetchone()
    except psycopg.ProgrammingError:  # tables of version 1, or no right
        return ()
    if row is None:
        return ()
    return tuple(name for name in SCENARIO if name != _AREA or _has_areas(connection, schema))


def _has_areas(connection: Connection, schema: str) -> bool:
    """Tell whether there are areas within reach of the run that is shown."""
    try:
        with connection.transaction():
            query = "SELECT 1 FROM {} WHERE is_current LIMIT 1"
            return execute(connection, query, qualified(schema, _AREA)).fetchone() is not None
    except psycopg.ProgrammingError:  # tables of version 2
        return False


def scenario_span(
    connection: Connection, schema: str
) -> tuple[pd.Timestamp, pd.Timestamp, pd.Timedelta] | None:
    """Return beginning, end and step of the run that is shown."""
    query = "SELECT valid_from, valid_to, step_s FROM {} WHERE is_current"
    row = execute(connection, query, qualified(schema, "scenario")).fetchone()
    if row is None or row[2] <= 0:
        return None
    return pd.Timestamp(row[0]), pd.Timestamp(row[1]), pd.Timedelta(seconds=row[2])
