"""Retention: drop the oldest days of forecasts and readings without making a reader wait.

A day is first forgotten (its runs and instants go, in one transaction), then its partition is
detached CONCURRENTLY, which waits for whoever reads it and lets all others pass, then dropped. Each
step may be the last one of this call: the next one goes on from there.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString

import pandas as pd
from psycopg import errors as pg
from psycopg import sql

from stgraph.errors import InputError, OutputError
from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    connect,
    describe_dsn,
    execute,
    explained,
    qualified,
    run_transaction,
)
from stgraph_connectors.postgis.publishing import take_turn
from stgraph_connectors.postgis.roles import acting_as_owner, owner_of
from stgraph_connectors.postgis.schema import check_schema

logger = logging.getLogger(__name__)

_PARENTS = ("forecast", "observation")
_MARK = "being removed by stgraph db prune"  # a table that somebody else detached has no such mark
_LOCK = 0x5468  # class of the advisory lock; the second number is the schema
_SHORTEST = pd.Timedelta(hours=1)
_UNITS = {"h": _SHORTEST, "d": pd.Timedelta(days=1), "w": pd.Timedelta(days=7)}
_SPELT = re.compile(r"\s*(?P<count>\d{1,6}(\.\d+)?)\s*(?P<unit>[hdw])\s*")


@dataclass(frozen=True)
class Pruned:
    """What was removed."""

    schema: str
    before: pd.Timestamp  # days before this one went
    n_issues: int  # published forecasts
    n_instants: int  # instants with readings
    partitions: tuple[str, ...]  # tables dropped
    n_bytes: int  # freed on the server's disk
    postponed: tuple[str, ...]  # what could not be dropped yet, and who reads it


@dataclass(frozen=True)
class _Part:
    """The table of a day."""

    name: str
    parent: str
    day: dt.date
    is_attached: bool
    is_pending: bool  # detaching it was begun
    is_marked: bool
    n_bytes: int


def prune(
    dsn: str,
    *,
    schema: str = "stgraph",
    keep: str | dt.timedelta = "30d",
    now: pd.Timestamp | None = None,
    patience: Patience | None = None,
) -> Pruned:
    """Drop whole days (UTC) of forecasts and readings that are older than `keep`.

    Readers never wait for it; it waits for them, but not for ever. The day of the current issue
    stays, however old it is.

    Parameters
    ----------
    dsn
        libpq connection string of a member of the schema's owner role.
    schema
        The Postgres schema.
    keep
        Length of time such as ``"30d"``, ``"4w"`` or ``"36h"``, at least an hour. A day goes when
        all of it is older.
    now
        The instant to count from. None: the server's clock.
    patience
        Timeouts and number of attempts per table. None means the defaults.

    Returns
    -------
    Pruned
        What went. What somebody still reads is forgotten already, but not dropped: `postponed`
        says who reads it, and the next call goes on.

    Raises
    ------
    InputError
        `keep` is no length of time.
    OutputError
        We are no member of the owner, another call is at work, or the server is too old or gone.
    """
    patience = patience or Patience()
    length = _length(keep)

    def forget(connection: Connection) -> tuple[pd.Timestamp, dt.date | None, int, int]:
        check_schema(connection, schema, dsn=dsn)
        _check_server(connection, dsn)
        with acting_as_owner(connection, schema, "pruning"):
            return _forget(connection, schema, length, now)

    before, current, n_issues, n_instants = run_transaction(dsn, forget, patience=patience)
    dropped: list[_Part] = []
    postponed: list[str] = []
    with (
        explained(dsn, f"prune the schema {schema!r}"),
        connect(dsn, patience=patience, autocommit=True) as connection,
    ):
        _become_owner(connection, schema)
        _let_nobody_else(connection, schema, dsn)
        for parent in _PARENTS:
            for part in _parts(connection, schema, parent, before.date(), current):
                held = _remove(connection, schema, part, patience)
                if held is None:
                    dropped.append(part)
                else:
                    postponed.append(held)
                if held is not None and part.is_attached:
                    break  # one table at a time can be on its way out
    return Pruned(
        schema=schema,
        before=before,
        n_issues=n_issues,
        n_instants=n_instants,
        partitions=tuple(part.name for part in dropped if part.is_marked),
        n_bytes=sum(part.n_bytes for part in dropped if part.is_marked),
        postponed=tuple(postponed),
    )


def _length(keep: str | dt.timedelta) -> pd.Timedelta:
    """Return a length of time, which must be one that a person can mean."""
    length = pd.Timedelta(0)
    if isinstance(keep, dt.timedelta):
        length = pd.Timedelta(keep)
    elif found := _SPELT.fullmatch(str(keep)):
        length = float(found["count"]) * _UNITS[found["unit"]]
    if not length >= _SHORTEST:  # nor is it no time at all
        raise InputError(f"`keep` is {keep!r}; give a time of at least an hour such as '30d'")
    return length


def _check_server(connection: Connection, dsn: str) -> None:
    """Refuse servers that cannot detach a partition without locking its readers out."""
    if connection.info.server_version < 140_000:
        raise OutputError(
            f"{describe_dsn(dsn)} runs PostgreSQL {connection.info.server_version // 10_000}; "
            "pruning without locking readers needs 14 or newer"
        )


def _forget(
    connection: Connection, schema: str, keep: pd.Timedelta, now: pd.Timestamp | None
) -> tuple[pd.Timestamp, dt.date | None, int, int]:
    """Remove the runs and instants of old days; return the first day kept and the current one."""
    take_turn(connection, schema)
    clock, current = execute(
        connection,
        "SELECT now(), (SELECT issued_at FROM {})",
        qualified(schema, "current_issue"),
    ).fetchone()  # type: ignore[misc]  # one row, always
    instant = pd.Timestamp(clock if now is None else now)
    instant = instant.tz_localize("UTC") if instant.tz is None else instant.tz_convert("UTC")
    before = (instant - keep).floor("D")
    day = None if current is None else pd.Timestamp(current).floor("D")
    stays = before if day is None else day  # with none, an empty span
    rows = execute(
        connection,
        "DELETE FROM {} WHERE issued_at < %s AND NOT (issued_at >= %s AND issued_at < %s) "
        "RETURNING status",
        qualified(schema, "run"),
        parameters=(before, stays, stays if day is None else stays + pd.Timedelta(days=1)),
    ).fetchall()
    instants = execute(
        connection,
        "DELETE FROM {} WHERE time < %s",
        qualified(schema, "observation_time"),
        parameters=(before,),
    ).rowcount
    n_issues = sum(status == "published" for (status,) in rows)
    return before, None if day is None else day.date(), n_issues, instants


# --------------------------------------------------------------------------------- the tables


def _become_owner(connection: Connection, schema: str) -> None:
    """Go on in the owner's name; that we may was found out before."""
    owner, is_us, _ = owner_of(connection, schema)
    if not is_us:
        execute(connection, "SET ROLE {}", sql.Identifier(owner))


def _let_nobody_else(connection: Connection, schema: str, dsn: str) -> None:
    """Keep other calls out until the connection ends."""
    query = "SELECT pg_try_advisory_lock(%s, hashtext(%s))"
    row = connection.execute(query, (_LOCK, schema)).fetchone()
    if row is None or not row[0]:
        raise OutputError(
            f"{describe_dsn(dsn)}: another program is pruning the schema {schema!r}; wait for it"
        )


def _parts(
    connection: Connection, schema: str, parent: str, before: dt.date, current: dt.date | None
) -> Iterator[_Part]:
    """Yield the tables that are to go: first those that an earlier call left behind."""
    rows = connection.execute(
        "SELECT c.relname, i.inhrelid IS NOT NULL, coalesce(i.inhdetachpending, false), "
        "obj_description(c.oid, 'pg_class') IS NOT DISTINCT FROM %s, pg_total_relation_size(c.oid) "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "LEFT JOIN pg_inherits i ON i.inhrelid = c.oid "
        "WHERE n.nspname = %s AND c.relkind = 'r' AND c.relname ~ %s "
        "ORDER BY 2, 3 DESC, 1",
        (_MARK, schema, f"^{parent}_[0-9]{{8}}$"),
    ).fetchall()
    for name, is_attached, is_pending, is_marked, n_bytes in rows:
        try:
            day = dt.datetime.strptime(name[-8:], "%Y%m%d").date()  # noqa: DTZ007  # a day in UTC
        except ValueError:
            continue  # none of ours
        is_old = day < before and (parent != "forecast" or day != current)
        if is_pending or (is_old if is_attached else is_marked):
            is_marked = is_marked or (is_attached and not is_pending)  # about to be
            yield _Part(name, parent, day, is_attached, is_pending, is_marked, n_bytes)


def _remove(connection: Connection, schema: str, part: _Part, patience: Patience) -> str | None:
    """Detach and drop a table; return who is in the way after all attempts, None if it is gone."""
    pause = patience.pause_s
    for attempt in range(1, patience.attempts + 1):
        try:
            _detach_and_drop(connection, schema, part)
        except (pg.LockNotAvailable, pg.ObjectNotInPrerequisiteState) as error:
            held = f"{schema}.{part.name} {_who_reads(connection, schema, part)}"
            if attempt == patience.attempts:
                logger.warning("%s; the next prune drops it", held)
                return held
            logger.info("%s (%s); trying again in %.1f s", held, type(error).__name__, pause)
        else:
            return None
        time.sleep(pause)  # lets a publisher make its partition meanwhile
        pause *= 2
    raise AssertionError("the loop returns")


def _detach_and_drop(connection: Connection, schema: str, part: _Part) -> None:
    """Do what is left to do about a table; an earlier attempt may have begun."""
    table, parent = qualified(schema, part.name), qualified(schema, part.parent)
    state = connection.execute(
        "SELECT i.inhdetachpending FROM pg_inherits i WHERE i.inhrelid = to_regclass(%s)",
        (table.as_string(connection),),
    ).fetchone()
    if state is not None and state[0]:
        execute(connection, "ALTER TABLE {} DETACH PARTITION {} FINALIZE", parent, table)
    elif state is not None:
        execute(connection, "COMMENT ON TABLE {} IS {}", table, sql.Literal(_MARK))
        execute(connection, "ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY", parent, table)
    if part.is_marked:
        execute(connection, "DROP TABLE {}", table)


def _who_reads(connection: Connection, schema: str, part: _Part) -> str:
    """Return the programs that a table waits for: who has it open, else the oldest snapshots."""
    for query in (_WITH_A_LOCK, _WITH_A_SNAPSHOT):
        rows = connection.execute(
            query, {"schema": schema, "tables": [part.parent, part.name]}
        ).fetchall()
        if rows:
            return "is read by " + ", ".join(f"{who} (process {pid})" for who, pid in rows)
    return "is in use"


_OTHERS: LiteralString = (
    "SELECT coalesce(nullif(a.application_name, ''), 'a program'), a.pid FROM pg_stat_activity a "
    "WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() AND {} "
    "ORDER BY a.xact_start LIMIT 5"
)
_WITH_A_LOCK = sql.SQL(_OTHERS).format(
    sql.SQL(
        "a.pid IN (SELECT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(schema)s "
        "AND c.relname = ANY(%(tables)s) AND l.granted)"
    )
)
_WITH_A_SNAPSHOT = sql.SQL(_OTHERS).format(sql.SQL("a.backend_xmin IS NOT NULL"))
