"""Publishing to PostGIS and reading as QGIS does, against geopandas and the server's own COPY.

    python tests/benchmarks/publish.py [--quick]

50,000 road segments, 12 horizons, mean and three quantiles: 600,000 rows of 8 columns an issue.
All sides use one server with the settings of compose.yaml, in turns, medians of five.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import islice

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
from _common import Row, at_least, at_most, main
from _segments import FIRST, STEP, make_issues, make_segments, start_durable_server
from sqlalchemy import create_engine
from stgraph_connectors.postgis.copying import copy_arrays, instants
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.schema import init_schema

from stgraph.graph import STGraph

_BOX = "ST_MakeEnvelope(8, 47, 8.0445, 47.0445, 4326)"  # about 2,000 segments
_NODE = "way/17"
_NARROW = (
    "issued_at timestamptz, node_id integer, horizon smallint, target_time timestamptz, "
    "mean real, q10 real, q50 real, q90 real"
)


def measure(quick: bool) -> list[Row]:
    """Return all rows of the table."""
    n_segments, n_issues, repeats = (2_000, 4, 2) if quick else (50_000, 10, 5)
    segments = make_segments(n_segments)
    with start_durable_server() as server:
        dsn = server.create_database()
        init_schema(dsn)
        issues = make_issues(segments, n_issues + repeats)
        for issue in islice(issues, n_issues):
            publish_forecast(issue, dsn)
        rows = _loads(dsn, list(issues), repeats, full=not quick)
        with psycopg.connect(dsn, autocommit=True) as db:
            _build_naive(db, n_issues)
            db.execute("VACUUM ANALYZE")
            rows += _sizes(db, n_segments)
            rows += _queries(db, repeats)
        return rows


# ------------------------------------------------------------------------------------ loading


def _loads(dsn: str, issues: list[STGraph], repeats: int, *, full: bool) -> list[Row]:
    """Time one issue: geopandas, the server's own COPY, ours, and the whole publish."""
    narrow = _narrow_columns(issues[0])
    seconds: dict[str, list[float]] = {}
    written: list[float] = []  # bytes of the server's log

    def note(name: str, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        seconds.setdefault(name, []).append(time.perf_counter() - began)

    with psycopg.connect(dsn, autocommit=True) as db:
        files = _prepare_files(db, narrow)
        for issue in issues[:repeats]:
            if full or "geopandas" not in seconds:
                frame = _repeat_geometry(issue)
                note("geopandas", lambda frame=frame: _to_postgis(frame, dsn))
            for name, (definition, file) in files.items():
                db.execute(f"DROP TABLE IF EXISTS bench; CREATE TABLE bench ({definition})")
                copy = f"COPY bench FROM '{file}' (FORMAT BINARY)"
                note(f"server {name}", lambda copy=copy: db.execute(copy))
            db.execute(f"DROP TABLE bench; CREATE TABLE bench ({_NARROW})")
            note("ours narrow", lambda: copy_arrays(db, psycopg.sql.Identifier("bench"), narrow))
            db.execute(f"DROP TABLE bench; CREATE TABLE bench ({files['arrays'][0]})")
            arrays = _array_columns(issue)
            note(
                "ours arrays",
                lambda arrays=arrays: copy_arrays(db, psycopg.sql.Identifier("bench"), arrays),
            )
            note(
                "narrow with key",
                lambda: db.execute(
                    f"DROP TABLE bench; CREATE TABLE bench ({_NARROW}); "
                    f"COPY bench FROM '{files['narrow'][1]}' (FORMAT BINARY); "
                    "ALTER TABLE bench ADD PRIMARY KEY (issued_at, node_id, horizon)"
                ),
            )
            log = db.execute("SELECT pg_current_wal_lsn()").fetchone()[0]
            note("publish", lambda issue=issue: publish_forecast(issue, dsn))
            written.append(_scalar(db, f"SELECT pg_current_wal_lsn() - '{log}'::pg_lsn"))
            later = _earlier(issue)
            note("publish, layers left", lambda later=later: publish_forecast(later, dsn))
    at = {name: statistics.median(values) for name, values in seconds.items()}
    floor = at["server narrow"]
    return [
        Row("geopandas.to_postgis, geometry repeated", at["geopandas"], "s"),
        Row("server's own COPY of 600,000 narrow rows (the floor)", floor, "s"),
        Row("server's own COPY of 50,000 rows of arrays", at["server arrays"], "s"),
        Row("our COPY, rows of arrays", at["ours arrays"], "s"),
        at_least(
            "load: geopandas / ours", at["geopandas"] / at["ours arrays"], "x", 40 if full else 2
        ),
        at_most("load: ours / server, arrays", at["ours arrays"] / at["server arrays"], "x", 1.3),
        at_most("load: ours / server, narrow rows", at["ours narrow"] / floor, "x", 1.3),
        Row("narrow rows with their key / floor", at["narrow with key"] / floor, "x"),
        at_most(
            "publish: load, key and pointer / floor", at["publish, layers left"] / floor, "x", 2
        ),
        Row("publish with the layers of QGIS", at["publish"], "s"),
        Row("write-ahead log of that, at most", max(written) / 1e6, "MB"),
        Row("publish with the layers of QGIS / floor", at["publish"] / floor, "x"),
    ]


def _earlier(issue: STGraph) -> STGraph:
    """Return the issue as one of another day, which the layers are not moved to."""
    past = pd.Timedelta(days=1000)
    issued_at = pd.Timestamp(issue.provenance["issued_at"]) - past
    return issue.replace(
        time=issue.time - past,
        provenance={**issue.provenance, "issued_at": issued_at.isoformat()},
    )


def _repeat_geometry(issue: STGraph) -> gpd.GeoDataFrame:
    """Return the table that somebody without this library writes."""
    n_steps, n_nodes = issue.n_steps, issue.n_nodes
    node = np.tile(np.arange(n_nodes), n_steps)
    values = issue.values.reshape(-1, issue.n_features)
    return gpd.GeoDataFrame(
        {
            "issued_at": pd.Timestamp(issue.provenance["issued_at"]),
            "node_id": node.astype(np.int32),
            "horizon": np.repeat(np.arange(1, n_steps + 1), n_nodes).astype(np.int32),
            "target_time": issue.time.repeat(n_nodes),
            **{name: values[:, i] for i, name in enumerate(("mean", "q10", "q50", "q90"))},
        },
        geometry=issue.nodes.geometry.to_numpy()[node],
        crs=issue.nodes.crs,
    )


def _to_postgis(frame: gpd.GeoDataFrame, dsn: str) -> None:
    """Write a table as geopandas does."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    frame.to_postgis("by_geopandas", engine, if_exists="replace")
    engine.dispose()


def _narrow_columns(issue: STGraph) -> dict[str, tuple[object, object]]:
    """Return an issue as one row per node and horizon."""
    frame = _repeat_geometry(issue)
    return {
        "issued_at": ("timestamptz", instants(pd.Timestamp(issue.provenance["issued_at"]))),
        "node_id": ("integer", frame["node_id"].to_numpy()),
        "horizon": ("smallint", frame["horizon"].to_numpy()),
        "target_time": ("timestamptz", instants(pd.DatetimeIndex(frame["target_time"]))),
        **{name: ("real", frame[name].to_numpy()) for name in ("mean", "q10", "q50", "q90")},
    }


def _array_columns(issue: STGraph) -> dict[str, tuple[object, object]]:
    """Return an issue as one row per node."""
    by_node = issue.values.transpose(1, 2, 0)
    return {
        "issued_at": ("timestamptz", instants(pd.Timestamp(issue.provenance["issued_at"]))),
        "node_id": ("integer", np.arange(issue.n_nodes)),
        "feature_id": ("smallint", 1),
        "mean": ("real[]", np.ascontiguousarray(by_node[:, 0])),
        "quantiles": ("real[]", np.ascontiguousarray(by_node[:, 1:])),
    }


def _prepare_files(
    db: psycopg.Connection, narrow: dict[str, tuple[object, object]]
) -> dict[str, tuple[str, str]]:
    """Let the server write the files that it is going to load, and return table and file."""
    folder = db.execute("SHOW data_directory").fetchone()[0]
    arrays = (
        "issued_at timestamptz, node_id integer, feature_id smallint, mean real[], quantiles real[]"
    )
    db.execute(f"DROP TABLE IF EXISTS bench; CREATE TABLE bench ({_NARROW})")
    copy_arrays(db, psycopg.sql.Identifier("bench"), narrow)
    db.execute(f"COPY bench TO '{folder}/narrow.copy' (FORMAT BINARY)")
    db.execute(
        "COPY (SELECT issued_at, node_id, feature_id, mean, quantiles FROM stgraph.forecast "
        "WHERE issued_at = (SELECT issued_at FROM stgraph.current_issue) ORDER BY node_id) "
        f"TO '{folder}/arrays.copy' (FORMAT BINARY)"
    )
    return {
        "narrow": (_NARROW, f"{folder}/narrow.copy"),
        "arrays": (arrays, f"{folder}/arrays.copy"),
    }


# ------------------------------------------------------------------------------------ reading


def _build_naive(db: psycopg.Connection, n_issues: int) -> None:
    """Make the table that to_postgis makes, with all issues, and its index."""
    db.execute("DROP TABLE IF EXISTS naive")
    db.execute(
        "CREATE TABLE naive AS "
        "SELECT r.issued_at, f.node_id, h AS horizon, r.first_target + (h - 1) * r.step "
        "AS target_time, f.mean[h] AS mean, f.quantiles[1][h] AS q10, f.quantiles[2][h] AS q50, "
        "f.quantiles[3][h] AS q90, n.geom AS geometry, n.id FROM stgraph.run r "
        "JOIN stgraph.forecast f USING (issued_at) JOIN stgraph.node n USING (node_id) "
        "CROSS JOIN generate_series(1, 12) h "
        f"WHERE r.issued_at >= '{FIRST}' AND r.issued_at < '{FIRST + n_issues * STEP}'"
    )
    db.execute("CREATE INDEX ON naive USING gist (geometry)")


def _sizes(db: psycopg.Connection, n_segments: int) -> list[Row]:
    """Return bytes per node, horizon and issue, indexes included."""
    n_rows = db.execute("SELECT count(*) * 12 FROM stgraph.forecast").fetchone()[0]
    ours = _scalar(
        db,
        "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('stgraph.forecast')",
    )
    layer = _scalar(
        db,
        "SELECT sum(pg_total_relation_size(relid)) "
        "FROM pg_partition_tree('stgraph.forecast_latest')",
    )
    naive = _scalar(
        db, "SELECT pg_total_relation_size('naive')::float / (SELECT count(*) FROM naive)"
    )
    narrow = _scalar(
        db, "SELECT pg_total_relation_size('bench')::float / (SELECT count(*) FROM bench)"
    )
    return [
        Row("naive table, bytes per row", naive, "B"),
        Row("narrow rows with key, bytes per row", narrow, "B"),
        at_most("forecast, bytes per node, horizon and issue", ours / n_rows, "B", 60),
        Row("forecast_latest, bytes per node and horizon, once", layer / (n_segments * 12), "B"),
    ]


def _scalar(db: psycopg.Connection, query: str) -> float:
    """Return the one number of a query."""
    return float(db.execute(query).fetchone()[0])


def _queries(db: psycopg.Connection, repeats: int) -> list[Row]:
    """Time what QGIS, a tile server and a person ask."""
    low = db.execute("SELECT target_time FROM stgraph.forecast_latest_h6 LIMIT 1").fetchone()[0]
    frame = (
        f"((target_time >= '{low:%Y-%m-%d %H:%M:%S}' AND target_time < "
        f"'{low + STEP:%Y-%m-%d %H:%M:%S}') OR target_time IS NULL)"
    )
    layer, one = "stgraph.forecast_latest", "stgraph.forecast_latest_h6"
    latest = "issued_at = (SELECT max(issued_at) FROM naive)"
    shape = "SELECT ST_AsBinary(geom, 'NDR'), fid, speed FROM"
    tile = "ST_AsMVTGeom(ST_Transform({}, 3857), ST_Transform(" + _BOX + ", 3857)::box2d)"
    series = f"FROM stgraph.forecast_value WHERE node_id = '{_NODE}'"
    queries = {
        "box": f"{shape} {one} WHERE geom && {_BOX}",
        "naive box": "SELECT ST_AsBinary(geometry, 'NDR'), mean FROM naive "
        f"WHERE geometry && {_BOX} AND horizon = 6 AND {latest}",
        "box frame": f"{shape} {layer} WHERE geom && {_BOX} AND {frame}",
        "series": f"SELECT target_time, speed FROM {layer} WHERE node_id = '{_NODE}'",
        "naive series": f"SELECT target_time, mean FROM naive WHERE id = '{_NODE}' AND {latest}",
        "all issues": f"SELECT issued_at, target_time, mean {series}",
        "frame": f"{shape} {layer} WHERE geom && ST_MakeEnvelope(0, 40, 20, 50, 4326) AND {frame}",
        "identify": f"SELECT * FROM {layer} WHERE fid = 6000017",
        "tile": f"SELECT ST_AsMVT(q) FROM (SELECT {tile.format('geom')}, fid, speed FROM {one} "
        f"WHERE geom && {_BOX}) q",
        "naive tile": f"SELECT ST_AsMVT(q) FROM (SELECT {tile.format('geometry')}, mean FROM naive "
        f"WHERE geometry && {_BOX} AND horizon = 6 AND {latest}) q",
    }
    ms: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, query in queries.items():
            fetch = _fetch if "series" in name or name == "all issues" else _fetch_as_qgis
            began = time.perf_counter()
            fetch(db, query)
            ms.setdefault(name, []).append(1000 * (time.perf_counter() - began))
    at = {name: statistics.median(values) for name, values in ms.items()}
    return [
        Row("box of 2,000 segments, naive table", at["naive box"], "ms"),
        at_most("box of 2,000 segments, one horizon", at["box"], "ms", 30),
        at_least("box: naive / ours", at["naive box"] / at["box"], "x", 20),
        at_most("box of 2,000 segments, one frame of all horizons", at["box frame"], "ms", 30),
        Row("series of a node, naive table", at["naive series"], "ms"),
        at_most("series of a node, latest issue", at["series"], "ms", 1),
        at_most("series of a node, all issues", at["all issues"], "ms", 10),
        at_most("frame of all segments", at["frame"], "ms", 200),
        at_most("identify by key", at["identify"], "ms", 2),
        Row("vector tile, naive table", at["naive tile"], "ms"),
        at_most("vector tile of 2,000 segments", at["tile"], "ms", 40),
    ]


def _fetch(db: psycopg.Connection, query: str) -> None:
    """Read a query as a person or a program does."""
    db.execute(query).fetchall()


def _fetch_as_qgis(db: psycopg.Connection, query: str) -> None:
    """Read a query to its end, binary and 2,000 rows at a time."""
    with db.transaction():
        db.execute(f"DECLARE qgis BINARY NO SCROLL CURSOR FOR {query}")
        while len(db.execute("FETCH FORWARD 2000 FROM qgis").fetchall()) == 2000:
            pass


if __name__ == "__main__":
    main(__doc__ or "", measure)
