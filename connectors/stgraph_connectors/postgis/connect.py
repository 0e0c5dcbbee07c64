"""Connections to PostgreSQL: pinned settings, bounded retries, messages without secrets.

A DSN is any libpq connection string: ``service=traffic``, ``postgresql://...`` or
``host=... dbname=...``, with its TLS options. Passwords belong into ``~/.pgpass`` or the service
file; wherever they are, no message, log or file of ours shows them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from stgraph.errors import InputError, OutputError

logger = logging.getLogger(__name__)

Connection = psycopg.Connection[tuple[Any, ...]]
Result = TypeVar("Result")

_SECRETS = ("password", "sslpassword")
_LOST = (psycopg.OperationalError, psycopg.InterfaceError)
# what may work when it is done again; a statement timeout (57014) is not among them
_PASSING = (
    pg.SerializationFailure,
    pg.DeadlockDetected,
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.LockNotAvailable,
)


@dataclass(frozen=True)
class Patience:
    """How long a call waits, and how often it tries again.

    Parameters
    ----------
    lock_timeout_s
        Longest wait for a lock, in seconds; whoever waits for one makes others wait.
    statement_timeout_s
        Longest single statement, in seconds. 0 means no limit.
    connect_timeout_s
        Longest wait for the server to answer, in seconds.
    attempts
        How often a transaction is tried when the connection or a lock was lost, at least 1.
    pause_s
        Wait before the second attempt; doubled before each further one.
    """

    lock_timeout_s: float = 2.0
    statement_timeout_s: float = 900.0
    connect_timeout_s: int = 10
    attempts: int = 5
    pause_s: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what would wait for ever or never try."""
        if self.attempts < 1 or self.lock_timeout_s <= 0 or self.connect_timeout_s < 1:
            raise InputError(f"{self!r}: give at least one attempt, and timeouts above 0")


def describe_dsn(dsn: str) -> str:
    """Return where a DSN leads, without its secrets: ``traffic on db.example.org``.

    Raises
    ------
    InputError
        The DSN is no connection string; the message does not repeat it.
    """
    parts = _parse(dsn)
    if "service" in parts:
        return f"service {parts['service']!r}"
    host = parts.get("host") or parts.get("hostaddr") or "the local server"
    return f"database {parts.get('dbname', 'of the user')!r} on {host}"


@contextmanager
def connect(
    dsn: str,
    *,
    patience: Patience | None = None,
    autocommit: bool = False,
    application_name: str = "stgraph",
) -> Iterator[Connection]:
    """Open a connection with pinned settings and close it at the end.

    Parameters
    ----------
    dsn
        libpq connection string; TLS options are passed on.
    patience
        Timeouts. None means the defaults.
    autocommit
        Every statement is a transaction of its own.
    application_name
        Shown to the administrator, unless the DSN names another.

    Yields
    ------
    Connection
        In UTC, with `search_path` on the system and PostGIS only: names must be qualified.

    Raises
    ------
    InputError
        The DSN is no connection string.
    OutputError
        The server cannot be reached or refuses us; the message shows no secret.
    """
    patience = patience or Patience()
    parts = _parse(dsn)
    parts.setdefault("application_name", application_name)
    parts.setdefault("connect_timeout", patience.connect_timeout_s)
    try:
        connection = psycopg.connect(**parts)
    except psycopg.Error as error:
        raise OutputError(
            f"{describe_dsn(dsn)} cannot be reached: {_masked(error, parts)}; check the address, "
            "the service file and the password file"
        ) from None
    with connection:
        connection.autocommit = True
        _pin(connection, patience)
        connection.autocommit = autocommit
        yield connection


def run_transaction(
    dsn: str, work: Callable[[Connection], Result], *, patience: Patience | None = None
) -> Result:
    """Do some work in one transaction, again after what passes: lost connections, locks.

    Parameters
    ----------
    dsn
        libpq connection string.
    work
        Called with a connection inside a transaction; doing it twice must do no harm.
    patience
        Timeouts and number of attempts. None means the defaults.

    Returns
    -------
    Any
        What `work` returned, after the commit.

    Raises
    ------
    OutputError
        It did not work, and nothing of it is left; says what and how often it was tried.
    """
    patience = patience or Patience()
    pause = patience.pause_s
    for attempt in range(1, patience.attempts + 1):
        try:
            with connect(dsn, patience=patience) as connection:
                return work(connection)
        except (psycopg.Error, OutputError) as error:
            cause = error if isinstance(error, psycopg.Error) else None
            if attempt == patience.attempts or not _passes(error):
                raise _as_output_error(error, dsn, attempt) from cause
            logger.warning(
                "%s; trying again in %.1f s (%d of %d)",
                _first_line(error),
                pause,
                attempt + 1,
                patience.attempts,
            )
        time.sleep(pause)
        pause *= 2
    raise AssertionError("the loop returns or raises")


def execute(
    connection: Connection,
    text: LiteralString,
    *names: sql.Composable,
    parameters: Sequence[object] = (),
) -> psycopg.Cursor[tuple[Any, ...]]:
    """Run a statement: `names` (quoted) go into its ``{}``, `parameters` into its ``%s``."""
    query = sql.SQL(text).format(*names)
    return connection.execute(query, parameters or None)


@contextmanager
def explained(dsn: str, doing: str) -> Iterator[None]:
    """Turn the database's errors into ours: what was being done, where, why."""
    try:
        yield
    except psycopg.Error as error:
        raise OutputError(
            f"{describe_dsn(dsn)}: could not {doing}: {_first_line(error)}"
        ) from error


def qualified(schema: str, name: str) -> sql.Identifier:
    """Return a quoted, schema-qualified name."""
    return sql.Identifier(schema, name)


def check_schema_name(schema: str) -> None:
    """Refuse names that PostgreSQL would cut or does not allow.

    Raises
    ------
    InputError
        The name is empty, longer than 40 bytes, reserved or has a character no name can have.
    """
    if not schema or len(schema.encode("utf-8", "replace")) > 40 or not schema.isprintable():
        raise InputError(f"`schema` is {schema!r}; use a name of 1 to 40 printable characters")
    if schema.startswith("pg_") or schema in ("public", "information_schema"):
        raise InputError(f"`schema` is {schema!r}, which belongs to others; use one of its own")


def _parse(dsn: str) -> dict[str, Any]:
    """Return the parts of a DSN; what libpq says about a bad one may hold the password."""
    if not isinstance(dsn, str) or not dsn.strip() or "\x00" in dsn:
        raise InputError("`dsn` is empty; give a connection string such as 'service=traffic'")
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error:
        raise InputError(
            "`dsn` is no connection string; write 'service=traffic', 'host=... dbname=...' or "
            "'postgresql://user@host/db' (its text is not shown, as it may hold a password)"
        ) from None
    return {name: value for name, value in parts.items() if value is not None}


def _pin(connection: Connection, patience: Patience) -> None:
    """Set what statements rely on; the caller's own settings in the DSN do not matter."""
    settings = {
        "TimeZone": "UTC",
        "lock_timeout": f"{round(patience.lock_timeout_s * 1000)}ms",
        "statement_timeout": f"{round(patience.statement_timeout_s * 1000)}ms",
        "idle_in_transaction_session_timeout": "0",
        "client_min_messages": "warning",
        "standard_conforming_strings": "on",
    }
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    # PostGIS may live in a schema of its own
    connection.execute(
        "SELECT set_config('search_path', concat_ws(', ', 'pg_catalog', (SELECT quote_ident("
        "n.nspname) FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n "
        "ON n.oid = e.extnamespace WHERE e.extname = 'postgis'), 'pg_temp'), false)"
    )


def _passes(error: Exception) -> bool:
    """Tell whether trying again may help."""
    if isinstance(error, OutputError):  # the server could not be reached
        return "cannot be reached" in str(error)
    if isinstance(error, _PASSING):
        return True
    # a connection that broke has no state of its own
    return isinstance(error, _LOST) and getattr(error, "sqlstate", None) is None


def _as_output_error(error: Exception, dsn: str, attempts: int) -> OutputError:
    """Return what is raised in the end."""
    if isinstance(error, OutputError):
        return error
    often = f" after {attempts} attempts" if attempts > 1 else ""
    return OutputError(
        f"{describe_dsn(dsn)}: nothing was written{often}: {_first_line(error)}{_advice(error)}"
    )


def _advice(error: Exception) -> str:
    """Return what to do about some errors."""
    if isinstance(error, pg.DiskFull):
        return "; free some space on the server, or prune: stgraph db prune"
    if isinstance(error, pg.LockNotAvailable):
        return "; another program holds a lock, see pg_locks on the server, then try again"
    if isinstance(error, pg.InsufficientPrivilege):
        return "; connect as a member of the schema's owner or writer role"
    if isinstance(error, pg.QueryCanceled):
        return "; give it more time: `statement_timeout_s`"
    return ""


def _first_line(error: Exception) -> str:
    """Return the first line of an error."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _masked(error: Exception, parts: dict[str, Any]) -> str:
    """Return what the server said, without the secrets of the DSN."""
    text = " ".join(str(error).split())
    for name in _SECRETS:
        if parts.get(name):
            text = text.replace(str(parts[name]), "***")
    return text
