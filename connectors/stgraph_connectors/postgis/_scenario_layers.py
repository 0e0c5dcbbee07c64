"""The layers of scenarios in a QGIS project."""

from __future__ import annotations

import pandas as pd
import psycopg

from stgraph_connectors.postgis.connect import Connection, execute, qualified

SCENARIO = {  # title of each layer, from the top one down
    "scenario_edit": "What changes",
    "scenario_link_peak": "Effects by part of the day",
    "scenario_link": "Effects step by step",
}


def scenario_layers(connection: Connection, schema: str) -> tuple[str, ...]:
    """Return the names of the layers if there is a run to show that we may see."""
    try:
        with connection.transaction():
            query = "SELECT 1 FROM {} WHERE is_current"
            row = execute(connection, query, qualified(schema, "scenario")).fetchone()
    except psycopg.ProgrammingError:  # tables of version 1, or no right
        return ()
    return () if row is None else tuple(SCENARIO)


def scenario_span(
    connection: Connection, schema: str
) -> tuple[pd.Timestamp, pd.Timestamp, pd.Timedelta] | None:
    """Return beginning, end and step of the run that is shown."""
    query = "SELECT valid_from, valid_to, step_s FROM {} WHERE is_current"
    row = execute(connection, query, qualified(schema, "scenario")).fetchone()
    if row is None or row[2] <= 0:
        return None
    return pd.Timestamp(row[0]), pd.Timestamp(row[1]), pd.Timedelta(seconds=row[2])
