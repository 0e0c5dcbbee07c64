"""Pruning: whole old days go, the current issue stays, no reader waits and none is cut off."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from psycopg.conninfo import make_conninfo
from stgraph_connectors.postgis.connect import Patience
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.pruning import prune
from stgraph_connectors.postgis.reading import read_forecast
from stgraph_connectors.postgis.schema import init_schema

from stgraph.errors import InputError, OutputError
from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis

NOW = pd.Timestamp("2024-03-31T12:00Z")
QUICK = Patience(lock_timeout_s=0.3, attempts=2, pause_s=0.1)


def make_forecast(issued_at: str) -> STGraph:
    """A forecast of two nodes and two steps."""
    nodes = gpd.GeoDataFrame(
        {"kind": "station"},
        index=["a", "b"],
        geometry=[shapely.Point(1, 2), shapely.Point(3, 4)],
        crs="EPSG:4326",
    )
    return STGraph(
        nodes=nodes,
        time=pd.date_range(pd.Timestamp(issued_at) + pd.Timedelta("1h"), periods=2, freq="1h"),
        values=np.arange(4, dtype=np.float32).reshape(2, 2, 1),
        features=(Feature("speed", "km/h"),),
        provenance={"kind": "forecast", "issued_at": issued_at, "step_minutes": 60.0},
    )


def fill(dsn: str) -> None:
    """Publish five issues on four days, and readings on three days."""
    for issued_at in ("2024-01-01T00:00Z", "2024-01-01T23:00Z", "2024-02-29T12:00Z"):
        publish_forecast(make_forecast(issued_at), dsn)
    for issued_at in ("2024-03-01T00:00Z", "2024-03-31T06:00Z"):
        publish_forecast(make_forecast(issued_at), dsn)
    with psycopg.connect(dsn) as connection:
        for instant in ("2024-02-28T23:00Z", "2024-02-29T00:00Z", "2024-03-01T00:00Z"):
            connection.execute(
                "SELECT stgraph.ensure_partition('observation', %s::timestamptz::date)", (instant,)
            )
            connection.execute("INSERT INTO stgraph.observation VALUES (%s, 1, 1, 5.5)", (instant,))
            connection.execute("INSERT INTO stgraph.observation_time VALUES (%s)", (instant,))
        # an empty day in the future, made ahead
        connection.execute("SELECT stgraph.ensure_partition('observation', '2024-04-05')")


@pytest.fixture
def dsn(database: str) -> str:
    """A database with issues and readings of several days."""
    init_schema(database)
    fill(database)
    return database


def tables(dsn: str, schema: str = "stgraph") -> list[str]:
    """Return the tables of days that exist, attached or not."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = %s::regnamespace "
            "AND c.relkind = 'r' AND c.relname ~ '_[0-9]{8}$' ORDER BY 1",
            (schema,),
        )
        return [name for (name,) in rows]


KEPT = [
    "forecast_20240301",
    "forecast_20240331",
    "observation_20240301",
    "observation_20240405",
]
GONE = (
    "forecast_20240101",
    "forecast_20240229",
    "observation_20240228",
    "observation_20240229",
)


def test_old_days_go(dsn: str) -> None:
    """30 days before noon of 31 March is noon of 1 March: that day stays, those before go."""
    done = prune(dsn, keep="30d", now=NOW)
    assert done.before == pd.Timestamp("2024-03-01", tz="UTC")
    assert done.partitions == GONE
    assert (done.n_issues, done.n_instants, done.postponed) == (3, 2, ())
    assert done.n_bytes > 4 * 8192
    assert tables(dsn) == KEPT
    with psycopg.connect(dsn) as connection:
        for query, expected in (
            ("SELECT count(*) FROM stgraph.run", 2),
            ("SELECT count(*) FROM stgraph.observation_time", 1),
            ("SELECT count(*) FROM stgraph.observation", 1),
            ("SELECT count(*) FROM stgraph.forecast", 4),
            ("SELECT count(*) FROM stgraph.forecast_value", 8),
        ):
            assert connection.execute(query).fetchone() == (expected,)  # type: ignore[arg-type]


def test_twice_does_nothing_more(dsn: str) -> None:
    """The second call finds nothing, and publishing goes on."""
    prune(dsn, now=NOW)
    done = prune(dsn, now=NOW)
    assert (done.partitions, done.n_issues, done.n_instants, done.n_bytes) == ((), 0, 0, 0)
    graph = make_forecast("2024-03-31T07:00Z")
    publish_forecast(graph, dsn)
    assert read_forecast(dsn).equals(graph)
    # also a day that was dropped can come again
    assert publish_forecast(make_forecast("2024-01-01T00:00Z"), dsn).is_new


def test_current_issue_stays_however_old(database: str) -> None:
    """A feed that stopped long ago still shows its last forecast."""
    init_schema(database)
    old = make_forecast("2020-05-05T05:00Z")
    publish_forecast(make_forecast("2020-05-04T05:00Z"), database)
    publish_forecast(make_forecast("2020-05-05T04:00Z"), database)
    publish_forecast(old, database)
    done = prune(database)  # by the server's clock
    assert done.partitions == ("forecast_20200504",)
    assert done.n_issues == 1
    assert read_forecast(database).equals(old)
    assert read_forecast(database, issued_at="2020-05-05T04:00Z").n_steps == 2


def test_empty_schema(database: str) -> None:
    """Nothing to prune is no error."""
    init_schema(database)
    assert prune(database).partitions == ()


@pytest.fixture
def reader(dsn: str) -> Iterator[psycopg.Connection]:
    """A program that has begun to read all forecasts and not finished, as QGIS does."""
    with psycopg.connect(dsn, application_name="QGIS") as connection:
        connection.execute(
            "DECLARE qgis BINARY CURSOR FOR SELECT mean[1] FROM stgraph.forecast ORDER BY issued_at"
        )
        assert len(connection.execute("FETCH FORWARD 1 FROM qgis").fetchall()) == 1
        yield connection


def test_open_reader_is_waited_for_but_not_for_ever(dsn: str, reader: psycopg.Connection) -> None:
    """Prune gives up in time and says who reads; nobody waits; the next prune finishes."""
    began = time.monotonic()
    done = prune(dsn, now=NOW, patience=QUICK)
    assert time.monotonic() - began < 5
    assert done.partitions == GONE[2:]  # readings are not being read
    (held,) = done.postponed
    assert held == f"stgraph.forecast_20240101 is read by QGIS (process {reader.info.backend_pid})"
    # others read at once, and see no trace of the days that go
    with psycopg.connect(dsn, options="-c lock_timeout=100ms") as connection:
        assert connection.execute("SELECT count(*) FROM stgraph.forecast_value").fetchone() == (8,)
        rows = connection.execute("SELECT * FROM stgraph.node_series('a', '-infinity', 'infinity')")
        assert len(rows.fetchall()) == 5
    # a new day can begin meanwhile
    graph = make_forecast("2024-04-01T00:00Z")
    publish_forecast(graph, dsn)
    assert read_forecast(dsn).equals(graph)
    # and the reader reads on, all that was there when it began: 5 issues of 2 nodes
    assert len(reader.execute("FETCH ALL FROM qgis").fetchall()) == 9
    reader.commit()
    done = prune(dsn, now=NOW, patience=QUICK)
    assert done.partitions == GONE[:2]
    assert done.postponed == ()
    assert tables(dsn) == [*KEPT[:2], "forecast_20240401", *KEPT[2:]]


def test_readers_never_wait_while_prune_waits(dsn: str, reader: psycopg.Connection) -> None:
    """While prune waits for one reader, others come and go within milliseconds."""
    patience = Patience(lock_timeout_s=1.5, attempts=1)
    pruning = threading.Thread(target=prune, args=(dsn,), kwargs={"now": NOW, "patience": patience})
    pruning.start()
    longest, n_reads = 0.0, 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        while pruning.is_alive():
            began = time.monotonic()
            connection.execute("SELECT count(*) FROM stgraph.forecast_value").fetchone()
            connection.execute("SELECT count(*) FROM stgraph.forecast").fetchone()
            connection.execute("SELECT count(*) FROM stgraph.forecast_latest").fetchone()
            longest, n_reads = max(longest, time.monotonic() - began), n_reads + 1
    assert n_reads > 10
    assert longest < 0.5
    reader.commit()
    assert prune(dsn, now=NOW, patience=QUICK).postponed == ()
    assert tables(dsn) == KEPT


def test_finishes_what_a_killed_call_left(dsn: str) -> None:
    """A table half detached, and one detached and not dropped, go next time."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name in GONE[2:]:
            connection.execute(
                f"COMMENT ON TABLE stgraph.{name} IS 'being removed by stgraph db prune'"
            )
            connection.execute(f"ALTER TABLE stgraph.observation DETACH PARTITION stgraph.{name}")
    done = prune(dsn, keep="3650d", now=NOW)
    assert done.partitions == GONE[2:]


def test_tables_that_others_detached_stay(dsn: str) -> None:
    """Somebody put a day aside to keep it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "ALTER TABLE stgraph.forecast DETACH PARTITION stgraph.forecast_20240101"
        )
        connection.execute("CREATE TABLE stgraph.forecast_99999999 (mine integer)")
    prune(dsn, now=NOW)
    assert tables(dsn) == ["forecast_20240101", *KEPT[:2], "forecast_99999999", *KEPT[2:]]


def test_works_through_membership(database: str) -> None:
    """A login that may act as the owner prunes; a writer may not, and is told."""
    init_schema(database, roles=True)
    fill(database)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE ROLE keeper LOGIN IN ROLE stgraph_owner")
        connection.execute("CREATE ROLE feeder LOGIN IN ROLE stgraph_writer")
    with pytest.raises(OutputError, match=r"pruning needs the rights of 'stgraph_owner'"):
        prune(make_conninfo(database, user="feeder"), now=NOW)
    assert len(tables(database)) == 8
    assert prune(make_conninfo(database, user="keeper"), now=NOW).partitions == GONE
    assert tables(database) == KEPT


def test_one_at_a_time(dsn: str) -> None:
    """Two calls would get into each other's way."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, hashtext('stgraph'))", (0x5468,))
        with pytest.raises(OutputError, match="another program is pruning"):
            prune(dsn, now=NOW)


def test_hostile_schema_name(database: str) -> None:
    """Quotes in the name of a schema are only letters."""
    schema = "o'\"{};--"
    init_schema(database, schema=schema)
    publish_forecast(make_forecast("2020-01-01T00:00Z"), database, schema=schema)
    publish_forecast(make_forecast("2024-03-31T00:00Z"), database, schema=schema)
    done = prune(database, schema=schema, now=NOW)
    assert done.partitions == ("forecast_20200101",)


@pytest.mark.parametrize("keep", ["30", "", "0d", "-1d", "a month", None, "59min"])
def test_bad_lengths(keep: str) -> None:
    """A number without a unit would be nanoseconds."""
    with pytest.raises(InputError, match="`keep` is"):
        prune("dbname=none", keep=keep)


def test_no_schema(database: str) -> None:
    """The command to run is named."""
    with pytest.raises(OutputError, match="stgraph db init"):
        prune(database)
