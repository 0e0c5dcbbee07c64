"""Styles that arrive by themselves when QGIS opens a layer, as rows of `public.layer_styles`.

QGIS looks there for the default style of a table and takes it without being asked. The rows are
what QGIS itself would write, so its style dialogs list them as well. What a user changed in QGIS
is left alone: we know our own rows by their fingerprints, which `dataset.styles` remembers.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import LiteralString

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql

from stgraph.graph import Feature, STGraph
from stgraph_connectors.postgis.connect import Connection, execute, qualified
from stgraph_connectors.postgis.layers import Column
from stgraph_connectors.postgis.roles import has_roles, role_names
from stgraph_connectors.qgis import (
    GeometryKind,
    LayerView,
    build_support_qml,
    geometry_kind,
)
from stgraph_connectors.sinks._layer_styles import (
    NamedStyle,
    build_metric_styles,
    build_value_styles,
)
from stgraph_connectors.styles import Style, feature_title

logger = logging.getLogger(__name__)

_FORMAT = 2  # a higher one writes all styles anew
_NOTE = "made by stgraph; a style that you change in QGIS stays as you made it"
# what the publication can do without: rights, an odd table, a server without XML
_DISPENSABLE = (
    psycopg.ProgrammingError,
    psycopg.IntegrityError,
    psycopg.DataError,
    psycopg.NotSupportedError,
)
# word for word what QGIS 3.22 creates
_TABLE: LiteralString = (
    "CREATE TABLE public.layer_styles (id SERIAL PRIMARY KEY, f_table_catalog varchar, "
    "f_table_schema varchar, f_table_name varchar, f_geometry_column varchar, stylename text, "
    "styleqml xml, stylesld xml, useasdefault boolean, description text, "
    "owner varchar(63) DEFAULT CURRENT_USER, ui xml, "
    "update_time timestamp DEFAULT CURRENT_TIMESTAMP, type varchar)"
)


@dataclass(frozen=True)
class _Memory:
    """What we wrote for a layer the last time."""

    key: str = ""
    default: str = ""  # name of the style that the layer opened with
    tables: Mapping[str, Mapping[str, str]] | None = None  # table -> style name -> fingerprint

    def is_ours(self, table: str, name: str, qml: str | None) -> bool:
        """Tell whether a stored style is still what we wrote."""
        return (self.tables or {}).get(table, {}).get(name) == _fingerprint(qml or "")


@dataclass(frozen=True)
class _About:
    """What is known about a layer before its styles are made."""

    database: str  # QGIS finds styles by it
    geometry: GeometryKind
    parts: Sequence[str]  # tables that hold its rows
    columns: Sequence[Column]  # without the key, the node and the geometry
    memory: _Memory

    @property
    def instants(self) -> list[str]:
        """Columns that say when the values are true, where no text says it in local time."""
        if any(column.name == "local_time" for column in self.columns):
            return []
        found = [column.name for column in self.columns if column.type == "timestamptz"]
        return [name for name in found if name != "issued_at"]

    @property
    def texts(self) -> list[str]:
        """Columns with text, such as the line of blocks."""
        return [column.name for column in self.columns if column.type == "text"]


def write_styles(
    connection: Connection,
    schema: str,
    graph: STGraph,
    *,
    layer: str,
    columns: Sequence[str],
    time_column: str | None = None,
    step: pd.Timedelta | None = None,
    style: Style | None = None,
) -> bool:
    """Write a style per feature of a layer with values, unless they are there already.

    The classes are chosen once: as long as features, geometry, tables and `style` stay what they
    are, a call changes nothing, and colours mean the same in every issue.

    Parameters
    ----------
    connection
        Inside a transaction.
    schema
        Name of the Postgres schema.
    graph
        The values of the layer; they choose the classes.
    layer
        Name of the layer; the tables that hold its parts are drawn alike, but without time.
    columns
        Column of the layer per feature of the graph.
    time_column
        Instant of a row for the temporal controller. None: the layer has no time.
    step
        How long a row is valid from its instant on.
    style
        Wishes; None chooses everything.

    Returns
    -------
    bool
        True if styles were written. If the server does not let us, a warning says what to run.
    """
    about = _look_up(connection, schema, layer)
    key = _key(about, time_column, str(step), None if style is None else asdict(style))
    if about.memory.key == key:
        return False
    others = _features_beside(connection, schema, about, columns)
    aliases = {c.name: c.name.replace("_", " ") for c in about.columns if c.type != "real"}
    support_column = "support" if "support" in about.texts else None

    def build(time_column: str | None) -> list[NamedStyle]:
        return build_value_styles(
            graph,
            columns,
            geometry=about.geometry,
            style=style,
            time_column=time_column,
            step=step,
            instant_columns=about.instants,
            text_columns=about.texts,
            support_column=support_column,
            aliases={"node_id": "node", **aliases},
        )

    plain = build(None)
    own = plain if time_column is None else build(time_column)
    beside = _number_styles(connection, schema, layer, about, others, style)
    own = _with_main(own, beside, about.memory.default if style is None else "")
    styles = dict.fromkeys(about.parts, plain) | {layer: own}
    return _try_to_write(connection, schema, layer, key, styles)


def write_metric_styles(
    connection: Connection,
    schema: str,
    features: Mapping[str, Feature],
    *,
    layer: str,
    style: Style | None = None,
    support_column: str | None = None,
) -> bool:
    """Write a style per number of a layer with one row per node, unless they are there already.

    Parameters
    ----------
    connection
        Inside a transaction in which the layer is filled.
    schema
        Name of the Postgres schema.
    features
        Column of the layer to its name and unit; the first is the default. The values are those
        of the table.
    layer
        Name of the layer's table.
    style
        Only its size of points or width of lines is used. None: as in all layers.
    support_column
        Column with what a node's values rest on: a style of its classes becomes the default.

    Returns
    -------
    bool
        True if styles were written. If the server does not let us, a warning says what to run.
    """
    about = _look_up(connection, schema, layer)
    named = [(column, feature.name, feature.unit) for column, feature in features.items()]
    key = _key(about, named, None if style is None else style.size_mm, support_column)
    if not features or about.memory.key == key:
        return False
    styles = _number_styles(connection, schema, layer, about, features, style)
    if support_column is not None:
        view = LayerView(instant_columns=about.instants, text_columns=about.texts)
        qml = build_support_qml(
            support_column,
            geometry=about.geometry,
            view=view,
            size_mm=None if style is None else style.size_mm,
        )
        plain = [replace(other, is_default=False) for other in styles]
        styles = [NamedStyle("Support", qml, is_default=True), *plain]
    return _try_to_write(connection, schema, layer, key, {layer: styles})


def write_named_styles(
    connection: Connection, schema: str, styles: Sequence[NamedStyle], *, layer: str
) -> bool:
    """Write styles that are ready unless they are there; if we may not, a warning says why."""
    about = _look_up(connection, schema, layer)
    key = _key(about, [(style.name, _fingerprint(style.qml)) for style in styles])
    if about.memory.key == key:
        return False
    return _try_to_write(connection, schema, layer, key, {layer: styles})


def prepare_styles(connection: Connection, schema: str) -> None:
    """Create `public.layer_styles` if it is missing, and give our roles their rights on it.

    Whoever made the table decides about it; if that is not us, a warning says what to run.
    """
    roles = _roles(connection, schema)
    try:
        with connection.transaction():
            _create_table(connection)
            _grant(connection, roles)
    except _DISPENSABLE as error:
        _warn(connection, roles, error)


# --------------------------------------------------------------------------------------- rows


def _number_styles(
    connection: Connection,
    schema: str,
    layer: str,
    about: _About,
    features: Mapping[str, Feature],
    style: Style | None,
) -> list[NamedStyle]:
    """Return a style per column, with classes for the numbers that are in the table now."""
    if not features:
        return []
    names = sql.SQL(", ").join(map(sql.Identifier, features))
    rows = execute(connection, "SELECT {} FROM {}", names, qualified(schema, layer)).fetchall()
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(features))  # NULL is NaN
    return build_metric_styles(
        {column: (feature, table[:, i]) for i, (column, feature) in enumerate(features.items())},
        geometry=about.geometry,
        n_nodes=len(rows),
        instant_columns=about.instants,
        text_columns=about.texts,
        size_mm=None if style is None else style.size_mm,
    )


def _features_beside(
    connection: Connection, schema: str, about: _About, columns: Sequence[str]
) -> dict[str, Feature]:
    """Return the features of a layer that the graph does not have: others publish them."""
    query = "SELECT name, unit FROM {} ORDER BY feature_id"
    rows = execute(connection, query, qualified(schema, "feature")).fetchall()
    known = {feature_title(Feature(name, unit)): Feature(name, unit) for name, unit in rows}
    return {
        column.name: known[column.comment]
        for column in about.columns
        if column.name not in columns and column.comment in known
    }


def _with_main(
    own: Sequence[NamedStyle], beside: Sequence[NamedStyle], before: str
) -> list[NamedStyle]:
    """Return all styles with one default: ours, or the one beside ours that was it before."""
    main = before if before in [style.name for style in beside] else None
    return [
        replace(style, is_default=style.name == main if main else i < len(own) and style.is_default)
        for i, style in enumerate([*own, *beside])
    ]


def _try_to_write(
    connection: Connection,
    schema: str,
    layer: str,
    key: str,
    styles: Mapping[str, Sequence[NamedStyle]],
) -> bool:
    """Write styles of the tables of a layer; where that is refused, say so and go on without."""
    roles = _roles(connection, schema)
    try:
        with connection.transaction():
            _create_table(connection)
            _grant(connection, roles)
            _write(connection, schema, layer, key, styles)
    except _DISPENSABLE as error:
        _warn(connection, roles, error)
        return False
    _warn_of_blind_readers(connection, roles)
    return True


def _write(
    connection: Connection,
    schema: str,
    layer: str,
    key: str,
    styles: Mapping[str, Sequence[NamedStyle]],
) -> None:
    """Replace our rows, and leave those of others and what they chose."""
    memory = _look_up(connection, schema, layer).memory
    tables = sorted({*styles, *(memory.tables or {})})
    rows = connection.execute(
        "SELECT id, f_table_name, stylename, styleqml::text, coalesce(useasdefault, false) "
        "FROM public.layer_styles WHERE f_table_catalog = current_database() "
        "AND f_table_schema = %s AND f_table_name = ANY(%s) AND f_geometry_column = 'geom' "
        "ORDER BY useasdefault, update_time",
        (schema, tables),
    ).fetchall()
    ours = [row for row in rows if memory.is_ours(row[1], row[2], row[3])]
    taken = {(row[1], row[2]) for row in rows} - {(row[1], row[2]) for row in ours}
    # who has another default than ours has chosen it
    chosen = {
        row[1]: row[2]
        for row in rows
        if row[4] and (row[2] != memory.default or (row[1], row[2]) in taken)
    }
    connection.execute(
        "DELETE FROM public.layer_styles WHERE id = ANY(%s)", ([row[0] for row in ours],)
    )
    written: dict[str, dict[str, str]] = {}
    new = []
    for table, named in styles.items():
        default = _default(named, chosen.get(table), {n for t, n in taken if t == table})
        written[table] = {}
        for style in named:
            if (table, style.name) not in taken:
                text = _ascii(style.qml)
                written[table][style.name] = _fingerprint(text)
                new.append((schema, table, style.name, text, style.name == default, _NOTE))
    with connection.cursor() as cursor:
        cursor.executemany(_INSERT, new)
    main = next((s.name for named in styles.values() for s in named if s.is_default), "")
    _remember(connection, schema, layer, _Memory(key, main, written))


_INSERT: LiteralString = (
    "INSERT INTO public.layer_styles (f_table_catalog, f_table_schema, f_table_name, "
    "f_geometry_column, stylename, styleqml, useasdefault, description) "
    "VALUES (current_database(), %s, %s, 'geom', %s, XMLPARSE(DOCUMENT %s), %s, %s)"
)


def _default(named: Sequence[NamedStyle], chosen: str | None, theirs: set[str]) -> str | None:
    """Return which of our styles the layer opens with, None if a user's own one is."""
    if chosen in theirs:
        return None
    if chosen in [style.name for style in named]:
        return chosen
    return next((style.name for style in named if style.is_default), None)


def _ascii(qml: str) -> str:
    """Return a document that every encoding of a database can hold."""
    return qml.encode("ascii", "xmlcharrefreplace").decode()


def _fingerprint(qml: str) -> str:
    """Return a fingerprint of a style as the server gives it back."""
    return hashlib.blake2b(qml.strip().encode(), digest_size=12).hexdigest()


# ------------------------------------------------------------------------------------- rights


def _create_table(connection: Connection) -> None:
    """Create the table where QGIS looks for styles, as QGIS would."""
    # two first publications at once
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('public.layer_styles'))")
    row = connection.execute("SELECT to_regclass('public.layer_styles') IS NULL").fetchone()
    if row is not None and row[0]:
        connection.execute(_TABLE)


def _grant(connection: Connection, roles: Mapping[str, str]) -> None:
    """Give our roles their rights, where we are the ones to give them."""
    row = connection.execute(
        "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class "
        "WHERE oid = 'public.layer_styles'::regclass"
    ).fetchone()
    if row is not None and row[0]:
        for statement in _grants(roles):
            connection.execute(statement)


def _grants(roles: Mapping[str, str]) -> list[sql.Composed]:
    """Return what gives our roles the rights that they need."""
    if not roles:
        return []
    writers = sql.SQL(", ").join(sql.Identifier(roles[kind]) for kind in ("owner", "writer"))
    return [
        sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON public.layer_styles TO {}").format(
            writers
        ),
        sql.SQL("GRANT USAGE ON SEQUENCE public.layer_styles_id_seq TO {}").format(writers),
        sql.SQL("GRANT SELECT ON public.layer_styles TO {}").format(
            sql.Identifier(roles["reader"])
        ),
    ]


def _warn(connection: Connection, roles: Mapping[str, str], error: Exception) -> None:
    """Say that the layers open without styles, and what to run against it."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    advice = ""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        row = connection.execute(
            "SELECT to_regclass('public.layer_styles') IS NULL, current_user"
        ).fetchone()
        missing, user = row or (False, "")
        us = {"owner": user, "writer": user, "reader": user}
        steps = [sql.SQL(_TABLE)] if missing else []
        text = "; ".join(s.as_string(connection) for s in [*steps, *_grants(roles or us)])
        advice = f". As a superuser or the table's owner, run: {text}"
    logger.warning("QGIS will not find our styles (%s): layers open plain%s", reason, advice)


def _warn_of_blind_readers(connection: Connection, roles: Mapping[str, str]) -> None:
    """Say so if the reader role may not read styles: its layers open plain, without a word."""
    if not roles:
        return
    row = connection.execute(
        "SELECT has_table_privilege(%s, 'public.layer_styles', 'SELECT')", (roles["reader"],)
    ).fetchone()
    if row is not None and not row[0]:
        logger.warning(
            "%s may not read styles: its layers open plain. As the owner of public.layer_styles, "
            "run: %s",
            roles["reader"],
            _grants(roles)[-1].as_string(connection),
        )


# --------------------------------------------------------------------------------------- state


def _look_up(connection: Connection, schema: str, layer: str) -> _About:
    """Return what is known about a layer and its styles."""
    row = execute(
        connection,
        "SELECT current_database(), geometry_type, layers -> %s, "
        # what was written is gone if the table is, as after a restore of our schema alone
        "CASE WHEN to_regclass('public.layer_styles') IS NOT NULL THEN styles -> %s END FROM {}",
        qualified(schema, "dataset"),
        parameters=(layer, layer),
    ).fetchone()
    database, geometry_type, state, memory = row or ("", None, None, None)
    return _About(
        database=database,
        geometry=geometry_kind([str(geometry_type)]),
        parts=tuple((state or {}).get("parts", ())),
        columns=tuple(Column(**column) for column in (state or {}).get("columns", ())),
        memory=_Memory(**(memory or {})),
    )


def _roles(connection: Connection, schema: str) -> dict[str, str]:
    """Return the group roles of a schema by kind, none where it has none."""
    return role_names(schema) if has_roles(connection, schema) else {}


def _remember(connection: Connection, schema: str, layer: str, memory: _Memory) -> None:
    """Note what was written for a layer."""
    execute(
        connection,
        "UPDATE {} SET styles = styles || %s::jsonb",
        qualified(schema, "dataset"),
        parameters=(json.dumps({layer: asdict(memory)}),),
    )


def _key(about: _About, *parts: object) -> str:
    """Return a fingerprint of everything that asks for other styles."""
    known = (about.database, about.geometry, about.parts, list(map(asdict, about.columns)))
    text = json.dumps([_FORMAT, *known, *parts], default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
