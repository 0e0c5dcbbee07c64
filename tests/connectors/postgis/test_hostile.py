"""Names and contents that want to be SQL, JSON or a format: written and read as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, LiteralString

import numpy as np
import pytest
from postgis_cases import FIRST, make_forecast, query
from psycopg import sql
from stgraph_connectors.postgis.connect import connect, execute
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.observations import publish_observations
from stgraph_connectors.postgis.reading import read_forecast
from stgraph_connectors.postgis.schema import init_schema

from stgraph.errors import DataError, OutputError, STGraphError
from stgraph.graph import STGraph

pytestmark = pytest.mark.postgis

SCHEMAS = [
    'a"b',
    "it's",
    "semi;colon--",
    "back\\slash",
    "straße 道路 🚗",
    "select",
    "UPPER case",
    "100%s %(x)s %%",
    "{} {0} {schema}",
    "$$; $1 $body$ $body_$",
    "$body$ x",
    "x" * 40,
    "a.b",
    " ",
    "E'\\x41'",
    "/* comment */",
]
TEXTS = [
    "o'hara",
    'a"b',
    "'; DROP SCHEMA stgraph CASCADE; --",
    "back\\slash \\N \\. \\t",
    "tab\tnew\nline\r",
    "道路 🚗 ü e\u0301",
    "null",
    "NULL",
    "",
    " ",
    "%s %(a)s %",
    "{} {0}",
    "$1 $$",
    "{1,2}",
    "(1,2)",
    "true",
    "select",
    "x" * 5000,
    "\x01\x1f\x7f",
    "\u202ertl",
]
COLUMNS = [
    "order",
    'a"b; DROP TABLE x; --',
    "100% %s",
    "{} {0}",
    "it's \\ back",
    "道路 🚗",
    "fid",
    "geom",
    "issued_at",
    "t",
    "s",
    "y" * 70,
    "y" * 69 + "z",
    "Case",
    "case",
    "with space",
]


def rows(dsn: str, text: LiteralString, *names: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
    """Return the rows of a query with quoted names."""
    identifiers = [sql.Identifier(*name.split("\0")) for name in names]
    with connect(dsn) as connection:
        return execute(connection, text, *identifiers, parameters=parameters).fetchall()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_schema_names(module_database: str, schema: str) -> None:
    """Made twice, published, read by SQL and by us, whatever the schema is called."""
    init_schema(module_database, schema=schema)
    init_schema(module_database, schema=schema)
    for issue in range(2):
        publish_forecast(make_forecast(issue), module_database, schema=schema)
    seen = rows(
        module_database,
        "SELECT count(*), min(speed), max(speed) FROM {}",
        f"{schema}\0forecast_latest",
    )
    assert seen == [(18, 1100.0, 1305.0)]
    series = rows(
        module_database,
        "SELECT forecast FROM {}('n0', '2024-01-01', '2025-01-01') ORDER BY time",
        f"{schema}\0node_series",
    )
    assert series == [(100.0,), (1100.0,), (1200.0,), (1300.0,)]
    graph = read_forecast(module_database, schema=schema)
    np.testing.assert_array_equal(graph.values, make_forecast(1).values)


def test_node_ids_kinds_attributes_and_model(database: str) -> None:
    """Texts of every sort in every place where the user may put one."""
    schema = "we\"ird'; {} %s"
    n = len(TEXTS)
    graph = make_forecast(
        n_nodes=n,
        ids=[f"{i}{text}" for i, text in enumerate(TEXTS)],
        kind="sta\"tion'; %s",
        model="mo'del\"; {} %s \\",
        extra={"na'me\" %s": TEXTS, "{}": list(range(n))},
    )
    config = {text: {"list": [text, None, 1.5, True], "inner": {text: text}} for text in TEXTS}
    init_schema(database, schema=schema)
    publish_forecast(graph, database, schema=schema, config=config, metrics={"mae %s": 1.0})
    got = rows(database, "SELECT id, kind FROM {} ORDER BY node_id", f"{schema}\0node")
    assert got == [(str(node), "sta\"tion'; %s") for node in graph.node_ids]
    got = rows(database, "SELECT node_id FROM {} ORDER BY fid", f"{schema}\0forecast_latest_h1")
    assert [row[0] for row in got] == [str(node) for node in graph.node_ids]
    run = rows(database, "SELECT model, config, metrics FROM {}", f"{schema}\0run")
    assert run == [("mo'del\"; {} %s \\", json.loads(json.dumps(config)), {"mae %s": 1.0})]
    for i, node in enumerate(graph.node_ids):
        series = rows(
            database,
            "SELECT forecast FROM {}(%s, '2024-01-01', '2025-01-01') ORDER BY time LIMIT 1",
            f"{schema}\0node_series",
            parameters=(str(node),),
        )
        assert series == [(100.0 + i,)]
    back = read_forecast(database, schema=schema)
    assert list(back.node_ids) == list(graph.node_ids)
    assert back.nodes["na'me\" %s"].tolist() == TEXTS
    assert back.nodes["{}"].tolist() == list(range(n))
    assert back.provenance["model"] == "mo'del\"; {} %s \\"


def test_feature_names(database: str) -> None:
    """Each quantity is a column of the layer, told apart and filled, in the next issue as well."""
    init_schema(database)
    for issue in range(2):
        graph = make_forecast(issue, names=tuple(COLUMNS))
        publish_forecast(graph, database)
        columns = [
            name
            for (name,) in query(
                database,
                "SELECT attname FROM pg_attribute WHERE attnum > 0 AND atttypid = 'real'::regtype "
                "AND attrelid = 'stgraph.forecast_latest'::regclass ORDER BY attnum",
            )
        ]
        assert len(set(columns)) == len(columns) == len(COLUMNS)
        for i, column in enumerate(columns):
            got = rows(
                database,
                "SELECT {} FROM stgraph.forecast_latest WHERE node_id = 'n2' AND horizon = 3",
                column,
            )
            assert got == [(1000.0 * issue + 302.0 + i / 8,)], column
        names = query(database, "SELECT name FROM stgraph.feature ORDER BY feature_id")
        assert [name for (name,) in names] == COLUMNS
        back = read_forecast(database)
        assert back.feature_names == tuple(COLUMNS) or list(back.feature_names) == COLUMNS
        np.testing.assert_array_equal(back.values, graph.values)


def test_units(database: str) -> None:
    """Units go into comments and styles."""
    graph = make_forecast(names=("a", "b"))
    units = ("km/h'; DROP TABLE x; -- %s {}", '道路 \\ "µ" <&>')
    features = tuple(replace(f, unit=u) for f, u in zip(graph.features, units, strict=True))
    init_schema(database)
    publish_forecast(replace(graph, features=features), database)
    assert query(database, "SELECT unit FROM stgraph.feature ORDER BY 1") == [(u,) for u in units]
    comments = query(
        database,
        "SELECT col_description('stgraph.forecast_latest'::regclass, attnum) FROM pg_attribute "
        "WHERE attrelid = 'stgraph.forecast_latest'::regclass AND attname IN ('a', 'b') ORDER BY 1",
    )
    assert all(u in comment for u, (comment,) in zip(units, comments, strict=True))


def test_observations(database: str) -> None:
    """Readings go the same ways."""
    schema = "100% \"'{}"
    graph = make_forecast(names=tuple(COLUMNS[:6]), ids=[f"{i}'\"%s{{}}" for i in range(6)])
    graph = replace(graph, provenance={})
    init_schema(database, schema=schema)
    publish_observations(graph, database, schema=schema)
    assert rows(database, "SELECT count(*) FROM {}", f"{schema}\0observation") == [(3 * 6 * 6,)]
    got = rows(database, "SELECT node_id FROM {} ORDER BY 1", f"{schema}\0observation_latest")
    assert got == [(str(node),) for node in graph.node_ids]


def refused(database: str, graph: STGraph) -> str:
    """Publish what cannot be kept, and return the message; the issue before must stay."""
    init_schema(database)
    publish_forecast(make_forecast(), database)
    with pytest.raises(STGraphError) as caught:
        publish_forecast(graph, database)
    assert query(database, "SELECT issued_at FROM stgraph.current_issue") == [(FIRST,)]
    assert isinstance(caught.value, (DataError, OutputError))
    assert publish_forecast(make_forecast(2), database).is_current
    return str(caught.value)


@pytest.mark.parametrize("bad", ["a\x00b", "a\ud800b"])
def test_texts_that_no_database_keeps(database: str, bad: str) -> None:
    """A zero character or half a surrogate is an error of ours that names it, not a crash."""
    ids = ["n0", "n1", "n2", "n3", "n4", bad]
    assert repr(bad) in refused(database, make_forecast(1, ids=ids))


@pytest.mark.parametrize("bad", ["a\x00b", "a\ud800b"])
def test_feature_names_that_no_database_keeps(database: str, bad: str) -> None:
    """A name is never changed behind the user's back."""
    refused(database, make_forecast(1, names=("speed", bad)))


@pytest.mark.parametrize("bad", ["a\x00b", "a\ud800b"])
def test_notes_that_no_database_keeps(database: str, bad: str) -> None:
    """A model's name, a config and metrics are notes: they never stop an issue."""
    init_schema(database)
    notes = {"key": bad, bad: [bad, float("nan"), float("inf")]}
    graph = make_forecast(model=bad)
    done = publish_forecast(graph, database, config=notes, metrics=notes)
    assert done.is_current
    [(model, config, metrics)] = query(database, "SELECT model, config, metrics FROM stgraph.run")
    assert model[0] + model[-1] == "ab"
    assert config == metrics == {"key": model, model: [model, None, None]}


def test_zero_characters_in_attributes(database: str) -> None:
    """Attributes are JSON, which has a way to write them down."""
    graph = make_forecast(kind="a\x00b", extra={"label": ["c\x00d"] * 6})
    init_schema(database)
    publish_forecast(graph, database)
    back = read_forecast(database)
    assert back.nodes["kind"].tolist() == ["a\x00b"] * 6
    assert back.nodes["label"].tolist() == ["c\x00d"] * 6
