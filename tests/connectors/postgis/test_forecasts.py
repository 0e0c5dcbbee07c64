"""Publishing an issue: what it does to the run, the layers, and what people built on them."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import pandas as pd
import psycopg
import pytest
from postgis_cases import make_forecast, query
from stgraph_connectors.postgis.connect import Patience
from stgraph_connectors.postgis.evaluations import publish_evaluation
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.observations import publish_observations
from stgraph_connectors.postgis.schema import init_schema

from stgraph.errors import DataError, OutputError
from stgraph.graph import STGraph

pytestmark = pytest.mark.postgis


@pytest.fixture
def dataset(database: str) -> str:
    """A dataset that shows issue 0."""
    init_schema(database)
    publish_forecast(make_forecast(), database)
    return database


def moved(graph: STGraph) -> STGraph:
    """Return the graph with its first node one degree further east."""
    x = graph.nodes.geometry.x.to_numpy().copy()
    x[0] += 1
    shapes = gpd.points_from_xy(x, graph.nodes.geometry.y, crs=graph.nodes.crs)
    return graph.replace(nodes=graph.nodes.set_geometry(shapes))


def test_layers_show_nodes_where_they_are_now(dataset: str) -> None:
    """A node that moves, moves in every layer with the next publication of that layer."""
    first = make_forecast(1)
    errors = pd.DataFrame({"node": first.node_ids, "mae": 1.0})
    for change in (lambda graph: graph, moved):
        publish_forecast(change(make_forecast(1 + (change is moved))), dataset)
        readings = change(make_forecast(-3, names=("speed",))).replace(provenance={})
        publish_observations(readings, dataset)
        publish_evaluation(errors, dataset, model="hand-made", feature="speed")
    for layer in ("forecast_latest", "observation_latest", "support", "error_by_node"):
        seen = query(
            dataset, f"SELECT DISTINCT node_id, ST_X(geom) FROM stgraph.{layer} ORDER BY 1"
        )
        assert seen[:2] == [("n0", 175.0), ("n1", 174.001)], layer
    box = "geom && ST_MakeEnvelope(174.99, -37, 175.01, -36, 4326)"
    assert query(dataset, f"SELECT count(*) FROM stgraph.forecast_latest WHERE {box}") == [(3,)]


def test_a_known_issue_can_be_shown_again(dataset: str) -> None:
    """Its rows are not written anew, and it is not called new."""
    publish_forecast(make_forecast(1), dataset)
    done = publish_forecast(make_forecast(), dataset, current=True)
    assert (done.is_new, done.is_current, done.n_rows) == (False, True, 0)
    rows = (
        "SELECT count(*), count(DISTINCT issued_at), max(speed)::int FROM stgraph.forecast_latest"
    )
    assert query(dataset, rows) == [(18, 1, 305)]
    assert query(dataset, "SELECT count(*) FROM stgraph.forecast") == [(12,)]
    published = "SELECT count(*) FROM stgraph.run WHERE status = 'published'"
    assert query(dataset, published) == [(2,)]


def test_views_on_a_layer_are_named_and_not_dropped(dataset: str) -> None:
    """A layer that must be rebuilt takes nobody's view along; the error says which it is."""
    with psycopg.connect(dataset) as connection:
        connection.execute("CREATE VIEW public.slow AS SELECT * FROM stgraph.forecast_latest")
    with pytest.raises(OutputError, match=r"view public.slow depends on .*; drop what"):
        publish_forecast(make_forecast(1, horizon=2), dataset, patience=Patience(attempts=1))
    assert query(dataset, "SELECT count(*) FROM public.slow") == [(18,)]
    assert publish_forecast(make_forecast(1), dataset).is_current  # routine goes on


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provenance": {}}, r"no forecast: .*publish_observations"),
        ({"provenance": {"kind": "forecast"}}, "`issued_at`"),
    ],
)
def test_what_is_no_forecast(change: dict[str, Any], message: str) -> None:
    """It is refused before the database is asked."""
    with pytest.raises(DataError, match=message):
        publish_forecast(make_forecast().replace(**change), "service=nowhere")


def test_one_instant_needs_the_length_of_its_step() -> None:
    """Without it nobody knows how long the forecast is valid."""
    graph = make_forecast(horizon=1)
    provenance = {k: v for k, v in graph.provenance.items() if k != "step_minutes"}
    graph = graph.replace(time=pd.DatetimeIndex(list(graph.time)), provenance=provenance)
    with pytest.raises(DataError, match="one instant and no `step_minutes`"):
        publish_forecast(graph, "service=nowhere")


def test_a_run_says_what_made_it(database: str) -> None:
    """Config, skill and version of the code are kept with the run."""
    init_schema(database)
    notes: dict[str, Any] = {"config": {"window": 6}, "metrics": {"mae": 1.5}}
    publish_forecast(make_forecast(), database, **notes, code_version="abc-dirty")
    told = query(database, "SELECT config, metrics, code_version, status, library FROM stgraph.run")
    assert told[0][:4] == ({"window": 6}, {"mae": 1.5}, "abc-dirty", "published")
    assert told[0][4].startswith("stgraph-gis ")


def test_the_layer_says_what_each_value_rests_on(dataset: str) -> None:
    """Nobody takes a guess for a measurement: support is in the layer, and its styles show it."""

    def said(number: int, *support: str) -> STGraph:
        graph = make_forecast(number)
        said = graph.nodes.assign(support=[*support, *["far"] * (graph.n_nodes - len(support))])
        return graph.replace(nodes=said)

    seen = (
        "SELECT DISTINCT node_id, support FROM stgraph.forecast_latest "
        "WHERE node_id IN ('n0', 'n1', 'n2') ORDER BY 1"
    )
    publish_forecast(said(1, "own sensor", "near"), dataset)
    assert query(dataset, seen) == [("n0", "own sensor"), ("n1", "near"), ("n2", "far")]
    publish_forecast(said(2, "near", "o'none"), dataset)
    assert query(dataset, seen) == [("n0", "near"), ("n1", "o'none"), ("n2", "far")]
    styles = dict(
        query(
            dataset,
            "SELECT stylename, styleqml::text FROM layer_styles "
            "WHERE f_table_name = 'forecast_latest'",
        )
    )
    assert "Support" in styles
    assert all(
        "WHEN \"support\" = 'near'" in qml.replace("&quot;", '"').replace("&#39;", "'")
        for name, qml in styles.items()
        if name != "Support"
    )
    # forecasts without it go back to a layer without it
    publish_forecast(make_forecast(3), dataset)
    columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'forecast_latest'"
    assert query(dataset, f"{columns} AND column_name = 'support'") == [(0,)]
