"""Errors per node and horizon in the database, and the layer that shows them."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from psycopg import sql
from stgraph_connectors.postgis.evaluations import publish_evaluation
from stgraph_connectors.postgis.observations import publish_observations
from stgraph_connectors.postgis.schema import init_schema

from stgraph.errors import DataError, OutputError
from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis

IDS = ["a", 'b"; --', "日本'%s{}"]
ROWS = (
    "SELECT e.model, f.name, n.id, e.horizon, e.mae, e.n FROM {schema}.evaluation e "
    "JOIN {schema}.node n USING (node_id) JOIN {schema}.feature f USING (feature_id) "
    "ORDER BY 1, 2, e.node_id, e.horizon"
)
LAYER = "SELECT node_id, model, feature, mae FROM {schema}.error_by_node ORDER BY fid"


def query(dsn: str, text: str, schema: str = "stgraph") -> list[tuple[Any, ...]]:
    """Return the rows of a query on a schema."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        statement = sql.SQL(text).format(schema=sql.Identifier(schema))  # type: ignore[arg-type]
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def readings(ids: list[Any] = IDS) -> STGraph:
    """One instant of two quantities."""
    return STGraph(
        nodes=gpd.GeoDataFrame(
            index=pd.Index(ids),
            geometry=[shapely.LineString([(i, 0), (i, 1)]) for i in range(len(ids))],
            crs=4326,
        ),
        time=pd.DatetimeIndex(["2024-03-01T00:00Z"]),
        values=np.ones((1, len(ids), 2), dtype=np.float32),
        features=(Feature("speed", "km/h"), Feature("flow", "veh/h")),
    )


def errors(**columns: list[Any]) -> pd.DataFrame:
    """A table of errors, all of it overall unless there is a horizon."""
    return pd.DataFrame({"node": IDS, **columns})


@pytest.fixture
def dsn(database: str) -> str:
    """A database that knows three segments and two quantities."""
    init_schema(database)
    publish_observations(readings(), database)
    return database


def test_rows_and_layer(dsn: str) -> None:
    """Every row is kept; the layer has those over all horizons, typed and with units."""
    table = pd.DataFrame(
        {
            "node": ["a", "a", "a", IDS[1]],
            "horizon": [0, 1, 12, 0],
            "mae": [2.5, 2.0, 3.0, float("nan")],
            "skill_percent": [10.0, 8.0, -1.0, float("inf")],
            "n": [24, 12, 12, 0],
        }
    )
    done = publish_evaluation(table, dsn, model="gcn_lstm", feature="speed")
    assert (done.n_rows, done.n_changed, done.layers_built) == (4, 4, ("error_by_node",))
    assert query(dsn, ROWS) == [
        ("gcn_lstm", "speed", "a", 0, 2.5, 24),
        ("gcn_lstm", "speed", "a", 1, 2.0, 12),
        ("gcn_lstm", "speed", "a", 12, 3.0, 12),
        ("gcn_lstm", "speed", IDS[1], 0, None, 0),
    ]
    assert query(dsn, "SELECT * FROM {schema}.error_by_node ORDER BY fid")[1][:-1] == (
        *(2, IDS[1], "gcn_lstm", "speed", None, None, 0),
    )
    comments = query(
        dsn,
        "SELECT attname::text, col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = '{schema}.error_by_node'::regclass AND attnum > 0",
    )
    assert dict(comments)["mae"] == "Mean absolute error of the median (km/h)"
    assert dict(comments)["skill_percent"].endswith("(%)")
    assert all(text for _, text in comments)
    kind = "SELECT type, srid FROM public.geometry_columns WHERE f_table_name = 'error_by_node'"
    assert query(dsn, kind) == [("LINESTRING", 4326)]
    styles = "SELECT stylename FROM public.layer_styles WHERE f_table_name = 'error_by_node'"
    assert query(dsn, styles + " AND useasdefault") == [("MAE (km/h)",)]


def test_twice_is_once(dsn: str) -> None:
    """The same errors again are the very same rows; others take their place, none is left."""
    table = errors(mae=[1.0, float("nan"), 3.0], n=[5, 0, 5])
    publish_evaluation(table, dsn, model="m", feature="speed")
    versions = query(dsn, "SELECT xmin::text, mae, evaluated_at FROM {schema}.evaluation")
    done = publish_evaluation(table, dsn, model="m", feature="speed")
    assert (done.n_changed, done.layers_built) == (0, ())
    assert query(dsn, "SELECT xmin::text, mae, evaluated_at FROM {schema}.evaluation") == versions
    done = publish_evaluation(table[:2].assign(mae=[1.0, 7.0]), dsn, model="m", feature="speed")
    assert done.n_changed == 1
    assert [row[4] for row in query(dsn, ROWS)] == [1, 7]
    assert query(dsn, LAYER) == [("a", "m", "speed", 1), (IDS[1], "m", "speed", 7)]


def test_models_and_quantities_are_kept_apart(dsn: str) -> None:
    """The layer shows what was published last."""
    for model, feature, mae in (("m", "speed", 1.0), ("Ü'\"%s", "speed", 2.0), ("m", "flow", 3.0)):
        publish_evaluation(errors(mae=[mae] * 3), dsn, model=model, feature=feature)
    assert {(row[0], row[1], row[4]) for row in query(dsn, ROWS)} == {
        ("m", "speed", 1),
        ("Ü'\"%s", "speed", 2),
        ("m", "flow", 3),
    }
    assert query(dsn, LAYER) == [(node, "m", "flow", 3) for node in IDS]


def test_without_overall_rows_there_is_no_layer(dsn: str) -> None:
    """Horizons alone go into the table only."""
    done = publish_evaluation(
        errors(horizon=[1, 2, 3], mae=[1, 2, 3]), dsn, model="m", feature="speed"
    )
    assert (done.n_rows, done.layers_built) == (3, ())
    assert "error_by_node" not in query(dsn, "SELECT layers FROM {schema}.dataset")[0][0]


def test_integer_ids_and_nodes_in_the_index(database: str) -> None:
    """The table that an evaluation gives is taken as it is, in a schema of any name."""
    other = 'Bö"; x'
    init_schema(database, schema=other)
    publish_observations(readings([7, 8]), database, schema=other)
    index = pd.MultiIndex.from_product([[7, 8], [0, 1]], names=["node", "horizon"])
    table = pd.DataFrame({"mae": [1.0, 2.0, 3.0, 4.0]}, index=index)
    publish_evaluation(table, database, schema=other, model="m", feature="flow")
    assert [row[2:5] for row in query(database, ROWS, other)] == [
        ("7", 0, 1),
        ("7", 1, 2),
        ("8", 0, 3),
        ("8", 1, 4),
    ]


def test_an_error_leaves_the_earlier_errors(dsn: str) -> None:
    """Table and layer are one transaction."""
    publish_evaluation(errors(mae=[1.0, 2.0, 3.0]), dsn, model="m", feature="speed")
    before = query(dsn, ROWS), query(dsn, LAYER)
    query(dsn, "ALTER TABLE {schema}.error_by_node ADD CHECK (mae < 5)")
    with pytest.raises(OutputError, match="nothing was written"):
        publish_evaluation(errors(mae=[4.0, 5.0, 6.0]), dsn, model="m", feature="speed")
    assert (query(dsn, ROWS), query(dsn, LAYER)) == before


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (errors(mae=[1.0] * 3).replace({"node": {"a": "zz"}}), r"has no nodes \['zz'\]"),
        (errors(mae=[1.0] * 3).replace({"node": {"a": "z\x00"}}), "has no nodes"),
        (errors(mea=[1.0] * 3), "did you mean 'mae'"),
        (errors(), "give `node`, `horizon` and any"),
        (pd.DataFrame({"mae": [1.0]}), "give `node`, `horizon` and any"),
        (pd.DataFrame({"node": ["a", "a"], "mae": [1.0, 2.0]}), "'a' has two rows for horizon 0"),
        (errors(horizon=[0, 1.5, 2], mae=[1.0] * 3), "horizon 1.5 is no number of steps"),
        (errors(horizon=[0, -1, 2], mae=[1.0] * 3), "horizon -1 is no number of steps"),
        (errors(mae=["x", 1.0, 2.0]), "column 'mae' holds no numbers"),
    ],
)
def test_bad_tables(dsn: str, table: pd.DataFrame, message: str) -> None:
    """What is wrong is said before anything is written."""
    with pytest.raises(DataError, match=message):
        publish_evaluation(table, dsn, model="m", feature="speed")
    assert query(dsn, ROWS) == []


def test_unknown_features_and_models(dsn: str) -> None:
    """A misspelt quantity is told with the known ones."""
    with pytest.raises(DataError, match="did you mean 'speed'"):
        publish_evaluation(errors(mae=[1] * 3), dsn, model="m", feature="sped")
    with pytest.raises(DataError, match="give the name of the model"):
        publish_evaluation(errors(mae=[1] * 3), dsn, model="", feature="speed")
