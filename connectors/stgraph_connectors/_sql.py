"""Any database that SQLAlchemy knows: where it is, what is in it, and its rows in chunks."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.pool import NullPool

from stgraph.errors import DataError, InputError, nearest_name
from stgraph.report import Report
from stgraph_connectors._ids import shorten

_DRIVERS = {  # name without driver -> the driver that is installed with us
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}
_BACKENDS = ("postgresql", "sqlite", "mysql", "mariadb", "oracle", "mssql")
_SECRET_WORDS = ("password", "secret", "token", "key", "pwd")
_COMMENTS = r"(?:\s|--[^\n]*\n|/\*(?s:.*?)\*/)*"
_QUERY = re.compile(rf"{_COMMENTS}\(*{_COMMENTS}(?:select|with|values)\b", re.IGNORECASE)
_SAMPLE_ROWS = 200  # rows looked at to find out what a source holds
_ALIAS = "stgraph_query"


@dataclass(frozen=True)
class Source:
    """A table or query of a database, and its first rows."""

    name: str  # how messages call it
    columns: tuple[str, ...]
    sample: pd.DataFrame
    clause: Any  # what SQLAlchemy selects from


# ---------------------------------------------------------------- URLs


def parse_url(text: str) -> URL:
    """Return a database URL with its driver; no message repeats what is in it.

    Raises
    ------
    InputError
        It is no URL, or one whose parts cannot be told apart.
    """
    advice = "write postgresql://user@host:5432/database or sqlite:////folder/file.db"
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError, TypeError, AttributeError):  # a port that is no number
        raise InputError(f"`database_url` is no database URL; {advice}") from None
    if "@" in f"{url.host or ''}{url.database or ''}":
        raise InputError(
            "`database_url` has several @; write an @ that belongs to the password as %40"
        )
    if "service" in url.query and url.host is None and not url.drivername.startswith("postgres"):
        raise InputError(f"`database_url` names a service, which only PostgreSQL has; {advice}")
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def describe_url(text: str) -> str:
    """Return where a database URL leads, without user and secrets.

    Raises
    ------
    InputError
        It is no URL; the message does not repeat it.
    """
    url = parse_url(text)
    backend = url.get_backend_name()
    if backend == "sqlite":
        return f"SQLite file {Path(url.database).name!r}" if url.database else "SQLite in memory"
    if "service" in url.query:
        return f"{backend} service {url.query['service']!r}"
    host = url.host or url.query.get("host") or "the local server"
    port = f", port {url.port}" if url.port else ""
    return f"{backend} database {url.database or url.query.get('dbname') or '?'!r} on {host}{port}"


def resolve_url(text: str, folder: Path | None) -> str:
    """Return a URL whose SQLite file is found from a folder; other URLs stay as they are.

    Raises
    ------
    InputError
        It is no URL; the message does not repeat it.
    """
    url = parse_url(text)
    file = _sqlite_file(url)
    if folder is None or file is None or file.is_absolute():
        return text
    return url.set(database=str(folder / file)).render_as_string(hide_password=False)


def _sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL; None in memory, and for other databases."""
    name = url.database
    if url.get_backend_name() != "sqlite" or not name or name.startswith((":", "file:")):
        return None
    return Path(name)


# ---------------------------------------------------------------- connections


@contextmanager
def open_database(text: str) -> Iterator[Connection]:
    """Open a database to read from; all that is read is of one moment where it can be.

    Raises
    ------
    InputError
        The URL is none.
    DataError
        The driver is missing, the server cannot be reached, refuses us or a statement; the
        message shows no secret.
    """
    url = parse_url(text)
    file = _sqlite_file(url)
    if file is not None and not file.is_file():  # SQLite would make an empty one
        beside = [path.name for path in file.parent.glob("*")] if file.parent.is_dir() else []
        raise DataError(
            f"`database_url`: no SQLite file {file.name!r}{nearest_name(file.name, beside)}; "
            "check the path: three slashes before a relative one, four before an absolute one"
        )
    engine = _create_engine(url)
    try:
        with engine.connect() as connection:
            if url.get_backend_name() == "postgresql":
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            elif url.get_backend_name() == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            yield connection
    except exc.SQLAlchemyError as error:
        raise DataError(_explain(error, url)) from None  # its text may hold what was sent
    finally:
        engine.dispose()


def _create_engine(url: URL) -> sa.Engine:
    """Return an engine, or say which driver is missing."""
    backend = url.get_backend_name()
    try:
        return sa.create_engine(url, poolclass=NullPool, hide_parameters=True)
    except exc.NoSuchModuleError:
        # a short name is near to a long one only if the beginning counts
        near = nearest_name(backend, _BACKENDS) or next(
            (f" (did you mean {name!r}?)" for name in _BACKENDS if name[:3] == backend[:3]), ""
        )
        raise DataError(
            f"`database_url` names the database {url.drivername!r}, which SQLAlchemy does not "
            f"know{near}; use one of {list(_BACKENDS)}, or install its dialect"
        ) from None
    except ModuleNotFoundError as error:
        raise DataError(
            f"`database_url` needs the driver {error.name!r}, which is not installed; "
            f"run: pip install {error.name}"
        ) from None


def _explain(error: exc.SQLAlchemyError, url: URL) -> str:
    """Return the first line of what the database said, without secrets."""
    reason = str(getattr(error, "orig", None) or error).strip()
    lines = [line.strip() for line in reason.splitlines() if line.strip()] or ["no reason given"]
    text = "; ".join(lines[:2])
    secrets = [str(url.password)] if url.password else []
    for name, value in url.query.items():
        if any(word in name.lower() for word in _SECRET_WORDS):
            secrets += [value] if isinstance(value, str) else list(value)
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    for user in (url.username, url.query.get("user")):
        if isinstance(user, str):  # servers quote it
            text = re.sub(rf"""(['"]){re.escape(user)}\1""", r"\1***\1", text)
    where = describe_url(url.render_as_string(hide_password=False))
    return f"{where} cannot be read: {text[:400]}; check the URL, the rights and the query"


# ---------------------------------------------------------------- tables and queries


def find_source(connection: Connection, text: str, *, role: str, report: Report) -> Source | None:
    """Return a table, view or query by its name or text, or note why there is none.

    Parameters
    ----------
    connection
        As `open_database` yields it.
    text
        ``table``, ``schema.table``, or a query that begins with SELECT, WITH or VALUES.
    role
        Name of the option, for messages.
    report
        Takes the findings.
    """
    if not isinstance(text, str) or not text.strip():
        report.error(f"`{role}`", f"is {text!r}", "name a table, or write a SELECT query")
        return None
    if _QUERY.match(text):
        name, clause = f"query of `{role}`", _query_clause(text)
    else:
        table = _find_table(connection, text.strip(), role, report)
        if table is None:
            return None
        name, clause = f"table {text.strip()!r}", table
    statement: Any = sa.select(sa.literal_column("*")).select_from(clause).limit(_SAMPLE_ROWS)
    result = connection.execute(statement)
    columns = [str(key) for key in result.keys()]  # noqa: SIM118 - keys of a result
    twice = sorted({key for key in columns if columns.count(key) > 1})
    if twice:
        report.error(name, f"columns appear twice: {twice[:5]}", "name each with AS")
        return None
    sample = pd.DataFrame(list(map(tuple, result.fetchall())), columns=columns, dtype=object)
    return Source(name, tuple(columns), sample, clause)


def stream_rows(
    connection: Connection,
    source: Source,
    columns: Sequence[str],
    *,
    where: Sequence[Any] = (),
    chunk_rows: int,
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield rows in lists of at most `chunk_rows`, through a cursor of the server.

    Parameters
    ----------
    connection, source
        As `open_database` and `find_source` gave them.
    columns
        Names of the columns wanted.
    where
        Conditions of SQLAlchemy; their values go as parameters.
    chunk_rows
        Rows in memory at once.
    """
    chosen: list[Any] = [sa.column(name) for name in columns]
    statement = sa.select(*chosen).select_from(source.clause).where(*where)
    streaming = connection.execution_options(stream_results=True, yield_per=chunk_rows)
    with streaming.execute(statement) as result:
        for part in result.partitions():
            yield [tuple(row) for row in part]


def _query_clause(text: str) -> Any:
    """Return a query in brackets, whose colons and percent signs are just that."""
    plain = text.strip().rstrip(";").replace(":", r"\:")
    return sa.text(f"(\n{plain}\n) {_ALIAS}")  # a comment at its end must not hide the bracket


def _find_table(connection: Connection, text: str, role: str, report: Report) -> Any | None:
    """Return a table or view, or note that there is none, with the nearest one."""
    inspector = sa.inspect(connection)
    if inspector.has_table(text):  # views, too
        return sa.table(text)
    schema, _, name = text.rpartition(".")
    schemas = inspector.get_schema_names()
    if schema in schemas and inspector.has_table(name, schema=schema):
        return sa.table(name, schema=schema)
    known = _table_names(inspector, schema if schema in schemas else None)
    hint = nearest_name(name if schema in schemas else text, known)
    ranked = difflib.get_close_matches(text, known, n=len(known), cutoff=0.0)
    todo = f"there are {shorten(ranked or known)}" if known else "the database has no table"
    report.error(f"`{role}`", f"no table {text!r}{hint}", f"{todo}; or write a SELECT query")
    return None


def _table_names(inspector: sa.Inspector, schema: str | None) -> list[str]:
    """Return the names of tables and views."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exc.SAWarning)  # of types of others
        return sorted([*inspector.get_table_names(schema), *inspector.get_view_names(schema)])
