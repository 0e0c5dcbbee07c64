"""COPY in binary: what the server keeps is what NumPy had, bit by bit."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pandas as pd
import psycopg
import pytest
from psycopg import sql
from stgraph_connectors.postgis import copying
from stgraph_connectors.postgis.connect import connect
from stgraph_connectors.postgis.copying import Kind, copy_arrays, copy_records, instants

from stgraph.errors import InputError

pytestmark = pytest.mark.postgis

ODD_REALS = np.array(
    [0.0, -0.0, 1.5, -1.5, np.nan, np.inf, -np.inf, 1e-45, 3.4028235e38, 16_777_217], np.float32
)
SEND = {  # the server's own binary form of a value
    "smallint": "int2send",
    "integer": "int4send",
    "bigint": "int8send",
    "real": "float4send",
    "timestamptz": "timestamptz_send",
    "text": "textsend",
    "real[]": "array_send",
}
VALUES: dict[str, Any] = {
    "smallint": np.array([-32768, -1, 0, 1, 32767], np.int64),
    "integer": np.array([-(2**31), -1, 0, 1, 2**31 - 1], np.int64),
    "bigint": np.array([-(2**63), -1, 0, 1, 2**63 - 1], np.int64),
    "real": ODD_REALS,
    "timestamptz": instants(
        pd.DatetimeIndex(
            ["0001-01-01", "1969-12-31T23:59:59.999999", "1999-12-31T23:59:59.999999",
             "2000-01-01", "2024-02-29T12:00:00.000001", "2262-04-11"], tz="UTC",
        ).as_unit("us")
    ),
    "text": np.array(["▁▂█", "▄▄▄"]).astype(object),
    "real[]": ODD_REALS.reshape(5, 2),
}  # fmt: skip


@pytest.fixture
def connection(module_database: str):
    with connect(module_database) as connection:
        yield connection


def load(connection: Any, kind: Kind, values: Any) -> tuple[int, sql.Identifier]:
    """Copy values into a new table with their place."""
    table = sql.Identifier("pg_temp", "loaded")
    connection.execute(
        sql.SQL("CREATE TEMP TABLE loaded (place integer, v {}) ON COMMIT DROP").format(
            sql.SQL(kind)
        )
    )
    columns: dict[str, Any] = {"place": ("integer", np.arange(len(values))), "v": (kind, values)}
    return copy_arrays(connection, table, columns), table


def as_python(kind: str, value: Any) -> Any:
    """Return a value as psycopg's own dumpers take it."""
    if kind == "real[]":
        return value.astype(object).tolist()
    if kind == "real":
        return float(value)
    return value if isinstance(value, str) else int(value)


def test_every_kind_has_values() -> None:
    """A new kind of column is tested here as well."""
    assert set(VALUES) == set(SEND) == set(get_args(Kind))


@pytest.mark.parametrize("kind", [kind for kind in SEND if kind != "timestamptz"])
def test_kind_is_what_psycopg_sends(connection: Any, kind: Kind) -> None:
    """The server's bytes are those that psycopg's dumpers of the same values lead to."""
    values = VALUES[kind]
    given = values
    if kind == "text":
        given = np.array([text.encode() for text in values], dtype="S9")
    assert load(connection, kind, given)[0] == len(values)
    send = sql.SQL(SEND[kind])
    got = connection.execute(sql.SQL("SELECT {}(v) FROM loaded ORDER BY place").format(send))
    theirs = sql.SQL("SELECT {}(%b::{})").format(send, sql.SQL(kind))
    expected = [connection.execute(theirs, (as_python(kind, v),)).fetchone()[0] for v in values]
    assert [row[0] for row in got] == expected


def test_reals_keep_their_bits(connection: Any) -> None:
    """-0.0, NaN, both infinities and the smallest number arrive as the same 32 bits."""
    load(connection, "real", ODD_REALS)
    rows = connection.execute("SELECT float4send(v) FROM loaded ORDER BY place").fetchall()
    assert b"".join(row[0] for row in rows) == ODD_REALS.astype(">f4").tobytes()


def test_instants_round_trip(connection: Any) -> None:
    """Instants before 1970 and before 2000, and microseconds, arrive exactly."""
    texts = ["0001-01-01 00:00:00+00", "1969-12-31 23:59:59.999999+00",
             "1999-12-31 23:59:59.999999+00", "2000-01-01 00:00:00+00",
             "2024-02-29 12:00:00.000001+00", "2262-04-11 00:00:00+00"]  # fmt: skip
    load(connection, "timestamptz", VALUES["timestamptz"])
    rows = connection.execute("SELECT v::text FROM loaded ORDER BY place").fetchall()
    assert [row[0] for row in rows] == texts


def test_instants_count_from_2000() -> None:
    """2000 is 0 whatever the unit and the zone; a single instant gives a single number."""
    assert instants(pd.Timestamp("2000-01-01T00:00:01Z")) == 1_000_000
    assert instants(pd.Timestamp("2000-01-01T13:00:00", tz="Pacific/Auckland")) == 0
    index = pd.DatetimeIndex(["1999-12-31T23:00"], tz="UTC").as_unit("s")
    np.testing.assert_array_equal(instants(index), [-3_600_000_000])


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2), (4, 1), (4, 2, 1, 3)])
def test_arrays_of_any_dimension(connection: Any, shape: tuple[int, ...]) -> None:
    """(R, ...) becomes R arrays whose indices count from 1, last one fastest."""
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    load(connection, "real[]", values)
    rows = connection.execute("SELECT v FROM loaded ORDER BY place").fetchall()
    np.testing.assert_array_equal(np.array([row[0] for row in rows], np.float32), values)
    bounds = connection.execute("SELECT DISTINCT array_dims(v) FROM loaded").fetchall()
    assert bounds == [("".join(f"[1:{n}]" for n in shape[1:]),)]


@pytest.mark.parametrize("shape", [(3, 0), (3, 0, 5), (3, 5, 0)])
def test_empty_arrays(connection: Any, shape: tuple[int, ...]) -> None:
    """No quantiles is an empty array, and equal to one."""
    load(connection, "real[]", np.zeros(shape, np.float32))
    assert connection.execute("SELECT count(*) FROM loaded WHERE v = '{}'").fetchone() == (3,)


@pytest.mark.parametrize("order", ["C", "F", "reversed", "big-endian", "float64", "read-only"])
def test_layout_in_memory_does_not_matter(connection: Any, order: str) -> None:
    """Slices, transposed, foreign and read-only arrays are read as they mean."""
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    given = {
        "C": values,
        "F": np.asfortranarray(values),
        "reversed": values[::-1][::-1],
        "big-endian": values.astype(">f4"),
        "float64": values.astype(np.float64),
        "read-only": np.frombuffer(values.tobytes(), np.float32).reshape(4, 3),
    }[order]
    load(connection, "real[]", given)
    rows = connection.execute("SELECT v FROM loaded ORDER BY place").fetchall()
    assert [row[0] for row in rows] == values.tolist()


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 7, 8, 9])
def test_blocks_join_without_a_seam(
    connection: Any, monkeypatch: pytest.MonkeyPatch, n_rows: int
) -> None:
    """Fewer rows than a block, exactly one, one more, several: nothing is lost or doubled."""
    monkeypatch.setattr(copying, "_BLOCK_BYTES", 4 * 18 + 17)  # four rows of 18 bytes
    assert load(connection, "integer", 10 * np.arange(n_rows))[0] == n_rows
    rows = connection.execute("SELECT place, v FROM loaded ORDER BY place").fetchall()
    assert rows == [(i, 10 * i) for i in range(n_rows)]


def test_a_row_larger_than_a_block(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long horizon goes row by row."""
    monkeypatch.setattr(copying, "_BLOCK_BYTES", 10)
    values = np.arange(300, dtype=np.float32).reshape(3, 100)
    load(connection, "real[]", values)
    rows = connection.execute("SELECT v FROM loaded ORDER BY place").fetchall()
    assert [row[0] for row in rows] == values.tolist()


def test_many_real_blocks(connection: Any) -> None:
    """200,000 rows are several blocks of the usual size; sums of both sides agree."""
    values = np.arange(200_000)
    assert load(connection, "bigint", values)[0] == 200_000
    got = connection.execute("SELECT count(*), sum(v), count(DISTINCT v) FROM loaded").fetchone()
    assert got == (200_000, int(values.sum()), 200_000)


@pytest.mark.parametrize("kind", list(SEND))
def test_zero_rows(connection: Any, kind: Kind) -> None:
    """Nothing to load is no error."""
    values = np.zeros((0, 3), np.float32) if kind == "real[]" else np.array([], dtype="S1")
    if kind not in ("real[]", "text"):
        values = np.array([])
    assert load(connection, kind, values)[0] == 0
    assert connection.execute("SELECT count(*) FROM loaded").fetchone() == (0,)


def test_single_values_stand_for_all_rows(connection: Any) -> None:
    """A constant goes into every row, in later and shorter blocks as well."""
    connection.execute("CREATE TEMP TABLE c (a timestamptz, b smallint, v real, i integer)")
    n_rows = copy_arrays(
        connection,
        sql.Identifier("pg_temp", "c"),
        {
            "a": ("timestamptz", instants(pd.Timestamp("1999-12-31T00:00Z"))),
            "b": ("smallint", -3),
            "v": ("real", np.float32("nan")),
            "i": ("integer", np.arange(100_000)),
        },
    )
    assert n_rows == 100_000
    query = "SELECT count(*), count(DISTINCT (a, b, v)), min(a)::text, min(b), min(v) FROM c"
    row = connection.execute(query).fetchone()
    assert row[:4] == (100_000, 1, "1999-12-31 00:00:00+00", -3)
    assert np.isnan(row[4])


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("smallint", [0, 32768]),
        ("smallint", [-32769, 0]),
        ("integer", [2**31]),
        ("integer", [1.0, 2.0]),
        ("bigint", [np.nan]),
        ("timestamptz", [0.5]),
        ("integer", np.array([2**63], np.uint64)),
    ],
)
def test_what_would_wrap_around_is_refused(connection: Any, kind: Kind, values: Any) -> None:
    """NumPy would cut such numbers silently; the message names the column."""
    with pytest.raises(InputError, match=f"'v' has values that are no {kind}"):
        load(connection, kind, values)


def test_columns_of_different_lengths_are_refused(connection: Any) -> None:
    """A column of one value is no constant by accident."""
    columns: Any = {"a": ("integer", [1, 2, 3]), "b": ("integer", [1])}
    with pytest.raises(InputError, match=r"different lengths: \{'a': 3, 'b': 1\}"):
        copy_arrays(connection, sql.Identifier("pg_temp", "c"), columns)
    with pytest.raises(InputError, match="holds arrays"):
        copy_arrays(connection, sql.Identifier("pg_temp", "c"), {"a": ("real[]", [1.0])})


def test_an_error_in_the_middle_leaves_nothing(module_database: str) -> None:
    """A COPY that the server refuses half-way takes its rows with it."""
    with connect(module_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.checked (v integer CHECK (v < 99000))")
        table = sql.Identifier("public", "checked")
        with pytest.raises(psycopg.errors.CheckViolation):
            copy_arrays(connection, table, {"v": ("integer", np.arange(100_000))})
        assert connection.execute("SELECT count(*) FROM public.checked").fetchone() == (0,)


def test_records_of_any_length(connection: Any) -> None:
    """Text with quotes, tabs, NULLs and emoji, JSON and bytes arrive as they are."""
    connection.execute("CREATE TEMP TABLE r (a text, b jsonb, c bytea, d float8[]) ON COMMIT DROP")
    rows = [
        ('it\'s "q"\t\\N\n%s {}', '{"a": ["\\u2581", null]}', b"\x00\xff", [1.5, None]),
        (None, None, None, None),
        ("", "{}", b"", []),
        ("🚗" * 5000, "1e400", b"x" * 100_000, [float("nan")]),
    ]
    types = {"a": "text", "b": "jsonb", "c": "bytea", "d": "float8[]"}
    jsonb = psycopg.types.json.Jsonb
    given = ((a, None if b is None else jsonb(b, dumps=str), c, d) for a, b, c, d in rows)
    copy_records(connection, sql.Identifier("pg_temp", "r"), types, given)
    got = connection.execute("SELECT a, b, c, d FROM r").fetchall()
    assert [row[0] for row in got] == [row[0] for row in rows]
    assert [row[2] for row in got] == [row[2] for row in rows]
    assert got[0][1] == {"a": ["▁", None]}
    assert got[0][3] == [1.5, None]
    assert got[2][3] == []
    assert np.isnan(got[3][3][0])


def test_hostile_column_and_table_names(connection: Any) -> None:
    """Names are quoted, not pasted."""
    name = 'a"; DROP TABLE x; -- %s {} \\ ü'
    connection.execute(
        sql.SQL("CREATE TEMP TABLE {} ({} integer)").format(
            sql.Identifier(name), sql.Identifier(name)
        )
    )
    table = sql.Identifier("pg_temp", name)
    assert copy_arrays(connection, table, {name: ("integer", [7])}) == 1
    assert connection.execute(sql.SQL("SELECT * FROM {}").format(table)).fetchall() == [(7,)]
