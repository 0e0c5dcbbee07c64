"""Connections to PostgreSQL: pinned settings, bounded retries, messages without secrets.

A DSN is any libpq connection string: ``service=traffic``, ``postgresql://...`` or
``host=... dbname=...``, with its TLS options. Passwords belong into ``~/.pgpass`` or the service
file; wherever they are, no message, log or file of ours shows them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, Self, TypeVar
from urllib.parse import quote

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.abc import AdaptContext
from psycopg.conninfo import conninfo_to_dict

from stgraph.errors import DataError, InputError, OutputError

logger = logging.getLogger(__name__)

Connection = psycopg.Connection[tuple[Any, ...]]
Result = TypeVar("Result")

_SECRETS = (
    "password",
    "sslpassword",
    "oauth_client_secret",
    "scram_client_key",
    "scram_server_key",
)
_LOST = (psycopg.OperationalError, psycopg.InterfaceError)
# what may work when it is done again; a statement timeout (57014) is not among them
_PASSING = (
    pg.SerializationFailure,
    pg.DeadlockDetected,
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.LockNotAvailable,
    pg.TooManyConnections,
)
_LONGEST_S = 2_000_000.0  # what the server takes, in milliseconds, has 31 bits
# a peer that vanished is noticed within a minute, on both sides: its locks must go
_KEEPALIVES = {"idle": 30, "interval": 10, "count": 3}


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
        enough = self.attempts >= 1 and self.connect_timeout_s >= 1
        if not (enough and 0 < self.lock_timeout_s <= _LONGEST_S):
            raise InputError(f"{self!r}: give at least one attempt, and timeouts above 0")
        if not (0 <= self.statement_timeout_s <= _LONGEST_S and 0 <= self.pause_s <= _LONGEST_S):
            raise InputError(f"{self!r}: give seconds from 0 to {_LONGEST_S:,.0f}")


class _UnreachableError(OutputError):
    """No connection; private, as only the loop below wants to tell it from others."""

    is_refusal = False  # the server is up and does not want us, or the DSN names no server


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
    port = f", port {parts['port']}" if parts.get("port") else ""
    return f"database {parts.get('dbname', 'of the user')!r} on {host}{port}"


@contextmanager
def connect(
    dsn: str,
    *,
    patience: Patience | None = None,
    autocommit: bool = False,
    read_only: bool = False,
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
    read_only
        All that is read is of one moment, whatever is published meanwhile; nothing can be written.
    application_name
        Shown to the administrator, unless the DSN names another.

    Yields
    ------
    Connection
        In UTC, with nothing but the system's own on its `search_path`: all other names must be
        qualified, those of PostGIS with `spatial`. A % in a quoted name is just that. Unless
        `autocommit`, the settings hold for one transaction, so that a pool between us and the
        server can do no harm.

    Raises
    ------
    InputError
        The DSN is no connection string.
    OutputError
        The server cannot be reached or refuses us; the message shows no secret.
    """
    patience = patience or Patience()
    connection = _open(dsn, patience, application_name)
    with connection:
        connection.cursor_factory = _Cursor
        connection.server_cursor_factory = _ServerCursor
        connection.prepare_threshold = None  # a pool between us and the server mixes them up
        levels = psycopg.IsolationLevel
        connection.isolation_level = levels.REPEATABLE_READ if read_only else levels.READ_COMMITTED
        connection.read_only = read_only or None
        connection.autocommit = autocommit
        _pin(connection, patience)
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
    DataError
        A text has half a character, which no database keeps.
    OutputError
        It did not work, and nothing of it is left; says what and how often it was tried.
    """
    patience = patience or Patience()
    pause = patience.pause_s
    refusals = 0
    for attempt in range(1, patience.attempts + 1):
        finishing = False
        try:
            with connect(dsn, patience=patience) as connection:
                result = work(connection)
                finishing = True  # from here on a lost connection leaves it open what happened
            return result
        except UnicodeEncodeError as error:
            raise DataError(
                f"{error.object[:60]!r} has a character that no database keeps; change that text"
            ) from error
        except (psycopg.Error, _UnreachableError) as error:
            refusals = refusals + 1 if _is_refusal(error) else 0
            if attempt == patience.attempts or refusals > 1 or not _passes(error):
                cause = error if isinstance(error, psycopg.Error) else None
                unknown = finishing and _is_lost(error)
                raise _as_output_error(error, dsn, attempt, unknown=unknown) from cause
            logger.warning(
                "%s; trying again in %.1f s (%d of %d)",
                _what_failed(error, dsn),
                pause,
                attempt + 1,
                min(2, patience.attempts) if refusals else patience.attempts,
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
            f"{describe_dsn(dsn)}: could not {doing}: {_first_line(error)}{_advice(error)}"
        ) from error


def qualified(schema: str, name: str) -> sql.Identifier:
    """Return a quoted, schema-qualified name."""
    return sql.Identifier(schema, name)


def spatial(connection: Connection, name: str) -> sql.Identifier:
    """Return the qualified name of a type or function of PostGIS, whatever schema it is in.

    Raises
    ------
    OutputError
        The database has no PostGIS.
    """
    row = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'postgis'"
    ).fetchone()
    if row is None:
        raise OutputError(
            f"database {connection.info.dbname!r} has no PostGIS; as a superuser, run in it: "
            "CREATE EXTENSION postgis"
        )
    return sql.Identifier(row[0], name)


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


def _open(dsn: str, patience: Patience, application_name: str) -> Connection:
    """Return a new connection; no error of it shows a secret."""
    parts = _parse(dsn)
    # the DSN, the service file or PGAPPNAME may name another
    parts.setdefault("fallback_application_name", application_name)
    parts.setdefault("connect_timeout", patience.connect_timeout_s)
    for name, value in _KEEPALIVES.items():
        parts.setdefault(f"keepalives_{name}", value)
    parts["client_encoding"] = "UTF8"
    try:
        return psycopg.connect(**parts)
    except psycopg.Error as error:
        reason = _masked(error, parts)
        advice = "check the address, the service file and the password file"
        if "SSL" in reason:
            advice = "check `sslmode` and the certificates, here and on the server"
        problem = _UnreachableError(f"{describe_dsn(dsn)} cannot be reached: {reason}; {advice}")
        problem.is_refusal = not _is_crowded(reason) and _is_in_vain(parts)
    raise problem  # outside, so that the driver's own error does not hang on to it


class _Cursor(psycopg.Cursor[tuple[Any, ...]]):
    """A cursor that tells a % in a name or literal from the place of a parameter."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        return super().execute(_with_doubled_signs(query, params, self), params, **options)

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        super().executemany(_with_doubled_signs(query, (), self), params_seq, **options)


class _ServerCursor(psycopg.ServerCursor[tuple[Any, ...]]):
    """The same for a cursor that is read in chunks."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        return super().execute(_with_doubled_signs(query, params, self), params, **options)


def _with_doubled_signs(query: Any, params: Any, context: AdaptContext) -> Any:
    """Double each % in the quoted parts of a composed query, as those in its text are by hand."""
    if isinstance(query, sql.Composed) and params is not None:
        return sql.Composed([_with_doubled_signs(part, params, context) for part in query])
    if isinstance(query, (sql.Identifier, sql.Literal)) and params is not None:
        return sql.SQL(query.as_string(context).replace("%", "%%"))
    return query


def _is_in_vain(parts: dict[str, Any]) -> bool:
    """Tell whether a server takes connections, though not this one, or none can be asked."""
    address = psycopg.conninfo.make_conninfo(**parts).encode()
    # no attempt: a service that is not in the file, a value that no option has
    return psycopg.pq.PGconn.ping(address) in (psycopg.pq.Ping.OK, psycopg.pq.Ping.NO_ATTEMPT)


def _is_crowded(reason: str) -> bool:
    """Tell whether the server had no place left; it gives no code, only English text."""
    return "too many" in reason or "connection slots" in reason


def _parse(dsn: str) -> dict[str, Any]:
    """Return the parts of a DSN; what libpq says about a bad one may hold the password."""
    if not isinstance(dsn, str) or not dsn.strip() or "\x00" in dsn:
        raise InputError("`dsn` is empty; give a connection string such as 'service=traffic'")
    try:
        parts = conninfo_to_dict(dsn)
    except (psycopg.Error, UnicodeError):
        parts = None
    if parts is None:
        raise InputError(
            "`dsn` is no connection string; write 'service=traffic', 'host=... dbname=...' or "
            "'postgresql://user@host/db' (its text is not shown, as it may hold a password)"
        )
    known = {name: value for name, value in parts.items() if value is not None}
    _refuse_spilt_password(dsn, known)
    return known


def _refuse_spilt_password(dsn: str, parts: dict[str, Any]) -> None:
    """Refuse a URL whose password has a / or @ in it: its rest would be shown as host or name."""
    place = dsn.partition("://")[2].partition("?")[0] if "://" in dsn.split("=")[0] else ""
    ports = str(parts.get("port", "")).split(",")
    spilt = (
        place.count("@") > 1
        or "@" in place.partition("/")[2]
        or "@" in str(parts.get("host", ""))[1:]
        or "://" in str(parts.get("dbname", ""))
        or not all(port.strip().isdecimal() or not port for port in ports)
    )
    if spilt:
        raise InputError(
            "`dsn` cannot be taken apart: is there a / or @ in the password? In a URL write %2F "
            "and %40, or better keep it in ~/.pgpass (the text is not shown, as it may hold a "
            "password)"
        )


def _pin(connection: Connection, patience: Patience) -> None:
    """Set what statements rely on; the settings of the role or in the DSN do not matter."""
    settings = {
        "search_path": "pg_catalog, pg_temp",
        "TimeZone": "UTC",
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "lock_timeout": f"{math.ceil(patience.lock_timeout_s * 1000)}ms",
        "statement_timeout": f"{math.ceil(patience.statement_timeout_s * 1000)}ms",
        "idle_in_transaction_session_timeout": "0",
        "client_min_messages": "warning",
        "standard_conforming_strings": "on",
        **{f"tcp_keepalives_{name}": str(value) for name, value in _KEEPALIVES.items()},
    }
    local = not connection.autocommit
    calls = sql.SQL(", ").join(
        sql.SQL("pg_catalog.set_config({}, {}, {})").format(name, value, local)
        for name, value in settings.items()
    )
    connection.execute(sql.SQL("SELECT {}").format(calls))


def _passes(error: Exception) -> bool:
    """Tell whether trying again may help."""
    return isinstance(error, (_UnreachableError, *_PASSING)) or _is_lost(error)


def _is_lost(error: Exception) -> bool:
    """Tell whether the connection broke."""
    if isinstance(error, (pg.AdminShutdown, pg.CrashShutdown)):
        return True
    state = getattr(error, "sqlstate", None)  # what broke has none of its own
    return isinstance(error, _LOST) and (state is None or state.startswith("08"))


def _is_refusal(error: Exception) -> bool:
    """Tell whether the server does not want us, or there is none: one more try, not five."""
    return isinstance(error, _UnreachableError) and error.is_refusal


def _as_output_error(error: Exception, dsn: str, attempts: int, *, unknown: bool) -> OutputError:
    """Return what is raised in the end."""
    often = f" after {attempts} attempts" if attempts > 1 else ""
    if isinstance(error, _UnreachableError):
        return OutputError(f"{error}{often and ' (given up' + often + ')'}")
    if unknown:
        return OutputError(
            f"{describe_dsn(dsn)}: the connection was lost at the very end{often}, and whether all "
            f"was written or nothing is not known: {_first_line(error)}; do it again, twice does "
            "no harm"
        )
    return OutputError(
        f"{describe_dsn(dsn)}: nothing was written{often}: {_first_line(error)}{_advice(error)}"
    )


def _what_failed(error: Exception, dsn: str) -> str:
    """Return where and why something failed, in one line."""
    if isinstance(error, _UnreachableError):
        return str(error)
    return f"{describe_dsn(dsn)}: {_first_line(error)}"


def _advice(error: Exception) -> str:
    """Return what to do about some errors."""
    if isinstance(error, pg.DiskFull):
        return "; free some space on the server, or prune: stgraph db prune"
    if isinstance(error, pg.LockNotAvailable):
        return "; another program holds a lock, see pg_locks on the server, then try again"
    if isinstance(error, pg.InsufficientPrivilege):
        return (
            "; let this role be granted the schema's owner or writer role (a login with NOINHERIT "
            "also needs options='-c role=...' in its DSN)"
        )
    if isinstance(error, pg.QueryCanceled):
        return "; give it more time (`statement_timeout_s`), or ask who cancelled it"
    if isinstance(error, pg.DependentObjectsStillExist):
        depends = (error.diag.message_detail or "").replace("\n", ", ")
        return f" ({depends}); drop what depends on it, publish, and make it again"
    if isinstance(error, pg.ReadOnlySqlTransaction):
        return "; this server or role only reads: connect to one that writes"
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
            secret = str(parts[name])
            text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return text
