"""A QGIS project with all layers of a dataset: grouped, coloured, with the clock switched on.

The file is written without QGIS. It holds no password: QGIS takes it from where the service file,
`~/.pgpass` or a saved authentication has it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd
import psycopg
from psycopg.conninfo import conninfo_to_dict
from pyproj import Transformer

from stgraph.errors import InputError, OutputError
from stgraph_connectors.postgis._scenario_layers import SCENARIO, scenario_layers, scenario_span
from stgraph_connectors.postgis.connect import (
    Connection,
    check_schema_name,
    connect,
    describe_dsn,
    execute,
    explained,
    qualified,
    spatial,
)
from stgraph_connectors.postgis.layers import ERRORS, FORECAST, OBSERVATION, SUPPORT
from stgraph_connectors.qgis import build_plain_qml, geometry_kind
from stgraph_connectors.sinks._files import written_aside

logger = logging.getLogger(__name__)

_VERSION = "3.22.0-Białowieża"  # the oldest QGIS that it was tried with
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_WEB_MERCATOR = 3857
_WORLD = (-20e6, -15e6, 20e6, 15e6)  # metres
_MARGIN = 0.05  # of the extent, on every side
_TYPES = {
    name.upper(): name
    for single in ("Point", "LineString", "Polygon")
    for name in (single, f"Multi{single}")
}
_SAFE = ("service", "host", "port", "dbname", "user", "sslmode")  # of a DSN, fit for a file
_CERTIFICATES = ("sslrootcert", "sslcert", "sslkey")  # QGIS knows them from elsewhere only


@dataclass(frozen=True)
class _Table:
    """A layer as the database has it, with its styles, the default first."""

    name: str
    geometry: str  # LineString
    srid: int
    styles: tuple[tuple[str, str], ...] = ()

    @property
    def horizon(self) -> int | None:
        """Steps ahead of a part of the forecast, None for all other layers."""
        match = re.fullmatch(rf"{FORECAST}_h(\d+)", self.name)
        return None if match is None else int(match[1])


@dataclass(frozen=True)
class _Clock:
    """The instants of the forecast."""

    start: pd.Timestamp
    end: pd.Timestamp  # of the last step
    step: pd.Timedelta


@dataclass(frozen=True)
class _Content:
    """What the project shows."""

    schema: str
    source: str  # how to reach the database
    tables: Mapping[str, _Table]
    clock: _Clock | None
    extent: tuple[float, float, float, float]  # in web mercator


def write_project(
    dsn: str,
    target: str | Path,
    *,
    schema: str = "stgraph",
    authcfg: str | None = None,
    fixed_time: bool = False,
    overwrite: bool = True,
) -> Path:
    """Write a QGIS project with the layers of a dataset; no password gets into the file.

    Parameters
    ----------
    dsn
        libpq connection string of anybody who may read the layers. With ``service=...`` the
        project names the service, else host, port, database and user.
    target
        The ``.qgz`` or ``.qgs`` file; its folder must exist.
    schema
        The Postgres schema.
    authcfg
        Id (7 letters and digits) of an authentication that is saved in QGIS. None: QGIS asks for
        the password, unless the service file or ``~/.pgpass`` has it.
    fixed_time
        Keep the instants of the current issue as the project's range of time. False: QGIS takes
        the range from the layers each time, so that the project opens with the issue of the day.
    overwrite
        Replace an existing file.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    InputError
        The target has another ending, or `authcfg` is no such id.
    OutputError
        The database cannot be read, has no layers, or the file cannot be written.
    """
    check_schema_name(schema)
    if authcfg is not None and not re.fullmatch("[A-Za-z0-9]{7}", authcfg):
        raise InputError(f"`authcfg` is {authcfg!r}; QGIS gives ids of 7 letters and digits")
    with written_aside(target, suffixes=(".qgz", ".qgs"), overwrite=overwrite) as path:
        with connect(dsn) as connection, explained(dsn, "read the layers"):
            content = _read_content(connection, dsn, schema, authcfg)
        text = _DOCTYPE + ET.tostring(
            _build_project(content, fixed_time=fixed_time), encoding="unicode"
        )
        if path.suffix.lower() == ".qgs":
            path.write_text(text, encoding="utf-8")
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"{Path(target).stem}.qgs", text)
    return Path(target)


# ------------------------------------------------------------------------------------- reading


def _read_content(connection: Connection, dsn: str, schema: str, authcfg: str | None) -> _Content:
    """Look up what there is; a reader may see all of it."""
    tables = _read_tables(connection, schema)
    if not tables:
        raise OutputError(
            f"{describe_dsn(dsn)}: schema {schema!r} has no layers that this user may read; "
            "publish a forecast, or connect as a member of the reader role"
        )
    return _Content(
        schema=schema,
        source=_source(connection, dsn, authcfg),
        tables=_add_styles(connection, schema, tables),
        clock=_read_clock(connection, schema, tables),
        extent=_read_extent(connection, schema, tables),
    )


def _read_tables(connection: Connection, schema: str) -> dict[str, _Table]:
    """Return our layers that we may read, those of the forecast first, by horizon."""
    rows = execute(
        connection,
        "SELECT f_table_name, type, srid FROM {} WHERE f_table_schema = %s "
        "AND f_geometry_column = 'geom'",
        spatial(connection, "geometry_columns"),
        parameters=(schema,),
    ).fetchall()
    found = [_Table(name, _TYPES.get(kind, kind), srid) for name, kind, srid in rows]
    known = (FORECAST, OBSERVATION, ERRORS, SUPPORT, *scenario_layers(connection, schema))
    ours = [t for t in found if t.name in known or t.horizon is not None]
    return {table.name: table for table in sorted(ours, key=lambda t: (t.horizon or 0, t.name))}


def _add_styles(
    connection: Connection, schema: str, tables: Mapping[str, _Table]
) -> dict[str, _Table]:
    """Return the tables with their styles, quiet grey ones where there are none."""
    rows: list[tuple[str, str, str]] = []
    try:
        with connection.transaction():
            rows = connection.execute(
                "SELECT f_table_name, stylename, styleqml::text FROM public.layer_styles "
                "WHERE f_table_catalog = current_database() AND f_table_schema = %s "
                "AND f_geometry_column = 'geom' AND styleqml IS NOT NULL "
                "ORDER BY useasdefault DESC NULLS LAST, update_time DESC, id",
                (schema,),
            ).fetchall()
    except psycopg.ProgrammingError as error:
        logger.warning("no styles can be read, all layers are grey: %s", error)
    styled = {}
    for name, table in tables.items():
        own = {style: qml for of, style, qml in rows if of == name}
        plain = build_plain_qml(geometry=geometry_kind([table.geometry]))
        styles = tuple(own.items()) or (("plain", plain),)
        styled[name] = _Table(name, table.geometry, table.srid, styles)
    return styled


def _read_clock(connection: Connection, schema: str, tables: Mapping[str, _Table]) -> _Clock | None:
    """Return the instants of the current forecast, from the first row of its ends."""
    parts = [table for table in tables.values() if table.horizon is not None]
    ends = [
        execute(
            connection,
            "SELECT target_time, issued_at FROM {} LIMIT 1",
            qualified(schema, part.name),
        ).fetchone()
        for part in (parts[:1] + parts[-1:])
    ]
    if not parts or ends[0] is None or ends[1] is None:
        span = scenario_span(connection, schema) if "scenario_link" in tables else None
        return None if span is None else _Clock(*span)
    (first, issued_at), (last, _) = ends[0], ends[1]
    n_steps = (parts[-1].horizon or 1) - (parts[0].horizon or 1)
    step = (last - first) / n_steps if n_steps else first - issued_at
    return _Clock(pd.Timestamp(first), pd.Timestamp(last) + step, pd.Timedelta(step))


def _read_extent(
    connection: Connection, schema: str, tables: Mapping[str, _Table]
) -> tuple[float, float, float, float]:
    """Return where the nodes are, in web mercator and with a margin."""
    # a part has every node once, few segments are changed, and areas reach too far
    large = (FORECAST, "scenario_link", "scenario_edit", "scenario_isochrone")
    table = min(tables.values(), key=lambda t: (t.name in large, t.horizon is None))
    row = execute(
        connection,
        "SELECT {}(e), {}(e), {}(e), {}(e) FROM (SELECT {}(geom) AS e FROM {}) AS all_nodes",
        *(spatial(connection, f"st_{end}") for end in ("xmin", "ymin", "xmax", "ymax")),
        spatial(connection, "st_extent"),
        qualified(schema, table.name),
    ).fetchone()
    if row is None or row[0] is None:
        return _WORLD
    transformer = Transformer.from_crs(table.srid, _WEB_MERCATOR, always_xy=True)
    west, south, east, north = transformer.transform_bounds(*row)
    margin = max(east - west, north - south, 100.0) * _MARGIN
    return west - margin, south - margin, east + margin, north + margin


def _source(connection: Connection, dsn: str, authcfg: str | None) -> str:
    """Return how QGIS reaches the database, without any secret."""
    given = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value}
    if "service" not in given:
        info = connection.info  # what the environment and libpq's defaults made of the rest
        host = given.get("host") or given.get("hostaddr") or info.host
        given |= {"host": host, "port": str(info.port), "dbname": info.dbname, "user": info.user}
        if any(name in given for name in _CERTIFICATES):
            logger.warning(
                "the project does not name certificates (%s): put them into a service file and "
                "use its name as DSN, or into an authentication saved in QGIS",
                ", ".join(name for name in _CERTIFICATES if name in given),
            )
    parts = [f"{name}={_quote(given[name])}" for name in _SAFE if given.get(name)]
    if authcfg is not None:
        parts.append(f"authcfg={authcfg}")
    return " ".join(parts)


# ------------------------------------------------------------------------------------ building


def _build_project(content: _Content, *, fixed_time: bool) -> ET.Element:
    """Return the document of the project."""
    alone = "scenario_link" in content.tables and FORECAST not in content.tables
    title = f"{content.schema}: {'scenario' if alone else 'forecast'}"
    root = ET.Element("qgis", version=_VERSION, projectname=title)
    ET.SubElement(root, "title").text = title
    _add_crs(ET.SubElement(root, "projectCrs"), _WEB_MERCATOR)
    _add_tree(root, content)
    _add_canvas(root, content.extent)
    layers = ET.SubElement(root, "projectlayers")
    for table in content.tables.values():
        _add_layer(layers, table, content)
    properties = ET.SubElement(root, "properties")
    system = ET.SubElement(properties, "SpatialRefSys")
    ET.SubElement(system, "ProjectionsEnabled", type="int").text = "1"
    if content.clock is not None:
        _add_clock(root, properties, content.clock, fixed_time=fixed_time)
    return root


def _add_tree(root: ET.Element, content: _Content) -> None:
    """Add the groups: the forecast is shown, all else is one click away."""
    tree = ET.SubElement(root, "layer-tree-group")
    tables = content.tables
    if "scenario_link" in tables:
        group = _add_group(tree, "Scenario", shown=FORECAST not in tables)
        hidden = ("scenario_link", "scenario_isochrone")
        for name in (name for name in SCENARIO if name in tables):
            _add_leaf(group, tables[name], content, shown=name not in hidden)
    if FORECAST in tables or "scenario_link" not in tables:
        _add_forecast(tree, content)
    for title, names in (("Observed", (OBSERVATION,)), ("Quality", (ERRORS, SUPPORT))):
        there = [tables[name] for name in names if name in tables]
        group = _add_group(tree, title, shown=False) if there else tree
        for table in there:
            _add_leaf(group, table, content, shown=False)


def _add_forecast(tree: ET.Element, content: _Content) -> None:
    """Add the group of the forecast and, hidden, its horizons one by one."""
    forecast = _add_group(tree, "Forecast", shown=True)
    if FORECAST in content.tables:
        _add_leaf(forecast, content.tables[FORECAST], content, shown=True)
    horizons = _add_group(forecast, "By horizon", shown=False)
    for table in content.tables.values():
        if table.horizon is not None:
            _add_leaf(horizons, table, content, shown=False)


def _add_group(parent: ET.Element, title: str, *, shown: bool) -> ET.Element:
    """Add a group of layers."""
    return ET.SubElement(
        parent,
        "layer-tree-group",
        name=title,
        expanded=str(int(shown)),
        checked="Qt::Checked" if shown else "Qt::Unchecked",
    )


def _add_leaf(parent: ET.Element, table: _Table, content: _Content, *, shown: bool) -> None:
    """Add a layer to a group."""
    ET.SubElement(
        parent,
        "layer-tree-layer",
        id=_layer_id(content.schema, table),
        name=_title(table, content.clock),
        source=_uri(table, content),
        providerKey="postgres",
        expanded=str(int(shown)),
        checked="Qt::Checked" if shown else "Qt::Unchecked",
    )


def _add_canvas(root: ET.Element, extent: Sequence[float]) -> None:
    """Let the map show all nodes."""
    canvas = ET.SubElement(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    ET.SubElement(canvas, "units").text = "meters"
    box = ET.SubElement(canvas, "extent")
    for name, value in zip(("xmin", "ymin", "xmax", "ymax"), extent, strict=True):
        ET.SubElement(box, name).text = repr(float(value))
    ET.SubElement(canvas, "rotation").text = "0"
    _add_crs(ET.SubElement(canvas, "destinationsrs"), _WEB_MERCATOR)


def _add_layer(parent: ET.Element, table: _Table, content: _Content) -> None:
    """Add a layer with its styles; the first one is drawn."""
    layer = ET.SubElement(
        parent,
        "maplayer",
        type="vector",
        geometry={"point": "Point", "line": "Line", "polygon": "Polygon"}[
            geometry_kind([table.geometry])
        ],
        wkbType=table.geometry,
    )
    ET.SubElement(layer, "id").text = _layer_id(content.schema, table)
    ET.SubElement(layer, "datasource").text = _uri(table, content)
    ET.SubElement(layer, "layername").text = _title(table, content.clock)
    _add_crs(ET.SubElement(layer, "srs"), table.srid)
    ET.SubElement(layer, "provider", encoding="").text = "postgres"
    _add_layer_styles(layer, table)
    fixed = (ERRORS, SUPPORT, *SCENARIO)
    if content.clock is not None and table.name not in fixed:  # a new issue shows up
        seconds = min(max(content.clock.step.total_seconds(), 60.0), 600.0)
        layer.set("autoRefreshEnabled", "1")
        layer.set("autoRefreshTime", str(round(seconds * 1000)))


def _add_layer_styles(layer: ET.Element, table: _Table) -> None:
    """Draw the default style, and offer the others in the menu of the layer."""
    styles = [(name, _parse(qml, table)) for name, qml in table.styles]
    current, drawn = styles[0]
    manager = ET.SubElement(layer, "map-layer-style-manager", current=current)
    for name, document in styles:
        offered = ET.SubElement(manager, "map-layer-style", name=name)
        if document is not drawn:
            offered.append(document)
    for name, value in drawn.attrib.items():
        if name not in ("version", "styleCategories"):
            layer.set(name, value)
    layer.extend(drawn)


def _parse(qml: str, table: _Table) -> ET.Element:
    """Return a style as QGIS saved it, or a plain one if it is no XML."""
    try:
        return ET.fromstring(qml)  # noqa: S314  # expat bounds what entities grow to
    except ET.ParseError as error:
        logger.warning("a style of layer %s cannot be read: %s", table.name, error)
        plain = build_plain_qml(geometry=geometry_kind([table.geometry]))
        return ET.fromstring(plain)  # noqa: S314  # our own


def _add_clock(
    root: ET.Element, properties: ET.Element, clock: _Clock, *, fixed_time: bool
) -> None:
    """Switch the temporal controller on, one frame per step."""
    value, unit = _frame(clock.step)
    settings = ET.SubElement(
        root,
        "ProjectTimeSettings",
        timeStep=value,
        timeStepUnit=unit,
        frameRate="2",
        cumulativeTemporalRange="0",
    )
    if fixed_time:  # without it QGIS asks the layers
        span = ET.SubElement(settings, "TemporalRange")
        for name, instant in (("start", clock.start), ("end", clock.end)):
            utc = instant.tz_convert("UTC")
            ET.SubElement(span, name).text = f"{utc:%Y-%m-%dT%H:%M:%SZ}"
    controller = ET.SubElement(properties, "TemporalControllerWidget")
    ET.SubElement(controller, "NavigationMode", type="int").text = "1"  # animated


def _add_crs(parent: ET.Element, srid: int) -> None:
    """Add a reference system by its code, which QGIS looks up where there is any `srsid`."""
    system = ET.SubElement(parent, "spatialrefsys")
    ET.SubElement(system, "srsid").text = str(srid)
    ET.SubElement(system, "srid").text = str(srid)
    ET.SubElement(system, "authid").text = f"EPSG:{srid}"


# --------------------------------------------------------------------------------------- names


def _layer_id(schema: str, table: _Table) -> str:
    """Return an id that stays the same from one writing to the next."""
    digest = hashlib.blake2b(f"{schema}.{table.name}".encode(), digest_size=8).hexdigest()
    return f"{table.name}_{digest}"


def _title(table: _Table, clock: _Clock | None) -> str:
    """Return what a person calls a layer."""
    if table.horizon is not None:
        return (
            f"{table.horizon} steps ahead" if clock is None else _ahead(clock.step * table.horizon)
        )
    titles = {
        FORECAST: "Forecast",
        OBSERVATION: "Latest reading",
        ERRORS: "Error by node",
        SUPPORT: "Support",
        **SCENARIO,
    }
    return titles[table.name]


def _ahead(span: pd.Timedelta) -> str:
    """Return a span as a person says it: in 45 min, in 1 h 15 min, in 2 d."""
    total = round(span.total_seconds())
    sizes = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
    parts = []
    for unit, size in sizes.items():
        if total >= size:
            parts.append(f"{total // size} {unit}")
            total %= size
    return f"in {' '.join(parts)}"


def _frame(step: pd.Timedelta) -> tuple[str, str]:
    """Return the length of a frame as QGIS writes it: a number and a unit."""
    seconds = step.total_seconds()
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return str(int(seconds // size)), unit
    return f"{seconds:g}", "s"


def _uri(table: _Table, content: _Content) -> str:
    """Return the data source of a layer in QGIS's notation."""
    name = ".".join(_quote(part, '"') for part in (content.schema, table.name))
    return (
        f"{content.source} key='fid' srid={table.srid} type={table.geometry} "
        f"checkPrimaryKeyUnicity='0' table={name} (geom)"
    )


def _quote(text: str, mark: str = "'") -> str:
    """Return a quoted value of a data source."""
    escaped = text.replace("\\", "\\\\").replace(mark, f"\\{mark}")
    return f"{mark}{escaped}{mark}"
