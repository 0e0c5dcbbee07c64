"""Stations and readings from databases: SQLite and a real PostgreSQL."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from stgraph_connectors.appending import append_readings
from stgraph_connectors.database import describe_url, read_database
from stgraph_connectors.stations import read_stations

from stgraph.cli import main
from stgraph.configfile import read_config
from stgraph.errors import ConfigError, DataError, GraphError, InputError

SECRET = "hush-9f3a"
STATIONS = [("a", 52.5, 13.4), ("b", 52.6, 13.5)]
TIMES = [f"2024-03-01 0{h}:{m:02d}:00" for h in range(4) for m in (0, 15, 30, 45)]
ROWS = [(name, time, float(i + 100 * n)) for i, time in enumerate(TIMES)
        for n, name in enumerate("ab")]  # fmt: skip


@pytest.fixture
def city(tmp_path: Path) -> str:
    """A SQLite file with two stations and 16 quarter hours of speeds: i of a, 100 + i of b."""
    file = tmp_path / "city.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE stations (station_id TEXT, lat REAL, lon REAL)")
        connection.executemany("INSERT INTO stations VALUES (?, ?, ?)", STATIONS)
        connection.execute("CREATE TABLE readings (station_id TEXT, time TEXT, speed REAL)")
        connection.executemany("INSERT INTO readings VALUES (?, ?, ?)", ROWS)
    return f"sqlite:///{file}"


def execute(url: str, *statements: str) -> None:
    """Change a SQLite file."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def read(url: str, **options: Any) -> Any:
    """Read both tables, with other options where given."""
    return read_database(url, **{"readings": "readings", "stations": "stations", **options})


# ---------------------------------------------------------------- what is right


def test_tables_become_a_graph(city: str) -> None:
    """Columns are found by name, the step by the readings; the source is told without its path."""
    graph = read(city, unit="km/h")
    assert list(graph.node_ids) == ["a", "b"]
    assert [point.x for point in graph.nodes.geometry] == [13.4, 13.5]
    assert graph.nodes.crs == "EPSG:4326"
    assert graph.step == pd.Timedelta("15min")
    assert graph.time[0] == pd.Timestamp("2024-03-01", tz="UTC")
    assert (graph.features[0].name, graph.features[0].unit) == ("speed", "km/h")
    np.testing.assert_array_equal(graph.values[:, 0, 0], np.arange(16))
    np.testing.assert_array_equal(graph.values[:, 1, 0], 100 + np.arange(16))
    assert graph.provenance["source"]["database"] == "SQLite file 'city.db'"
    assert "32 rows were read" in str(graph.report)


@pytest.mark.parametrize("chunk_rows", [1, 5, 32, 1000])
def test_chunks_make_no_difference(city: str, chunk_rows: int) -> None:
    """The seam between chunks is nowhere to be seen, also where ids and times go on in the next."""
    assert read(city, chunk_rows=chunk_rows).equals(read(city))


def test_the_same_as_from_files(city: str, tmp_path: Path) -> None:
    """One code for the grid: files and databases agree, with gaps, duplicates and strangers."""
    execute(
        city,
        "DELETE FROM readings WHERE rowid % 5 = 0",
        "INSERT INTO readings VALUES ('a', '2024-03-01 00:15:00', 9), ('x', '2024-03-01', 1)",
        "UPDATE readings SET speed = NULL WHERE rowid = 7",
    )
    with closing(sqlite3.connect(city.removeprefix("sqlite:///"))) as connection:
        for name in ("stations", "readings"):
            table = pd.read_sql(f"SELECT * FROM {name}", connection)
            table.to_csv(tmp_path / f"{name}.csv", index=False)
    wanted = read_stations(tmp_path / "stations.csv", tmp_path / "readings.csv")
    graph = read(city)
    assert graph.equals(wanted)
    assert "1 readings are of 1 stations that the layer does not have: ['x']" in str(graph.report)


def test_queries_with_colons_percent_signs_and_comments(city: str) -> None:
    """A query is taken as it is written, as a subselect, bounds beside it."""
    graph = read(
        city,
        readings="-- doubled\nSELECT station_id, time, speed * 2 AS double FROM readings "
        "WHERE time LIKE '%:00' AND ':x' <> '12:30' ORDER BY time; ",
        stations="/* all */ WITH s AS (SELECT * FROM stations) -- here\nSELECT * FROM s -- both",
        start="2024-03-01 01:00",
        stop="2024-03-01 02:00",
    )
    assert graph.feature_names == ("double",)
    np.testing.assert_array_equal(graph.values[:, 0, 0], [8, 10, 12, 14])


@pytest.mark.parametrize(
    "spell",
    [
        "strftime('%Y-%m-%dT%H:%M:%SZ', time)",
        "strftime('%s', time) + 0",
        "(strftime('%s', time) + 0) * 1000",
        "strftime('%d.%m.%Y %H:%M', time)",
        "strftime('%Y%m%d%H%M', time)",
    ],
)
def test_bounds_fit_every_spelling_of_time(city: str, spell: str) -> None:
    """ISO text and seconds are cut in the database, others after reading: the same."""
    query = f"SELECT station_id, {spell} AS time, speed FROM readings"
    graph = read(city, readings=query, start="2024-03-01 01:00", stop="2024-03-01 02:00")
    np.testing.assert_array_equal(graph.values[:, 0, 0], [4, 5, 6, 7])


def test_names_that_need_quotes(city: str) -> None:
    """Reserved words, blanks and quotes in names, and an injection that is just a name."""
    name = 'order; DROP TABLE stations; --"x'
    quoted = '"' + name.replace('"', '""') + '"'
    execute(
        city,
        f'CREATE TABLE {quoted} ("group" TEXT, "from" TEXT, "Speed km/h" REAL)',
        f"INSERT INTO {quoted} SELECT * FROM readings",
    )
    graph = read(
        city, readings=name, reading_id_column="group", time_column="from",
        value_columns=["Speed km/h"],
    )  # fmt: skip
    assert graph.n_steps == 16
    assert read(city).n_nodes == 2


def test_times_that_begin_with_missing_ones(city: str) -> None:
    """Rows without a time are left out, also where the first hundreds are such."""
    execute(
        city,
        "CREATE TABLE late AS SELECT station_id, CAST(NULL AS TEXT) AS time, speed FROM readings",
        *["INSERT INTO late SELECT * FROM late"] * 4,
        "INSERT INTO late SELECT * FROM readings",
    )
    graph = read(city, readings="late", start="2024-03-01 02:00")
    np.testing.assert_array_equal(graph.values[:, 0, 0], np.arange(8, 16))
    assert "times that are missing in the first rows cannot be compared" in str(graph.report)


def test_a_location_may_be_an_address(city: str) -> None:
    """A column is taken for a geometry by its name only where it holds some."""
    execute(city, "ALTER TABLE stations ADD COLUMN location TEXT",
            "UPDATE stations SET location = 'Main St'")  # fmt: skip
    graph = read(city)
    assert graph.nodes["location"].tolist() == ["Main St", "Main St"]
    assert [point.x for point in graph.nodes.geometry] == [13.4, 13.5]


def test_views_ids_that_are_numbers_and_several_quantities(city: str) -> None:
    """What is no quantity is left out and named; numbers and text are the same id."""
    execute(
        city,
        "CREATE TABLE places AS SELECT CASE station_id WHEN 'a' THEN 7 ELSE 8 END AS id, lat, lon "
        "FROM stations",
        "CREATE VIEW flows AS SELECT CASE station_id WHEN 'a' THEN '07' ELSE '8' END AS id, time, "
        "speed, speed / 2 AS flow, 'ok' AS quality FROM readings",
    )
    graph = read(city, stations="places", readings="flows", units={"flow": "veh/h"},
                 roles={"speed": "observed"})  # fmt: skip
    assert list(graph.node_ids) == ["7", "8"]
    assert [(f.name, f.unit, f.role) for f in graph.features] == [
        ("speed", "", "observed"),
        ("flow", "veh/h", "target"),
    ]
    assert "columns left out: ['quality']" in str(graph.report)


def test_stations_from_a_file(city: str, tmp_path: Path) -> None:
    """Places in a file, readings in a database."""
    (tmp_path / "places.csv").write_text("id,lat,lon\nb,52.6,13.5\n")
    graph = read(city, stations=None, stations_file=tmp_path / "places.csv")
    assert list(graph.node_ids) == ["b"]


def test_a_million_rows_stay_small(tmp_path: Path) -> None:
    """Memory grows by the arrays, not by rows in Python, which would be several times as much."""
    file = tmp_path / "large.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE readings (id INTEGER, time TEXT, speed REAL)")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999) "
            "INSERT INTO readings SELECT i % 100, datetime(1704067200 + 300 * (i / 100), "
            "'unixepoch'), i % 977 FROM n"
        )
        connection.execute("CREATE TABLE stations AS SELECT DISTINCT id, 1.0 AS lat, 2.0 AS lon "
                           "FROM readings")  # fmt: skip
    code = (
        "import resource, sys\n"
        "from stgraph_connectors import database\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "options = dict(readings='readings', stations='stations')\n"
        "url = sys.argv[1]\n"
        "database.read_database(url, readings='SELECT * FROM readings LIMIT 300',"
        " stations='stations')\n"
        "whole = database.read_stations\n"
        "rows = []\n"
        "def spy(*args, **kwargs):\n"
        "    rows.append(peak() - before)\n"
        "    return whole(*args, **kwargs)\n"
        "database.read_stations = spy\n"
        "before = peak()\n"
        "graph = database.read_database(url, **options)\n"
        "print(graph.n_steps, rows[0], peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{file}"],
        capture_output=True,
        text=True,
        check=True,
    )
    n_steps, reading_mb, whole_mb = map(float, done.stdout.split())
    assert n_steps == 10_000
    assert reading_mb < 120  # 16 bytes a row, one chunk of rows; all rows would take 200 and more
    assert whole_mb < 350


# ---------------------------------------------------------------- only what is newer


def test_only_newer_readings_and_their_join(city: str) -> None:
    """Read, wait, read what is newer, append: the same as reading all of it later."""
    options = {"step_minutes": 30, "zone": "Europe/Berlin"}
    # of the step 01:00-01:30, wall clock, only the half is there yet
    older = read(city, stop="2024-03-01 01:15", **options)
    assert (older.n_steps, older.values[-1, 0, 0]) == (3, 4.0)
    newer = read(city, since=older.time[-1], **options)
    assert newer.time[0] == older.time[-1]  # this step again, in whole
    joined = append_readings(older, newer)
    assert joined.equals(read(city, **options))
    assert joined.values[2, 0, 0] == 4.5


def test_nothing_newer_is_no_error(city: str) -> None:
    """A service that polls gets a graph without steps, and the join leaves all as it was."""
    older = read(city, unit="km/h")
    newer = read(city, since="2024-03-02", step_minutes=15, unit="km/h")
    assert (newer.n_steps, newer.features) == (0, older.features)
    assert newer.step == pd.Timedelta("15min")
    assert append_readings(older, newer) is older
    assert append_readings(newer, older).equals(older)


def test_append_loses_nothing_and_replaces_what_overlaps(graph: Any) -> None:
    """Newer readings count; where the newer graph has none, the older one stays; gaps are gaps."""
    values = np.full((3, 2, 1), 99.0, dtype=np.float32)
    values[0, 0] = np.nan
    newer = graph.select_nodes(["d", "b"]).replace(
        time=graph.time[[8, 9]].union([graph.time[9] + graph.step]), values=values, mask=None
    )
    joined = append_readings(graph, newer)
    assert joined.n_steps == 11
    np.testing.assert_array_equal(joined.values[8, :, 0], [40, 99, 42, 43, 44])
    np.testing.assert_array_equal(joined.mask[10, :, 0], [False, True, False, True, False])
    np.testing.assert_array_equal(joined.values[:8], graph.values[:8])
    assert joined.n_edges == graph.n_edges
    later = newer.replace(time=newer.time + 4 * graph.step)
    assert not append_readings(graph, later).mask[10:12].any()
    earlier = append_readings(newer.select_nodes(["b", "d"]), graph.select_nodes(["b", "d"]))
    assert earlier.time.equals(joined.time)


def test_steps_between_those_of_the_older_graph_are_moved(graph: Any) -> None:
    """A batch of one instant has a phase of its own; it belongs to the nearest step."""
    shifted = graph.select_steps(9).replace(time=graph.time[9:] + pd.Timedelta("70s"))
    joined = append_readings(graph, shifted)
    assert joined.time.equals(graph.time)
    assert "off those of `older` by 0 days 00:01:10; moved to the nearest" in str(joined.report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.replace(time=g.time[0] + 2 * (g.time - g.time[0])), "steps of 0 days 00:10"),
        (lambda g: g.replace(nodes=g.nodes.rename({"a": "z"})), r"1 nodes are not in `older`"),
        (
            lambda g: g.replace(features=(type(g.features[0])("sped", "km/h"),)),
            r"no feature 'sped' \(did you mean 'speed'\?\)",
        ),
        (
            lambda g: g.replace(features=(type(g.features[0])("speed", "mph"),)),
            "'speed' is in 'mph', in `older` in 'km/h'",
        ),
    ],
)
def test_graphs_that_do_not_fit(graph: Any, change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        append_readings(graph, change(graph))


# ---------------------------------------------------------------- PostgreSQL


@pytest.fixture
def postgres_city(database: str) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """The same city in PostGIS: geometry in metres, instants with zone, numbers as numeric."""
    parts = conninfo_to_dict(database)
    query = "&".join(f"{key}={parts[key]}" for key in ("host", "port", "user") if key in parts)
    password = f":{parts['password']}@" if parts.get("password") else ""
    url = f"postgresql://{password}/{parts['dbname']}?{query}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE SCHEMA city;"
            "CREATE TABLE city.stations "
            "  (id int, name text, opened date, geom geometry(Point, 25833));"
            "INSERT INTO city.stations VALUES (1, 'a', '2020-01-01', "
            "  ST_SetSRID(ST_MakePoint(391000, 5818000), 25833)), (2, 'b', NULL, NULL);"
            "CREATE TABLE city.readings (id int, measured_at timestamptz, speed numeric(6, 2), "
            "  note jsonb);"
            "INSERT INTO city.readings SELECT s, '2024-03-31T00:00+01'::timestamptz "
            "  + i * interval '30 minutes', s * 100 + i, '{}' "
            "FROM generate_series(0, 11) i, generate_series(1, 2) s"
        )
        yield url, connection


@pytest.mark.postgis
def test_postgis_tables(postgres_city: tuple[str, psycopg.Connection[Any]]) -> None:
    """Geometry with its SRID, instants with zone through a clock change, numeric, schema.table."""
    url, _ = postgres_city
    graph = read_database(
        url, readings="city.readings", stations="city.stations", value_columns=["speed"],
        missing_coordinates="keep", zone="Europe/Berlin", chunk_rows=7,
        start="2024-03-31 01:00", stop="2024-03-31 04:00",
    )  # fmt: skip
    assert graph.nodes.crs == "EPSG:25833"
    assert (graph.nodes.geometry.iloc[0].x, graph.nodes.geometry.iloc[1]) == (391000, None)
    assert list(graph.nodes["opened"].fillna("")) == ["2020-01-01", ""]
    # 01:00 and 01:30 in winter time, then 03:00 and 03:30 in summer time
    assert [f"{t:%H:%M}" for t in graph.time.tz_convert("Europe/Berlin")] == [
        "01:00", "01:30", "03:00", "03:30",
    ]  # fmt: skip
    np.testing.assert_array_equal(graph.values[:, 1, 0], [202, 203, 204, 205])
    assert "postgresql database" in graph.provenance["source"]["database"]


@pytest.mark.postgis
def test_naive_timestamps_and_queries_in_postgres(
    postgres_city: tuple[str, psycopg.Connection[Any]],
) -> None:
    """Wall clocks are cut in the database with room for clock changes, then to the minute."""
    url, _ = postgres_city
    graph = read_database(
        url, zone="Europe/Berlin", start="2024-03-31 03:00", since="2024-03-31T01:30Z",
        step_minutes=30,
        readings="SELECT id::text, (measured_at AT TIME ZONE 'Europe/Berlin')::timestamp AS time, "
        "speed::float8 AS speed FROM city.readings WHERE note::text LIKE '{%'",
        stations="SELECT id, ST_AsBinary(ST_Transform(geom, 4326)) AS geom FROM city.stations",
        crs=4326,
    )  # fmt: skip
    assert graph.time[0] == pd.Timestamp("2024-03-31T01:30Z")
    np.testing.assert_array_equal(graph.values[:3, 0, 0], [105, 106, 107])
    with pytest.raises(DataError, match=r"columns appear twice: \['a'\]; name each with AS"):
        read_database(url, readings="SELECT 1 AS a, 2 AS a", stations="city.stations")


@pytest.mark.postgis
def test_rows_come_through_a_cursor_of_the_server(
    postgres_city: tuple[str, psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client never holds more than a chunk, nor does the driver."""
    url, connection = postgres_city
    connection.execute("INSERT INTO city.readings SELECT 1, now() + i * interval '30 min', 1, NULL "
                       "FROM generate_series(1, 5000) i")  # fmt: skip
    seen: list[str] = []
    execute_server = psycopg.ServerCursor.execute

    def spy(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(str(query))
        return execute_server(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.ServerCursor, "execute", spy)
    read_database(
        url, readings="city.readings", stations="city.stations", value_columns="speed",
        start="2024-03-01", stop="2024-04-02", chunk_rows=10,
    )  # fmt: skip
    (query,) = [text for text in seen if "measured_at" in text]
    assert "2024" not in query  # bounds go as parameters


@pytest.mark.postgis
def test_a_query_cannot_write(postgres_city: tuple[str, psycopg.Connection[Any]]) -> None:
    """Reading is read-only for the server, too."""
    url, connection = postgres_city
    connection.execute(
        "CREATE FUNCTION city.sneaky() RETURNS int LANGUAGE sql AS "
        "'DELETE FROM city.readings RETURNING 1'"
    )
    with pytest.raises(DataError, match="read-only transaction"):
        read_database(url, readings="SELECT city.sneaky() AS id", stations="city.stations")
    row = connection.execute("SELECT count(*) FROM city.readings").fetchone()
    assert row == (24,)


@pytest.mark.postgis
def test_a_wrong_password_is_not_shown(
    postgres_city: tuple[str, psycopg.Connection[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal tells host and database only."""
    caplog.set_level("DEBUG")
    url, _ = postgres_city
    wrong = url.replace("user=", f"password={SECRET}&user=nobody_")
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_database(wrong, readings="city.readings", stations="city.stations")
    shown = "".join([repr(caught.value), repr(caught.value.__context__), caplog.text])
    assert SECRET not in shown
    assert "nobody_" not in str(caught.value)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readings": "reading"}, r"no table 'reading' \(did you mean 'readings'\?\); there are"),
        ({"stations": "Statons"}, r"`stations`: no table 'Statons' \(did you mean 'stations'\?\)"),
        ({"readings": "  "}, "`readings`: is '  '; name a table"),
        ({"time_column": "tiem"}, r"no column 'tiem' \(did you mean 'time'\?\)"),
        ({"reading_id_column": "sid"}, "no column 'sid'"),
        ({"value_columns": ["sped"]}, r"no column 'sped' \(did you mean 'speed'\?\)"),
        ({"readings": "SELECT station_id, time FROM readings"}, "no column holds numbers"),
        ({"readings": "SELECT * FROM readings WHERE 0"}, "has no rows"),
        ({"readings": "SELECT nil FROM readings"}, "no such column: nil"),
        ({"readings": "SELECT 1; DROP TABLE stations"}, "cannot be read: near"),
        ({"stations": "SELECT * FROM stations WHERE 0"}, "stations need one row each"),
        ({"stations": None}, "`stations`, `stations_file`: none is given"),
        ({"stations_file": "x.csv"}, "both are given"),
        ({"since": "2024-03-01"}, "`since`: needs `step_minutes`"),
        ({"since": "soon", "step_minutes": 5}, "`since`: 'soon' cannot be read as a time"),
        ({"start": "2025-01-01"}, "between start and stop; there are some from 2024"),
        ({"zone": "Europe/Berln"}, r"unknown time zone 'Europe/Berln' \(did you mean"),
        ({"chunk_rows": 0}, "`chunk_rows`: is 0"),
        ({"geometry_column": "name"}, "no column 'name'"),
        ({"geometry_column": "lat"}, "no geometry"),
        (
            {"stations": "SELECT station_id, 'POINT (1 2' AS geom FROM stations"},
            r"'POINT \(1 2' is no geometry \(2 such cell",
        ),
        (
            {"stations": "SELECT station_id, 'POINT (1 2)' AS geom FROM stations"},
            "names no CRS; say which with crs=",
        ),
        (
            {"stations": "SELECT station_id, 'POINT (1 2)' AS geom FROM stations", "crs": 99},
            "99 is no CRS",
        ),
        (
            {"readings": "SELECT station_id, time, 'fast' AS speed FROM readings",
             "value_columns": ["speed"]},
            "'fast' is no number",
        ),
        ({"readings": "SELECT station_id, 'x' AS time, speed FROM readings"}, "read as a time"),
        ({"readings": "SELECT 'q' AS id, time, speed FROM readings"}, "no reading belongs to"),
    ],
)  # fmt: skip
def test_what_cannot_be_used(city: str, options: dict[str, Any], message: str) -> None:
    """One DataError that says what, where and what to do."""
    with pytest.raises(DataError, match=message):
        read(city, **options)


def test_all_findings_at_once(city: str) -> None:
    with pytest.raises(DataError) as caught:
        read(city, time_column="tiem", value_columns=["sped"], stations="Statons")
    assert all(word in str(caught.value) for word in ("tiem", "sped", "Statons", "3 problem(s)"))


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        (f"postgresql://me:{SECRET}@@host/db", InputError, "write an @ that belongs .* as %40"),
        (f"postgresql://me:x@{SECRET}:port@host/db", InputError, "is no database URL"),
        (f"host=x password={SECRET}", InputError, "is no database URL; write postgresql://"),
        ("", InputError, "is no database URL"),
        (f"postgrsql://me:{SECRET}@host/db", DataError, "did you mean 'postgresql'"),
        (f"mysql+nodriver://me:{SECRET}@host/db", DataError, "which SQLAlchemy does not know"),
        (f"mysql+pymysql://me:{SECRET}@host/db", DataError, "run: pip install pymysql"),
        (f"postgresql://me:{SECRET}@127.0.0.1:1/db", DataError, "on 127.0.0.1, port 1 cannot"),
        ("sqlite:////nowhere/city.db", DataError, "no SQLite file 'city.db'"),
    ],
)
def test_urls_that_lead_nowhere(url: str, kind: type[Exception], message: str) -> None:
    """Says what to do and never repeats a secret, not even in the chain of errors."""
    with pytest.raises(kind, match=message) as caught:
        read_database(url, readings="readings", stations="stations")
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ if error.__suppress_context__ else error.__context__


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    """SQLite would make an empty database; a near name is told instead."""
    (tmp_path / "city.db").write_bytes(b"")
    with pytest.raises(DataError, match=r"'citty.db' \(did you mean 'city.db'\?\)"):
        read_database(f"sqlite:///{tmp_path}/citty.db", readings="r", stations="s")
    assert not (tmp_path / "citty.db").exists()


def test_where_a_url_leads() -> None:
    """Neither user nor secret; a service is named."""
    assert (
        describe_url(f"mysql://u:{SECRET}@h:33/traffic") == "mysql database 'traffic' on h, port 33"
    )
    assert describe_url("postgresql://?service=traffic") == "postgresql service 'traffic'"
    assert describe_url("sqlite://") == "SQLite in memory"


# ---------------------------------------------------------------- from a config


def test_a_job_reads_from_a_database_beside_it(
    city: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`database_url` takes variables, finds SQLite beside the config, and is never shown."""
    folder = Path(city.removeprefix("sqlite:///")).parent
    job = folder / "job.toml"
    text = (
        '[data]\nconnector = "database"\ndatabase_url = "${CITY}"\nreadings = "readings"\n'
        'stations = "stations"\n[windows]\nwindow = 2\nhorizon = 1\n[graph]\nmethod = "none"\n'
    )
    job.write_text(text)
    monkeypatch.setenv("CITY", f"sqlite:///city.db?secret={SECRET}")
    config = read_config(job)
    assert SECRET not in repr(config)
    assert main(["info", str(job), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["data"]["options"]
    assert shown["database_url"] == "SQLite file 'city.db'"
    monkeypatch.setenv("CITY", "sqlite:///city.db")
    monkeypatch.chdir("/")
    assert main(["check", str(job)]) == 0
    assert "32 rows were read" in capsys.readouterr().out
    monkeypatch.setenv("CITY", f"postgresql://u:{SECRET}@@h/d")
    with pytest.raises(ConfigError, match=r"\[data\] `database_url`: has several @") as caught:
        read_config(job)
    assert SECRET not in str(caught.value)
