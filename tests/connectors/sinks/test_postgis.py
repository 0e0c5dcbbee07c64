"""The sink `postgis`: a forecast with its readings and errors, or readings alone."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import psycopg
import pytest
from psycopg import sql
from stgraph_connectors.postgis.schema import init_schema
from stgraph_connectors.sinks.postgis import write_postgis
from stgraph_connectors.styles import classify_feature

from stgraph import read_forecast, registry
from stgraph.config import HeadConfig
from stgraph.errors import DataError, InputError
from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis

TABLES = ("node", "edge", "feature", "forecast", "observation", "observation_time", "evaluation")
LAYERS = ("forecast_latest", "observation_latest", "support", "error_by_node")


def query(dsn: str, text: str, *names: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query; `names` are a schema and what is in it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        statement = sql.SQL(text).format(*map(sql.Identifier, names))  # type: ignore[arg-type]
        return connection.execute(statement).fetchall()


def count(dsn: str, schema: str = "stgraph") -> dict[str, int]:
    """Return how many rows the tables and layers have."""
    found = query(dsn, "SELECT layers FROM {}.dataset", schema)[0][0]
    names = [*TABLES, *(name for name in LAYERS if name in found)]
    return {name: query(dsn, "SELECT count(*) FROM {}.{}", schema, name)[0][0] for name in names}


@pytest.fixture
def readings(forecast: STGraph) -> STGraph:
    """The last three readings before the forecast, one missing; no edges, as they are read."""
    values = forecast.values[:, :, :1] - 10
    values[2, 3] = float("nan")
    return forecast.replace(
        edge_index=None,
        edge_weight=None,
        time=forecast.time - pd.Timedelta("15min"),
        values=values,
        mask=None,
        features=forecast.features[:1],
        provenance={},
    )


@pytest.fixture
def metrics() -> pd.DataFrame:
    """Errors per node, over all horizons and at the first."""
    index = pd.MultiIndex.from_product([list("abcd"), [0, 1]])  # without names
    return pd.DataFrame({"mae": range(8), "skill_percent": 10.0, "n": 5}, index=index)


def test_a_forecast_with_all_that_belongs_to_it(
    database: str, forecast: STGraph, readings: STGraph, metrics: pd.DataFrame
) -> None:
    """Everything a job knows is in the database, and all four layers are there."""
    init_schema(database)
    done = write_postgis(
        forecast,
        database,
        node_metrics=metrics,
        observations=readings,
        config={"train": {"max_epochs": 3}},
    )
    assert done.forecast is not None
    assert done.forecast.is_current
    assert done.observations is not None
    assert done.observations.n_added == 11
    assert done.evaluation is not None
    assert (done.evaluation.model, done.evaluation.feature) == ("gcn_lstm", "speed")
    assert count(database) == {
        "node": 4,
        "edge": 3,
        "feature": 1,
        "forecast": 4,
        "observation": 11,
        "observation_time": 3,
        "evaluation": 8,
        "forecast_latest": 12,
        "observation_latest": 4,
        "support": 4,
        "error_by_node": 4,
    }
    config = query(database, "SELECT config FROM {}.run", "stgraph")
    assert config == [({"train": {"max_epochs": 3}},)]
    errors = query(database, "SELECT node_id, mae FROM {}.error_by_node ORDER BY fid", "stgraph")
    assert errors == [("a", 0), ("b", 2), ("c", 4), ("d", 6)]
    series = query(
        database,
        "SELECT observed, forecast FROM {}.node_series('d', '2024-03-01T06:50Z', "
        "'2024-03-01T07:05Z')",
        "stgraph",
    )
    assert series == [(23, None), (None, 23), (None, 33)]


def test_twice_is_once(
    database: str, forecast: STGraph, readings: STGraph, metrics: pd.DataFrame
) -> None:
    """A repeated job doubles nothing and says that nothing was new."""
    init_schema(database)
    options: dict[str, Any] = {"node_metrics": metrics, "observations": readings}
    write_postgis(forecast, database, **options)
    before = count(database)
    done = write_postgis(forecast, database, **options)
    assert count(database) == before
    assert done.forecast is not None
    assert not done.forecast.is_new
    assert done.observations is not None
    assert (done.observations.n_added, done.observations.layers_built) == (0, ())
    assert done.evaluation is not None
    assert done.evaluation.n_changed == 0


def test_readings_alone(database: str, readings: STGraph) -> None:
    """A graph that is no forecast becomes observations, in the schema asked for."""
    init_schema(database, schema="other")
    done = write_postgis(readings, database, schema="other")
    assert (done.forecast, done.evaluation) == (None, None)
    assert count(database, "other")["observation"] == 11
    with pytest.raises(InputError, match="go with a forecast"):
        write_postgis(readings, database, observations=readings)


def test_lines_polygons_and_missing_shapes(database: str, shaped: STGraph) -> None:
    """Each geometry that one layer can hold; mixed ones are refused with a reason."""
    init_schema(database)
    kinds = set(shaped.nodes.geometry.geom_type.dropna())
    if kinds == {"Point", "LineString", "Polygon"}:
        with pytest.raises(DataError, match="one layer has one kind of geometry"):
            write_postgis(shaped, database)
        return
    metrics = pd.DataFrame({"mae": [1.0, 2.0]}, index=[7, 9])
    readings = shaped.replace(provenance={}, time=shaped.time - pd.Timedelta("15min"))
    write_postgis(shaped, database, node_metrics=metrics, observations=readings)
    rows = count(database)
    assert (rows["forecast_latest"], rows["observation_latest"], rows["support"]) == (9, 3, 3)
    errors = query(database, "SELECT node_id, mae FROM {}.error_by_node ORDER BY fid", "stgraph")
    assert errors == [("7", 1), ("9", 2)]


def test_nothing_is_written_when_something_does_not_fit(
    database: str, forecast: STGraph, readings: STGraph
) -> None:
    """Metrics and readings are checked before the forecast is published."""
    init_schema(database)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"node_metrics": pd.DataFrame({"mae": [1.0]}, index=["zz"])}, "unknown nodes"),
        ({"node_metrics": pd.DataFrame({"mea": [1.0]}, index=["a"])}, "did you mean 'mae'"),
        ({"observations": forecast}, "publish_forecast"),
        ({"observations": readings.select_steps(0, 0)}, "no readings"),
    ]
    for options, message in bad:
        with pytest.raises(InputError, match=message):
            write_postgis(forecast, database, **options)
    assert set(count(database).values()) == {0}


def test_an_older_forecast_does_not_become_current(database: str, forecast: STGraph) -> None:
    """Unless it is asked for."""
    init_schema(database)
    write_postgis(forecast, database)
    hour = pd.Timedelta("1h")
    issued_at = pd.Timestamp(forecast.provenance["issued_at"]) - hour
    provenance = {**forecast.provenance, "issued_at": issued_at.isoformat()}
    older = forecast.replace(time=forecast.time - hour, provenance=provenance)
    done = write_postgis(older, database)
    assert done.forecast is not None
    assert not done.forecast.is_current
    done = write_postgis(older, database, current=True)
    assert done.forecast is not None
    assert done.forecast.is_current


def test_it_is_registered() -> None:
    """A job writes `sink = "postgis"`, and its second parameter tells that it wants a DSN."""
    assert registry.load("sinks", "postgis") is write_postgis


def test_classes_are_those_of_the_readings(
    database: str, forecast: STGraph, readings: STGraph
) -> None:
    """A quiet night's forecast is drawn with the classes of the days, like the readings are."""
    init_schema(database)
    day = readings.replace(values=readings.values + 40, mask=None)
    write_postgis(forecast, database, observations=day)
    text = "SELECT styleqml::text FROM public.layer_styles WHERE f_table_name = {} AND useasdefault"
    with psycopg.connect(database) as connection:
        limits = [
            [part.get("upper") for part in ET.fromstring(row[0]).iter("range")]
            for layer in ("forecast_latest", "observation_latest")
            for row in connection.execute(sql.SQL(text).format(sql.Literal(layer))).fetchall()
        ]
    assert limits[0][1:] == limits[1][1:] == [repr(x) for x in classify_feature(day).limits[1:]]
    assert limits[0] != [repr(x) for x in classify_feature(forecast).limits[1:]]


@pytest.mark.parametrize("kind", ["classes", "nineteen quantiles", "gaussian"])
def test_what_other_heads_forecast(
    database: str, forecast: STGraph, readings: STGraph, kind: str
) -> None:
    """Classes, many quantiles and standard deviations come back as they were written."""
    head = {
        "classes": HeadConfig(kind="classes", edges=(20, 40)),
        "nineteen quantiles": HeadConfig(levels=tuple(k / 20 for k in range(1, 20))),
        "gaussian": HeadConfig(kind="gaussian"),
    }[kind]
    n_steps, n_nodes = forecast.values.shape[:2]
    shape = (n_steps, n_nodes, len(head.suffixes))
    made = forecast.replace(
        values=np.arange(np.prod(shape), dtype=np.float32).reshape(shape),
        mask=None,
        features=tuple(Feature("speed" + end, "km/h") for end in head.suffixes),
    )
    init_schema(database)
    write_postgis(made, database, observations=readings)
    again = read_forecast(database)
    assert set(again.feature_names) == set(made.feature_names)
    at = [again.feature_names.index(name) for name in made.feature_names]
    np.testing.assert_allclose(again.values[..., at], made.values, rtol=1e-6)
